"""Extraction in shards, interrupted, killed, or with broken files gives the same features as a single run."""

import json
import multiprocessing
import os
import signal
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from models import image_encoders
from recordings.video import VideoReader
from tests.video_files import cut, write_audio, write_video
from tools import extract
from tools.video_batches import Shard, choose_shard, find_videos
from utils.errors import UserError

needs_av = pytest.mark.skipif(not find_spec('av'), reason='needs requirements-video.txt')
needs_weights = pytest.mark.skipif(not find_spec('efficientnet_lite_pytorch'), reason='needs requirements-video.txt')
FPS = '5'


class SmallEncoder(image_encoders.ImageEncoder):
    """Encode a picture as twelve numbers; may stop in the middle."""

    def __init__(self, stop=lambda: None):
        super().__init__('small', image_size=8, mean=(0.0,) * 3, std=(255.0,) * 3)
        self.version, self._stop = 'sha256:1', stop

    def maps(self, images):
        self._stop()
        return torch.cat([images, images ** 2, images.sqrt(), 1 - images], dim=1)[:, :, ::4, ::4]


@pytest.fixture
def encoder(monkeypatch, tmp_path):
    monkeypatch.setenv('DATASET_PATH', str(tmp_path / 'data'))
    for variable in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(variable, raising=False)

    def use(stop=lambda: None):
        monkeypatch.setitem(image_encoders.ENCODERS, 'small', lambda: SmallEncoder(stop))
    use()
    return use


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / 'videos'
    for number, (place, length) in enumerate([('', 12), ('', 20), ('p1', 7), ('p1', 31), ('p2/cam1', 16)]):
        (folder / place).mkdir(parents=True, exist_ok=True)
        write_video(folder / place / f'v{number}.mkv', length)
    (folder / 'notes.txt').write_text('not a video')
    (folder / '._v0.mkv').write_text('hidden: written by a Mac')
    return folder


def run(folder, name, *options):
    return extract.main([str(folder), name, '--encoder', 'small', '--fps', FPS, '--workers', '0', '--device', 'cpu',
                         *options])


def content(tmp_path, name, kind='features'):
    """Return the bytes of every file of a dataset, including hidden files."""
    return {path.name: path.read_bytes() for path in (tmp_path / 'data' / name / kind).iterdir()}


@needs_av
def test_features_match_sampled_frames_for_any_batching(tmp_path, videos, encoder, capsys):
    assert run(videos, 'x') == 0
    output = capsys.readouterr()
    assert 'Wrote 5 recordings (42 frames of 12 values, 5 per second)' in output.out
    assert 'python -m tools.import_segments x ANNOTATIONS.csv' in output.out and 'left out: notes.txt' in output.err
    first = content(tmp_path, 'x')
    assert sorted(first) == ['features.json', 'p1_v2.npy', 'p1_v3.npy', 'p2_cam1_v4.npy', 'v0.npy', 'v1.npy']
    assert json.loads(first['features.json']) == {
        'encoder': 'small', 'version': 'sha256:1', 'fps': 5, 'image_size': 8, 'kind': 'features', 'shape': [12],
        'dtype': 'float32', 'frames_ahead': 0}
    for name, options in (('again', []), ('workers', ['--workers', '2']), ('batch', ['--batch_size', '7'])):
        assert run(videos, name, *options) == 0 and content(tmp_path, name) == first
    with VideoReader(videos / 'v1.mkv') as reader:
        live = np.concatenate([SmallEncoder().encode(frame.image[None]) for frame in reader.sample(5, 8)])
    assert np.array_equal(live, np.load(tmp_path / 'data/x/features/v1.npy')) and live.shape == (10, 12)


@needs_av
def test_maps_and_half_precision(tmp_path, videos, encoder):
    assert run(videos / 'v0.mkv', 'x', '--frames', '--float16') == 0
    found = np.load(tmp_path / 'data/x/frames/v0.npy')
    assert found.shape == (6, 12, 2, 2) and found.dtype == np.float16
    assert json.loads((tmp_path / 'data/x/frames/features.json').read_text())['kind'] == 'frames'


@needs_av
def test_broken_videos_are_reported_and_the_others_written(tmp_path, videos, encoder, capsys):
    cut(videos / 'v1.mkv')
    cut(videos / 'p1/v3.mkv', 0.8)
    (videos / 'empty.mp4').touch()
    (videos / 'text.mp4').write_text('text')
    write_audio(videos / 'sound.mp4')
    assert run(videos, 'x', '--workers', '2') == 2
    errors = capsys.readouterr().err.splitlines()
    for name in ('v1.mkv', 'v3.mkv', 'empty.mp4', 'text.mp4', 'sound.mp4'):
        assert sum(name in line and line.startswith('E ') for line in errors) == 1
    assert errors[-1].startswith('error: 5 of the videos cannot be read (listed above)')
    assert sorted(content(tmp_path, 'x')) == ['features.json', 'p1_v2.npy', 'p2_cam1_v4.npy', 'v0.npy']


