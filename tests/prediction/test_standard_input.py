"""A stream of bytes: JSON lines and .npy arrays, in any order."""

import io
from fractions import Fraction

import numpy as np
import pytest

from prediction.many_recordings import EndMarker, FrameRate, RecordingMarker
from prediction.standard_input import read_items
from prediction.trackers import ActionMarker
from utils.errors import UserError


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def refuse(error):
    raise error


def read(*parts, ndim=2, on_bad_line=refuse):
    return list(read_items(io.BufferedReader(io.BytesIO(b''.join(parts))), ndim, on_bad_line))


def test_lines_and_arrays_follow_each_other():
    recording = np.arange(6, dtype=np.float32).reshape(2, 3)
    items = read(b'{"action": "pour"}\n[1, 2.5, -3e2]\n\n  \r\n', npy(recording), b'{"action": false, "ended": "x"}\n',
                 npy(recording[1].astype(np.float16)), b'[4, 5, 6]')
    assert items[0] == ActionMarker('pour') and items[4] == ActionMarker(None, False, 'x')
    frames = [item for item in items if isinstance(item, np.ndarray)]
    np.testing.assert_array_equal(frames, [[1, 2.5, -300], [0, 1, 2], [3, 4, 5], [3, 4, 5], [4, 5, 6]])


def test_markers():
    assert read(b'{"action": true}\n{"action": true, "ended": "a"}\n{"action": false}\n{"action": "0"}\n') == [
        ActionMarker(), ActionMarker(ended='a'), ActionMarker(begins=False), ActionMarker('0')]


def test_recordings_and_frame_rates():
    assert read(b'{"recording": "a"}\n{"recording": "7", "task": "tea"}\n{"end": "a"}\n') == [
        RecordingMarker('a'), RecordingMarker('7', 'tea'), EndMarker('a')]
    assert read(b'{"fps": 10}\n{"fps": 2.5}\n{"fps": "30000/1001"}\n') == [
        FrameRate(10), FrameRate(Fraction(5, 2)), FrameRate(Fraction(30000, 1001))]


def test_reading_goes_on_after_a_bad_line_if_it_may():
    errors = []
    assert read(b'{"fps": 0}\nnonsense\n{"end": "a"}\n{"end"\n', on_bad_line=errors.append) == [EndMarker('a')]
    assert [str(error).split(':')[1] for error in errors] == [' line 1', ' line 2', ' line 4']


def test_frames_of_pictures_come_from_arrays_and_nested_lists():
    frame = np.arange(8.0).reshape(2, 2, 2)
    items = read(npy(np.stack([frame, frame])), npy(frame), b'[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]\n', ndim=4)
    np.testing.assert_array_equal(items, [frame] * 4)


def test_each_item_is_there_before_the_next_one_is_read():
    class Source(io.RawIOBase):
        """Hands out one part at a time, as a pipe does."""

        def __init__(self):
            array = npy(np.ones((2, 3)))
            self.parts, self.given = [b'[1, 2, 3]\n', array[:-24], array[-24:], b'[1]\n'], 0

        def readable(self):
            return True

        def readinto(self, buffer):
            part = self.parts[self.given] if self.given < len(self.parts) else b''
            self.given += 1
            buffer[:len(part)] = part
            return len(part)

    source = Source()
    items, given = read_items(io.BufferedReader(source), 2, refuse), []
    for _ in range(4):
        next(items)
        given.append(source.given)
    assert given == [1, 2, 3, 4]


@pytest.mark.parametrize(('content', 'expected'), [
    (b'[1, 2]\n[1, 2\n', 'line 2: not valid JSON'), (b'\n"text"\n', 'line 2: text, expected a frame'),
    (b'[1, [2]]\n', 'line 1: lists of unequal length'), (b'["1"]\n', 'expected a frame as a list of numbers'),
    (b'[true]\n', 'expected a frame'), (b'[null]\n', 'expected a frame'), (b'5\n', 'line 1: 5, expected'),
    (b'{"acton": true}\n', 'line 1: {"acton": true}, expected a frame'), (b'{}', 'expected'),
    (b'{"action": 3}', 'or one of {"action"'), (b'{"action": true, "ended": 4}', 'or one of {"action"'),
    (b'{"recording": 3}', 'line 1: {"recording": 3}, expected'), (b'{"recording": "a", "fps": 3}', 'expected a frame'),
    (b'{"end": true}', 'expected'), (b'{"fps": true}', 'expected'), (b'{"fps": NaN}', 'line 1: {"fps": NaN}, expected'),
    (b'{"fps": -1}', 'expected'), (b'{"recording": "\\ud800"}', 'contains an unpaired surrogate'),
    (b'\xff\xfe', 'line 1: not valid JSON'), ('[1]\n'.encode('utf-16'), 'line 1: not valid JSON'),
    (b'{"action": true, "action": false}', "'action' stands twice"), (bytes(4) + b'ftypisom', 'line 1: is a video, '),
    (b'PK\x03\x04', 'line 1: is a .npz archive'), (b'[' * 100000, 'line 1: not valid JSON'),
    (npy(np.ones((3, 4)))[:-8], 'item 1: frame 2 of 3 is cut off after 24 bytes, expected 32'),
    (npy(np.ones((3, 4)))[:40], 'item 1: its header cannot be read as .npy'),
    (b'\x93nonsense', 'header cannot be read'),
    (npy(np.ones(3)).replace(b'(3,)', b'(3,]'), 'header cannot be read'),
    (npy(np.ones(3)).replace(b'(3,)', b'-3,)'), 'header cannot be read'),
    (npy(np.ones((3, 4))).replace(b'(3, 4)', b'(3,-4)'), 'its header says (3, -4)'),
    (b'{"action": "boil\\ud800"}', 'contains an unpaired surrogate'),
    (npy(np.ones((3, 4), int)), 'item 1: int64, expected float16'),
    (npy(np.asfortranarray(np.ones((3, 4)))), 'item 1: float64 in Fortran order'),
    (npy(np.ones(3, '>f4')), 'byte order of this machine')])
def test_anything_else_is_refused_with_its_place(content, expected):
    with pytest.raises(UserError) as caught:
        read(content)
    assert str(caught.value).startswith('standard input: ') and expected in str(caught.value)
