"""Videos: rows of their features, the overlay, subtitles, live sources, and what is refused."""

import json
import os
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import predict as predict_command
from prediction import FrameProgress, load_run
from prediction.captions import caption, write_subtitles
from prediction.overlay import MIN_WIDTH, Panel, write_overlay
from prediction.video import LiveDelay
from recordings.feature_info import FeatureInfo, read_feature_info, write_feature_info
from recordings.video import VideoReader
from tests.launch import run_program
from tests.prediction.comparison import assert_equal_rows, read_rows
from tests.video_files import write_video
from tools import extract
from utils.errors import UserError

needs_av = pytest.mark.skipif(not find_spec('av'), reason='needs requirements-video.txt')
needs_weights = pytest.mark.skipif(not (find_spec('av') and find_spec('efficientnet_lite_pytorch')),
                                   reason='needs requirements-video.txt')
FULL = FrameProgress(4, 1.0, 'pour the water', 0.87, 0.4, 0.3, 0.6, 12.4, 0.25, 0.2, 0.4, 130.0, 'stir', False)
INFO = FeatureInfo('efficientnet_lite0', 'sha256:other', Fraction(5), 224, 'features', (1280,))


@pytest.fixture
def video_run(filter_head, make_run, save_run, tmp_path, monkeypatch):
    """A run on features of a video, in the working directory with the video and its features."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DATASET_PATH', 'data')
    write_video('clip.mp4', 20, rate=10)
    assert extract.main(['clip.mp4', 'set', '--fps', '5', '--device', 'cpu', '--workers', '0']) == 0
    folder = save_run(make_run('--naive', width=1280), tmp_path / 'V1')
    write_feature_info(folder, read_feature_info(Path('data/set/features')))
    return folder


def call(folder, *arguments):
    return predict_command.main(['-f', str(folder), '--device', 'cpu', '--task', 'tea', *arguments])


@needs_weights
def test_a_video_gives_the_rows_of_its_features_and_a_pipe_too(video_run, capsys, monkeypatch):
    leftover = Path(f'.seen.{os.getpid()}-0123abcd.partial.mp4')  # as if an earlier command had been killed
    leftover.write_text('half')
    assert call(video_run, '--video', 'clip.mp4', '--overlay', 'seen.mp4', '--srt', 'clip.srt', '-o', 'video') == 0
    assert not leftover.exists()
    assert call(video_run, '--video', 'clip.mp4', '--overlay', 'seen.txt', '-o', 'none') == 2
    assert 'seen.txt: cannot be written as a video' in capsys.readouterr().err
    assert not Path('none').exists()  # found before the video is read
    assert call(video_run, '--features', 'data/set/features/clip.npy', '-o', 'features') == 0
    rows = [read_rows(Path(folder, 'clip.csv').read_text()) for folder in ('video', 'features')]
    assert_equal_rows(*rows)
    assert [row['time_s'] for row in rows[0]] == [number / 5 for number in range(10)]
    assert json.loads(Path('video/clip.json').read_text())['fps'] == 5
    with VideoReader('seen.mp4') as seen, VideoReader('clip.mp4') as original:
        frames, times = list(seen.decoded()), [start for start, _, _ in original.decoded()]
        assert [float(start) for start, _, _ in frames] == pytest.approx(list(map(float, times)), abs=1e-3)
        assert frames[0][2].width == MIN_WIDTH
    subtitles = Path('clip.srt').read_text()
    assert subtitles.startswith('1\n00:00:00,000 --> 00:00:00,200\n') and subtitles.count(' --> ') == 10
    capsys.readouterr()
    command = ['-f', str(video_run), '--device', 'cpu', '--task', 'tea', '--video', '-', '--format', 'jsonl']
    # A process of its own, because FFmpeg reads the descriptor; the head of the tests has to be put in there, too.
    code = ('import sys; from dataclasses import replace; from configs.choices import HEADS; import predict; '
            'HEADS["gru"] = replace(HEADS["gru"], cls="tests.prediction.filter_head:FilterHead"); '
            f'sys.exit(predict.main({command!r}))')
    write_video('clip.mkv', 20, rate=10)
    root = Path(predict_command.__file__).parent
    piped = run_program('-c', code, cwd=Path.cwd(), stdin='clip.mkv', PATH='', PYTHONPATH=str(root))
    assert piped.returncode == 0, piped.stderr
    live = read_rows(piped.stdout, 'jsonl')
    assert 'ms after its picture on average' in piped.stderr
    # Matroska and MP4 hold the same pictures, coded with other headers.
    assert_equal_rows(live, rows[0])


def test_the_delay_of_a_live_source_is_logged_and_a_late_one_is_worth_a_warning(caplog):
    delay = LiveDelay('cam')
    # Pictures every 0.5 s that take 1 s each: every picture is 0.5 s later than the one before.
    for number in range(6):
        delay.add(0.5 * number, 7 + number, 8 + number)
        assert delay.late == pytest.approx(0.5 * number)
        assert len(caplog.records) == (number >= 4)
    assert 'cam: pictures are 2 s late' in caplog.text and '(1000 ms each)' in caplog.text
    fast = LiveDelay('pipe')
    for number in range(3):
        fast.add(0.5 * number, 0.1 * number, 0.1 * number + 0.02 * (number + 1))
    assert fast.late == 0
    with caplog.at_level('INFO'):
        fast.log(3)
    assert 'pipe: 3 frames; a row came 40 ms after its picture on average, 60 ms at most, and 3 frames' in caplog.text


@needs_weights
def test_a_run_on_other_features_is_refused(video_run, capsys):
    for change, message in ((None, 'has no features.json, which describes how its features were made'),
                            ({'version': 'sha256:other'}, 'was trained on features of sha256:other'),
                            ({'kind': 'frames'}, 'reads features, but its features.json describes frames')):
        info = read_feature_info(Path('data/set/features'))
        (video_run / 'features.json').unlink()
        if change:
            write_feature_info(video_run, replace(info, **change))
        else:
            assert load_run(video_run, device='cpu').feature_info is None
        assert call(video_run, '--video', 'clip.mp4') == 2
        assert message in capsys.readouterr().err
        write_feature_info(video_run, info)
    assert not Path('predictions').exists()


@pytest.mark.parametrize(('options', 'message'), [
    (['--features', 'x', '--overlay', 'a.mp4'], '--overlay and --srt: apply to --video'),
    (['--video', 'x.mp4', '--fps', '3'], '--fps: not with --video'),
    (['--video', '/dev/video7', '--overlay', 'a.mp4'], '--video /dev/video7: is not a file')])
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, message):
    assert call(tmp_path, *options) == 2
    assert message in capsys.readouterr().err


def test_captions():
    assert caption(FULL) == ('pour the water (87 % sure)', '12 s left', 'overall 25 %', '2:10 left', 'next: stir')
    unsure = FULL._replace(unknown=True, next_step='end', remaining_s=None, overall=None)
    assert caption(unsure)[:3] == ("I don't know (pour the water?)", '', '') and caption(unsure)[4] == 'next: the end'
    assert caption(FrameProgress(0)) == ('step', '', '', '', '')


def test_subtitles(tmp_path):
    write_subtitles(tmp_path / 'a.srt', [FULL, FrameProgress(5, 1.25, 'background')], Fraction(4))
    assert (tmp_path / 'a.srt').read_text() == (
        '1\n00:00:01,000 --> 00:00:01,250\npour the water (87 % sure), progress 40 % (30 % to 60 %), 12 s left\n'
        'overall 25 %, 2:10 left\nnext: stir\n\n2\n00:00:01,250 --> 00:00:01,500\nbackground\n\n')


@pytest.mark.parametrize('width', [320, 1920])
def test_a_panel_shows_bars_as_long_as_the_progress(width):
    panel = Panel(width)
    image = panel.draw(FULL).astype(int)
    assert image.shape == (panel.height, width, 3) and panel.height < width / 2
    orange = (image[..., 0] > 200) & (image[..., 1] < 150) & (image[..., 2] < 120)
    assert orange.any(axis=0).nonzero()[0][-1] / width == pytest.approx(0.4, abs=0.02)
    blank = panel.draw(FrameProgress(0, step='background')).astype(int)
    assert np.abs(blank - image).mean() > 2
    long = panel.draw(FULL._replace(step='a very long label ' * 20)).astype(int)
    assert (long[:, -3:] == image[:, -3:]).all()


@needs_av
@pytest.mark.parametrize(('size', 'rotation'), [((31, 47), None), ((64, 32), 90), ((240, 320), None)])
def test_an_overlay_of_any_size_has_the_pictures_above_the_panel(tmp_path, size, rotation):
    codec = {'codec': 'ffv1', 'pixel_format': 'bgr0'} if size[0] % 2 else {}
    source = write_video(tmp_path / ('a.mkv' if codec else 'a.mp4'), 5, size=size, rotation=rotation, **codec)
    write_overlay(source, tmp_path / 'b.mp4', [FULL._replace(frame=0), FULL._replace(frame=1)], Fraction(4))
    with VideoReader(tmp_path / 'b.mp4') as reader:
        images = [frame.to_ndarray(format='rgb24') for _, _, frame in reader.decoded()]
    assert len(images) == 5
    height = (size[1] if rotation else size[0]) // 2 * 2
    assert images[0].shape == (height + Panel(MIN_WIDTH).height, MIN_WIDTH, 3)
    centers = [int(image[height // 2, MIN_WIDTH // 2, 0]) for image in images]
    assert centers == pytest.approx([0, 8, 16, 24, 32], abs=4)


@needs_av
def test_an_overlay_that_cannot_be_written_ends_in_one_line(tmp_path):
    source = write_video(tmp_path / 'a.mp4', 3)
    with pytest.raises(UserError, match=r'b.xyz: cannot be written as a video'):
        write_overlay(source, tmp_path / 'b.xyz', [FULL], Fraction(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.mp4']
