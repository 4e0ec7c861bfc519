"""Used frames and the annotations converted to them, compared with values computed by hand."""

import numpy as np
import pytest
import torch

from models.encoders import Resnet50Encoder
from recordings.json_dataset import Recording, RecordingDataset
from recordings.kept_frames import SelectedFrames, follow_frames, kept_frames


@pytest.mark.parametrize(('num_frames', 'skip_rate', 'max_frames', 'expected'), [
    (10, 1, 4, [0, 2, 5, 7]), (10, 1, 10, list(range(10))), (10, 1, None, list(range(10))), (10, 3, None, [0, 3, 6, 9]),
    (10, 3, 2, [0, 6]), (9, 1, 3, [0, 3, 6]), (11, 2, 4, [0, 2, 6, 8]), (3, 1, 100, [0, 1, 2]), (1, 1, 2, [0])])
def test_kept_frames_are_evenly_spaced(num_frames, skip_rate, max_frames, expected):
    assert list(kept_frames(num_frames, skip_rate, max_frames)) == expected


def test_segments_follow_the_frames():
    segments = [('a', 0, 1), ('b', 2, 4), ('c', 5, 6), ('d', 8, 9)]
    # Frames 0, 2, 5, 7 are used: a contains 0, b contains 2, c contains 5, d contains no used frame, 7 is in no action.
    assert follow_frames(segments, [0, 2, 5, 7]) == [('a', 0, 0), ('b', 1, 1), ('c', 2, 2)]
    assert follow_frames([('a', 0, 9)], [0, 2, 5, 7]) == [('a', 0, 3)]
    assert follow_frames([('a', 1, 1), ('b', 3, 7)], [0, 2, 5, 7]) == [('b', 2, 3)]


@pytest.mark.parametrize(('num_frames', 'max_frames'), [(57, 20), (100, 99), (40, 7), (41, 2)])
def test_every_used_frame_keeps_its_label(num_frames, max_frames):
    bounds = [0, 3, 4, 9, 21, num_frames]
    segments = [(str(index), start, bounds[index + 1] - 1) for index, start in enumerate(bounds[:-1])]
    labels = [label for label, start, end in segments for _ in range(start, end + 1)]
    frames = kept_frames(num_frames, 1, max_frames)
    found = [label for label, start, end in follow_frames(segments, frames) for _ in range(start, end + 1)]
    assert found == [labels[frame] for frame in frames] and len(frames) == max_frames


def test_skip_rate_converts_segments_the_same_way():
    segments = [('a', 0, 1), ('b', 2, 4), ('c', 5, 5), ('d', 6, 11)]
    assert follow_frames(segments, kept_frames(12, 3)) == [('a', 0, 0), ('b', 1, 1), ('d', 2, 3)]
    assert follow_frames([], kept_frames(12, 3)) == []


@pytest.fixture
def written(tmp_path):
    """Write features and frames of 10 frames each; all values of a frame are its index."""
    for name, shape in (('features', (10, 2)), ('frames', (10, 3, 2, 2))):
        np.save(tmp_path / f'{name}.npy', np.arange(10, dtype=np.float32).reshape(10, *[1] * (len(shape) - 1))
                * np.ones(shape, np.float32))
    return {name: Recording('tea', name, tmp_path / f'{name}.npy', 4, width, (), ()) for name, width in
            (('features', 2), ('frames', 3))}


def test_features_are_those_of_the_used_frames(written):
    features, _, _ = RecordingDataset([written['features']], max_frames=4)[0]
    assert features.dtype == torch.float32 and features.tolist() == [[frame, frame] for frame in (0, 2, 5, 7)]


def test_frames_are_selected_without_being_read(written):
    frames, _, _ = RecordingDataset([written['frames']], frames=True, max_frames=4)[0]
    assert isinstance(frames, SelectedFrames) and (len(frames), frames.shape, frames.ndim) == (4, (4, 3, 2, 2), 4)
    assert frames[1:3][:, 0, 0, 0].tolist() == [2, 5]
    encoder = Resnet50Encoder(2, in_size=3, output_dimensions=4, chunk_frames=3)
    whole = torch.from_numpy(np.load(written['frames'].path)[[0, 2, 5, 7]])
    torch.testing.assert_close(encoder([frames])['outputs'][0], encoder([whole])['outputs'][0])
