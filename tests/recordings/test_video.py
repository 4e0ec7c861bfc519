"""Videos of every kind are sampled at the right times; broken videos are refused in one line."""

import os
import sys
import threading
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from recordings import video
from recordings.video import VideoReader
from tests.video_files import cut, write_audio, write_video
from tools import extract
from utils.errors import UserError
from utils.memory import process_memory

ROOT = Path(__file__).resolve().parents[2]
needs_av = pytest.mark.skipif(not find_spec('av'), reason='needs requirements-video.txt')


def sample(path, fps=10, image_size=16):
    with VideoReader(path) as reader:
        return list(reader.sample(fps, image_size))


def numbers(frames):
    """Return the indices of the source frames, from their gray values."""
    return [round(frame.image[8:].mean() / 8) for frame in frames]


@needs_av
@pytest.mark.parametrize(('fps', 'expected'), [
    (10, range(20)), (5, range(1, 20, 2)), (2, [2, 7, 12, 17]), (Fraction(10, 3), [1, 4, 7, 10, 13, 16, 19]),
    (20, [number for number in range(20) for _ in range(2)]), (0.1, [19])])
def test_frames_are_those_shown_at_the_centers_of_the_intervals(tmp_path, fps, expected):
    frames = sample(write_video(tmp_path / 'a.mp4'), fps)
    assert numbers(frames) == list(expected)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [frame.time for frame in frames] == pytest.approx([index / fps for index in range(len(frames))])
    assert all(frame.image.shape == (16, 16, 3) and frame.image.dtype == np.uint8 for frame in frames)


@needs_av
@pytest.mark.parametrize('rate', [24, 25, 30, 60])
@pytest.mark.parametrize('ending', ['mkv', 'mp4'])
def test_the_rate_of_the_video_itself_gives_each_frame_once(tmp_path, rate, ending):
    path = write_video(tmp_path / f'a.{ending}', rate=rate)
    assert numbers(sample(path, rate)) == list(range(20))
    assert numbers(sample(path, Fraction(rate, 2))) == list(range(1, 20, 2)) or ending == 'mkv'


@needs_av
def test_a_variable_rate_is_sampled_by_time_and_not_by_number(tmp_path):
    # Frames 0-9 at 10 per second, then one that stays for 2 seconds, then the others at 20 per second.
    times = [100 * number for number in range(11)] + [3000 + 50 * number for number in range(9)]
    found = numbers(sample(write_video(tmp_path / 'a.mkv', times=times), 10))
    assert found[:10] == list(range(10)) and found[10:30] == [10] * 20 and found[30:] == [12, 14, 16, 18, 19]


@needs_av
@pytest.mark.parametrize('settings', [
    {'pixel_format': 'yuv420p10le'}, {'pixel_format': 'gray', 'codec': 'ffv1', 'ending': 'mkv'},
    {'pixel_format': 'yuv444p', 'size': (31, 47)},
    {'codec': 'mpeg4', 'ending': 'avi'}, {'ending': 'ts'}, {'ending': 'mkv'}, {'ending': 'h264'},
    {'ending': 'mp4', 'options': {'movflags': 'frag_keyframe+empty_moov'}}])
def test_pixel_formats_odd_sizes_containers_and_missing_time_stamps(tmp_path, settings):
    ending = settings.pop('ending', 'mp4')
    assert numbers(sample(write_video(tmp_path / f'a.{ending}', **settings))) == list(range(20))


@needs_av
def test_a_single_frame_and_a_4k_video(tmp_path):
    assert numbers(sample(write_video(tmp_path / 'one.mp4', 1, rate=30), 4)) == [0]
    large = write_video(tmp_path / 'large.mp4', 2, size=(2160, 3840), options={'preset': 'ultrafast'})
    assert numbers(sample(large)) == [0, 1]
    with VideoReader(large) as reader:
        assert next(reader.sample(1)).image.shape == (2160, 3840, 3)