@needs_av
def test_three_shards_at_once_give_the_folder_of_one_run(tmp_path, videos, encoder):
    assert run(videos, 'one') == 0
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=lambda number=number: os._exit(run(videos, 'three', '--shard', f'{number}/3')))
                 for number in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert content(tmp_path, 'three') == content(tmp_path, 'one')


@needs_av
@pytest.mark.parametrize('way', ['interrupt', 'kill', 'error'])
def test_an_interrupted_extraction_continues(tmp_path, videos, encoder, way):
    assert run(videos, 'whole') == 0
    calls = []

    def stop():
        calls.append(None)
        if len(calls) == 7:
            if way == 'kill':
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt if way == 'interrupt' else UserError('disk full')

    encoder(stop)
    process = multiprocessing.get_context('fork').Process(target=lambda: os._exit(run(videos, 'x')))
    process.start()
    process.join(60)
    assert process.exitcode == {'interrupt': 130, 'kill': -signal.SIGKILL, 'error': 2}[way]
    before = content(tmp_path, 'x')
    assert 1 < len([name for name in before if name[0] != '.']) < 6
    assert any(name.endswith('.partial.npy') for name in before) == (way == 'kill')
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / 'data/x/features').glob('[!.]*.npy')}
    encoder()
    assert run(videos, 'x') == 0
    assert content(tmp_path, 'x') == content(tmp_path, 'whole')
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


@needs_av
def test_truncated_file_is_written_again(tmp_path, videos, encoder, capsys):
    assert run(videos, 'x') == 0
    before = content(tmp_path, 'x')
    cut(tmp_path / 'data/x/features/v1.npy', 0.9)
    assert run(videos, 'x') == 0
    assert content(tmp_path, 'x') == before
    output = capsys.readouterr()
    assert 'Wrote 1 recordings' in output.out and '; 4 already existed' in output.out
    assert 'v1.npy: cannot be read' in output.err


@needs_av
@pytest.mark.parametrize(('options', 'message'), [
    (['--fps', '4'], 'fps: 5, not 4'), (['--float16'], 'dtype: float32, not float16'),
    (['--fps', '0'], '--fps 0: expected a number above 0'), (['--fps', 'x'], '--fps x'),
    (['--workers', '-1'], '--workers -1: expected 0 to 256'), (['--batch_size', '0'], '--batch_size 0'),
    (['--shard', '0/3'], '--shard 0/3: expected I/N'), (['--shard', '4/3'], '--shard 4/3'),
    (['--shard', '3'], '--shard 3'), (['--device', 'x'], '--device x'),
    (['--encoder', 'other'], '--encoder other: expected efficientnet_lite0')])
def test_other_settings_and_wrong_options_are_refused(tmp_path, videos, encoder, capsys, options, message):
    assert run(videos / 'v0.mkv', 'x') == 0
    before = content(tmp_path, 'x')
    assert run(videos, 'x', *options) == 2
    assert message in capsys.readouterr().err
    assert content(tmp_path, 'x') == before


def test_names_of_recordings_and_folders_without_videos(tmp_path, caplog):
    (tmp_path / 'a').mkdir()
    with pytest.raises(UserError, match='contains no video'):
        find_videos(tmp_path)
    with pytest.raises(UserError, match='does not exist'):
        find_videos(tmp_path / 'b')
    for name in ('x.mp4', 'a/b.MOV', 'a_b.avi'):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match='would have the same name as that of'):
        find_videos(tmp_path)
    (tmp_path / 'a_b.avi').unlink()
    (tmp_path / 'moved.mp4').symlink_to('nowhere.mp4')
    assert [name for _, name in find_videos(tmp_path)] == ['a_b', 'x']
    assert '1 entries are named like videos but are no files, and are left out: moved.mp4; correct' in caplog.text
    assert [name for _, name in find_videos(tmp_path / 'a/b.MOV')] == ['b']


def test_shards_have_each_video_once():
    videos = list(range(10))
    for count in (1, 3, 20):
        parts = [Shard(number, count).take(videos) for number in range(1, count + 1)]
        assert sorted(sum(parts, [])) == videos and max(map(len, parts)) - min(map(len, parts)) <= 1
    assert choose_shard('2/3', {'RANK': '0', 'WORLD_SIZE': '8'}) == Shard(2, 3)
    assert choose_shard(None, {'RANK': '0', 'WORLD_SIZE': '8'}) == Shard(1, 8)
    assert choose_shard(None, {}) == Shard(1, 1)


@needs_weights
@needs_av
def test_the_packaged_encoder_as_a_program(tmp_path, encoder):
    path = write_video(tmp_path / 'a.mp4', 4, corner=(255, 0, 0))
    assert extract.main([str(path), 'x', '--fps', '5', '--device', 'cpu', '--workers', '0']) == 0
    assert np.load(tmp_path / 'data/x/features/a.npy').shape == (2, 1280)
