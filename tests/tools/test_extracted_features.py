"""Features of tools.extract and annotations in seconds make a dataset, without further options."""

import json
from fractions import Fraction

import numpy as np
import pytest

from recordings.feature_info import FeatureInfo, feature_rate, read_feature_info, write_feature_info
from tools import import_segments

INFO = FeatureInfo('efficientnet_lite0', 'sha256:1', Fraction(4), 224, 'features', (3,))
TABLE = ('recording,start,end,label\n' + ''.join(
    f'{name}.mp4,{start},{end},{label}\n' for name in 'abcd'
    for start, end, label in (('0.5', '2', 'cut'), ('2', '0:04.25', 'stir'))))


@pytest.fixture
def extracted(tmp_path, monkeypatch):
    """Write features of four recordings of five seconds, as tools.extract does."""
    monkeypatch.setenv('DATASET_PATH', str(tmp_path / 'data'))
    monkeypatch.setenv('JSON_DPATH', str(tmp_path / 'jsons'))
    folder = tmp_path / 'data/x/features'
    folder.mkdir(parents=True)
    write_feature_info(folder, INFO)
    for name in 'abcd':
        np.save(folder / f'{name}.npy', np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    (tmp_path / 'table').mkdir()
    (tmp_path / 'table/steps.csv').write_text(TABLE)
    return tmp_path


def run(folder, *arguments):
    return import_segments.main([*arguments[:1], str(folder / 'table/steps.csv'), *arguments[1:]])


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_rate_is_taken_from_features_that_stay_in_place(extracted, capsys):
    before = content(extracted / 'data')
    assert run(extracted, 'x') == 0
    assert content(extracted / 'data') == before
    task = json.loads((extracted / 'jsons/x.json').read_text())['x']
    assert task['handles'] == ['a', 'b', 'c', 'd'] and task['hdl_actions'][0] == ['cut', 'stir', '0']
    assert (task['hdl_start_times'][0], task['hdl_end_times'][0]) == ([2, 8, 17], [8, 17, 20])
    assert '--dataset x' in capsys.readouterr().out
    # A second import requires --overwrite, and keeps the features, too.
    assert run(extracted, 'x') == 2 and run(extracted, 'x', '--overwrite') == 0
    assert content(extracted / 'data') == before


def test_another_name_copies_features_and_their_description(extracted):
    folder = str(extracted / 'data/x/features')
    assert run(extracted, 'y', '--features', folder, '--sample_rate', '2') == 0
    copied = extracted / 'data/y/features'
    assert feature_rate(copied) == 2 and read_feature_info(copied).version == INFO.version
    assert np.load(copied / 'a.npy').shape == (10, 3)
    task = json.loads((extracted / 'jsons/y.json').read_text())['y']
    assert (task['hdl_start_times'][0], task['hdl_end_times'][0]) == ([1, 4, 9], [4, 9, 10])


@pytest.mark.parametrize(('arguments', 'message'), [
    (['x', '--fps', '5'], 'have 4 frames per second; leave it out'), (['x', '--sample_rate', '2'], '--sample_rate 2'),
    (['y'], 'data/y/features has no features.json of tools.extract to tell it'), (['x', '--fps', 'x'], '--fps x')])
def test_options_that_contradict_the_features_are_refused(extracted, capsys, arguments, message):
    before = content(extracted)
    assert run(extracted, *arguments) == 2
    assert message in capsys.readouterr().err and content(extracted) == before