@needs_av
@pytest.mark.parametrize(('rotation', 'place'), [(0, (0, 0)), (90, (1, 0)), (-90, (0, 1)), (180, (1, 1))])
def test_pictures_of_a_turned_camera_are_upright(tmp_path, rotation, place):
    path = write_video(tmp_path / 'a.mp4', 3, rotation=rotation, corner=(255, 0, 0), size=(32, 64))
    if rotation == -90:  # portrait of a phone: right becomes down, in QuickTime's matrix (0, 1; -1, 0)
        header = path.read_bytes()
        matrix = header[header.index(b'tkhd') + 44:]
        assert [int.from_bytes(matrix[at:at + 4], 'big', signed=True) >> 16 for at in (0, 4, 12, 16)] == [0, 1, -1, 0]
    with VideoReader(path) as reader:
        image = next(reader.sample(10)).image
    assert image.shape == ((32, 64, 3) if rotation % 180 == 0 else (64, 32, 3))
    red = image[..., 0].astype(int) - image[..., 2] > 100
    halves = [red.mean(axis=1 - axis) > 0.25 for axis in (0, 1)]
    assert tuple(int(not half[:len(half) // 2].mean() > 0.5) for half in halves) == place


@needs_av
@pytest.mark.parametrize(('make', 'message'), [
    (lambda folder: cut(write_video(folder / 'x.mp4')), 'cannot be read as a video'),
    (lambda folder: cut(write_video(folder / 'x.mp4', options={'movflags': 'faststart'}), 0.9), 'x.mp4: '),
    (lambda folder: cut(write_video(folder / 'x.mkv'), 0.8), 'of 2.0 seconds; it is cut off'),
    (lambda folder: cut(write_video(folder / 'x.avi', codec='mpeg4')), 'x.avi: '),
    (lambda folder: write_audio(folder / 'x.mp4'), r'contains no video stream \(only audio\)'),
    (lambda folder: (folder / 'x.mp4').touch(), r'is empty \(0 bytes\)'),
    (lambda folder: (folder / 'x.mp4').write_text('text ' * 100), 'cannot be read as a video'),
    (lambda folder: (folder / 'x.txt').write_text('text ' * 100), 'is a text file'),
    (lambda folder: None, 'no such file'),
    (lambda folder: (folder / 'x.mp4').mkdir(), 'cannot be read as a video')])
def test_invalid_or_truncated_video_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path)
    path = next(tmp_path.iterdir(), tmp_path / 'x.mp4')
    with pytest.raises(UserError, match=message) as error:
        sample(path)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


@needs_av
def test_a_playlist_does_not_make_ffmpeg_open_other_files(tmp_path):
    write_video(tmp_path / 'other.ts')
    playlist = tmp_path / 'x.m3u8'
    playlist.write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/{tmp_path}/other.ts\n')
    with pytest.raises(UserError, match='x.m3u8: is a playlist'):
        sample(playlist)


@needs_av
def test_a_pipe_gives_the_frames_of_the_file(tmp_path):
    path = write_video(tmp_path / 'a.mkv')
    into, out = os.pipe()[::-1]
    with os.fdopen(into, 'wb') as sink:
        feeding = threading.Thread(target=lambda: (sink.write(path.read_bytes()), sink.close()))
        feeding.start()
        with VideoReader(f'pipe:{out}') as reader:
            live = list(reader.sample(4, 16))
        feeding.join()
    os.close(out)
    assert all(np.array_equal(one.image, other.image) for one, other in zip(live, sample(path, 4), strict=True))


class _Frame:
    """Decoded frame with the attributes that the clock reads."""

    time_base = Fraction(1, 10)

    def __init__(self, pts, duration=1):
        self.pts, self.duration = pts, duration


@pytest.mark.parametrize(('stamps', 'expected', 'jumps'), [
    ([5, 6, 7], [0, 1, 2], 0), ([None, None, None], [0, 1, 2], 0), ([0, 1, 1, 3], [0, 1, 1, 3], 0),
    ([0, 1, 95 * 36000, 95 * 36000 + 1], [0, 1, 2, 3], 1), ([500, 501, 0, 1], [0, 1, 2, 3], 1),
    ([0, 30, 31], [0, 30, 31], 0)])
def test_time_never_runs_backward_and_broken_stamps_leave_no_gap(stamps, expected, jumps):
    clock = video._Clock(Fraction(1, 10))
    assert [clock.place(_Frame(stamp))[0] * 10 for stamp in stamps] == expected
    assert clock.jumps == jumps


@needs_av
def test_memory_does_not_grow_with_the_length(tmp_path):
    path = write_video(tmp_path / 'a.avi', 1500, rate=30, codec='mpeg4', size=(96, 128))
    with VideoReader(path) as reader:
        for frame in reader.sample(30, 224):
            if frame.index == 300:
                before = process_memory('VmRSS')
    assert frame.index == 1499 and process_memory('VmRSS') - before < 20 * 2**20  # all frames are 226 MB


def test_without_the_package_one_line_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'av', None)
    assert extract.main(['.', 'x']) == 2
    error = capsys.readouterr().err
    assert 'pip install -r requirements-video.txt' in error and error.count('\n') == 1
