"""Times that are played next to the reference, and the video of them."""

from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from alignment.labels import CarriedLabels
from alignment.matching import UNMATCHED, FrameMatches
from alignment.output import Alignment
from alignment.played import played_times
from alignment.recordings import AlignedRecording
from alignment.side_by_side import NARROWEST, arrange, write_side_by_side
from recordings.video import VideoReader
from tests.video_files import gray_of, write_video
from utils.errors import UserError

needs_av = pytest.mark.skipif(not find_spec('av'), reason='needs requirements-video.txt')


def aligned(name, frames, source=None, fps=2):
    return AlignedRecording(name, source, torch.zeros(len(frames), 1), frames, frames[-1] + 1, Fraction(fps))


def test_time_runs_evenly_between_partners_and_waits_before_a_jump():
    reference, recording = aligned('a', range(5)), aligned('b', range(0, 60, 2), fps=4)
    partners = [0, 2, 20, UNMATCHED, 3]
    times = [Fraction(quarter, 4) for quarter in range(10)]
    # A used frame of b lasts half a second: 0 to 2 is one second of b in half a second of a. 2 to 20 is a jump.
    assert played_times(reference, recording, partners, times) == [0, Fraction(1, 2), 1, 1, 10, 10, None, None,
                                                                   Fraction(3, 2), Fraction(3, 2)]


@pytest.mark.parametrize(('count', 'shape'), [
    (1, (10, 8)), (2, (10, 14)), (3, (10, 22)), (4, (20, 14)), (7, (30, 22))])
def test_tiles_form_a_row_or_a_square_of_even_size(count, shape):
    tiles = [np.full((10, 7, 3), 30 * number, np.uint8) for number in range(count)]
    picture = arrange(tiles)
    assert picture.shape == (*shape, 3)
    columns = shape[1] // 7
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        assert (picture[10 * row:10 * row + 10, 7 * column:7 * column + 7] == tile[0, 0]).all()


@needs_av
def test_pictures_are_those_of_the_matched_times_and_dark_without_a_match(tmp_path):
    # Picture n has the gray value 8 n. The recording shows what the reference does, two seconds later and reversed.
    reference = aligned('a', range(4), write_video(tmp_path / 'a.mp4', 8, rate=4, size=(48, 64)))
    recording = aligned('b', range(8), write_video(tmp_path / 'b.mkv', 16, rate=4, size=(96, 64)))
    frames = np.array([UNMATCHED, UNMATCHED, UNMATCHED, UNMATCHED, 2, 1, 0, UNMATCHED])
    labels = ['cut', 'stir', None, None]
    alignment = Alignment(recording, FrameMatches(frames, np.ones(8), None, 0.0), CarriedLabels([None] * 8, np.ones(8)))
    write_side_by_side(tmp_path / 'c.mp4', reference, labels, [alignment])
    with VideoReader(tmp_path / 'c.mp4') as reader:
        decoded = [(start, frame.to_ndarray(format='rgb24')) for start, _, frame in reader.decoded()]
    assert [float(start) for start, _ in decoded] == pytest.approx([number / 4 for number in range(8)], abs=1e-3)
    image = decoded[0][1]
    assert image.shape[1] == 2 * max(480, NARROWEST)  # the reference is 480 wide at a height of 360
    centers = [[int(image[180, column, 0]) for column in (240, 720)] for _, image in decoded]
    assert [left for left, _ in centers] == pytest.approx([gray_of(number) for number in range(8)], abs=4)
    # Frame 0 to 2 of the reference match frames 6, 5, 4, at 3, 2.5 and 2 seconds: pictures 12, 10 and 8. Frame 3 has
    # no frame matched to it, but one next to it.
    assert [right for _, right in centers] == pytest.approx(np.repeat([gray_of(12), gray_of(10), gray_of(8),
                                                                       gray_of(8)], 2), abs=4)
    none = Alignment(recording, FrameMatches(np.full(8, UNMATCHED), np.ones(8), None, 0.0), None)
    write_side_by_side(tmp_path / 'd.mkv', reference, None, [none])
    with VideoReader(tmp_path / 'd.mkv') as reader:
        dark = [frame.to_ndarray(format='rgb24') for _, _, frame in reader.decoded()]
    assert all(image[180, 720].max() < 8 for image in dark) and (dark[0][370:] > 200).any()


@needs_av
def test_a_name_that_is_not_one_of_a_video_ends_in_one_line(tmp_path):
    reference = aligned('a', range(4), write_video(tmp_path / 'a.mp4', 8, rate=4))
    with pytest.raises(UserError, match=r'c.xyz: cannot be written as a video'):
        write_side_by_side(tmp_path / 'c.xyz', reference, None, [])
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4']
