"""Recordings and datasets: frames that are kept, checks of values, lazy reading."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recordings.batches import make_train_loaders, read_ahead
from recordings.json_dataset import RecordingDataset, load_recordings
from recordings.kept_frames import SelectedFrames
from tests.recordings.recording_files import WIDTH, make_recordings
from utils.errors import UserError


@pytest.fixture
def dataset_files(tmp_path):
    """Write an annotation file and features, and return them; segments are half-open and start at 1."""
    def write(ends_by_task, length=40, frames=False):
        content, draw = {}, np.random.default_rng(0)
        for task, all_ends in ends_by_task.items():
            names = [f'{task}-{index}' for index in range(len(all_ends))]
            content[task] = {
                'handles': names, 'hdl_actions': [[f's{i}' for i in range(len(ends))] for ends in all_ends],
                'hdl_start_times': [[1, *ends[:-1]] for ends in all_ends], 'hdl_end_times': all_ends}
            for name in names:
                np.save(tmp_path / f'{name}.npy', draw.normal(size=(length, 4, 2, 2) if frames else (length, 4)))
        (tmp_path / 'set.json').write_text(json.dumps(content))
        return tmp_path / 'set.json', tmp_path
    return write


@pytest.mark.parametrize('skip_rate', [1, 2, 3, 7, 50])
def test_times_follow_the_frames_that_are_kept(dataset_files, skip_rate):
    ends = [4, 5, 7, 16, 17, 29, 40]
    options = {'time_scale': 1, 'background_labels': ['0'], 'skip_rate': skip_rate}
    recording, = load_recordings(*dataset_files({'tea': [ends]}), **options)['tea']
    labels = [None, *(f's{i}' for i, (start, end) in enumerate(zip([1, *ends], ends, strict=False))
                      for _ in range(start, end))]
    kept = labels[::skip_rate]
    features = RecordingDataset([recording], skip_rate=skip_rate)[0][0]
    np.testing.assert_allclose(features, np.load(recording.path)[::skip_rate], rtol=1e-6)
    assert recording.num_frames == len(features) == len(kept)
    from_segments = [None] * len(kept)
    for step, start, end in recording.segments:
        assert start <= end
        from_segments[start:end + 1] = [step] * (end - start + 1)
    assert from_segments == kept


def test_load_recordings_keeps_order_tasks_and_shapes(dataset_files):
    files = dataset_files({'Pie.cmu': [[40], [20, 40]], 'Tea.egtea': [[40]]})
    recordings = load_recordings(*files, background_labels=['0'], task_suffix='.cmu')
    assert [(task, [recording.handle for recording in members]) for task, members in recordings.items()] == [
        ('Pie.cmu', ['Pie.cmu-0', 'Pie.cmu-1'])]
    assert {(recording.num_frames, recording.width) for recording in recordings['Pie.cmu']} == {(40, 4)}
    with pytest.raises(UserError, match="no task ends with '.coin'"):
        load_recordings(*files, background_labels=['0'], task_suffix='.coin')


@pytest.mark.parametrize('frames', [False, True])
def test_nan_is_found_up_front_or_on_first_read(dataset_files, frames):
    annotations, folder = dataset_files({'tea': [[40], [40]]}, frames=frames)
    values = np.load(folder / 'tea-1.npy')
    values[11] = np.nan
    np.save(folder / 'tea-1.npy', values)
    options = {'background_labels': ['0'], 'frames': frames}
    with pytest.raises(UserError, match='frame 11 holds NaN') as at_start:
        load_recordings(annotations, folder, **options)
    members = load_recordings(annotations, folder, values_limit_gb=0, **options)['tea']
    dataset = RecordingDataset(members, frames=frames, values_checked=False)
    assert len(dataset[0][0]) == 40
    for _ in range(2):
        with pytest.raises(UserError) as when_read:
            dataset[1]
        assert str(when_read.value) == str(at_start.value)


@pytest.mark.parametrize('skip_rate', [1, 3])
def test_frames_stay_in_their_files(tmp_path, skip_rate):
    recordings = [replace(recording, num_frames=-(-recording.num_frames // skip_rate))
                  for recording in make_recordings(tmp_path, 'tea', 2, frames=True)]
    loader = make_train_loaders({'tea': recordings}, 2, seed=0, frames=True, skip_rate=skip_rate)['tea']
    batch, = read_ahead(loader)
    for video, times in zip(batch.videos, batch.times, strict=True):
        assert isinstance(video, SelectedFrames) and video.dtype == np.float16
        assert video.shape == (-(-(times['end_frame'][0] + 1) // skip_rate), WIDTH, 2, 2)


@pytest.mark.parametrize('lazy', [True, False])
def test_lazy_datasets_read_each_time_and_others_once(tmp_path, monkeypatch, lazy):
    from recordings import json_dataset
    reads = []
    original = json_dataset.open_recording
    monkeypatch.setattr(json_dataset, 'open_recording', lambda *file: reads.append(file) or original(*file))
    dataset = RecordingDataset(make_recordings(tmp_path, 'tea', 2), lazy=lazy)
    first, second = ([dataset[index][0] for index in (0, 1)] for _ in range(2))
    assert len(reads) == (4 if lazy else 2)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
