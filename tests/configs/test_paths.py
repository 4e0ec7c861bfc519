"""Paths of datasets, and errors if files are missing."""

from pathlib import Path

import pytest

from configs.paths import DatasetPaths, dataset_paths, environment_path
from utils.errors import UserError


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Create a dataset and set the environment variables."""
    for folder in ('data/egoprocel/features', 'data/egoprocel/frames', 'json'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'json/egoprocel.json').write_text('{}')
    monkeypatch.setenv('DATASET_PATH', str(tmp_path / 'data'))
    monkeypatch.setenv('JSON_DPATH', str(tmp_path / 'json'))
    return tmp_path


@pytest.mark.parametrize(('variable', 'default'), [('DATASET_PATH', 'data'), ('OUTPUT_PATH', 'output'),
                                                   ('JSON_DPATH', 'dset_jsons')])
@pytest.mark.parametrize('value', [None, '', '/elsewhere'])
def test_variables_are_read_on_each_call(monkeypatch, variable, default, value):
    monkeypatch.delenv(variable, raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    assert environment_path(variable) == Path(value or default)


def test_home_folder_in_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    for value, expected in (('~/runs', tmp_path / 'runs'), ('~', tmp_path), ('a/~', Path('a/~'))):
        monkeypatch.setenv('OUTPUT_PATH', value)
        assert environment_path('OUTPUT_PATH') == expected
    monkeypatch.setenv('OUTPUT_PATH', '~nobody_of_this_name/runs')
    with pytest.raises(UserError, match='OUTPUT_PATH=~nobody_of_this_name/runs: there is no home folder'):
        environment_path('OUTPUT_PATH')


@pytest.mark.parametrize(('dataset', 'suffix'), [('egoprocel', ''), ('cmu', '.cmu'), ('egtea', '.egtea')])
@pytest.mark.parametrize('kind', ['features', 'frames'])
def test_parts_use_the_files_of_the_containing_dataset(data, dataset, suffix, kind):
    assert dataset_paths(dataset, kind) == DatasetPaths(data / 'data/egoprocel' / kind, data / 'json/egoprocel.json',
                                                        suffix)


@pytest.mark.parametrize(('dataset', 'kind', 'variable', 'missing'), [
    ('coin', 'features', 'JSON_DPATH', 'json/coin.json'), ('egoprocel', 'flow', 'DATASET_PATH', 'data/egoprocel/flow')])
def test_error_names_the_missing_path_and_its_variable(data, dataset, kind, variable, missing):
    with pytest.raises(UserError) as caught:
        dataset_paths(dataset, kind)
    message = str(caught.value)
    assert message.startswith(f'{variable}={data / Path(missing).parts[0]} (set): {data / missing} does not exist')
    assert ('there are the datasets egoprocel: choose one' in message) == (variable == 'JSON_DPATH')
    assert 'python -m tools.demo demo' in message and '\n' not in message


@pytest.mark.parametrize(('variable', 'default'), [('DATASET_PATH', 'data'), ('JSON_DPATH', 'dset_jsons')])
def test_error_names_a_missing_folder_before_its_files(data, monkeypatch, variable, default):
    monkeypatch.setenv(variable, str(data / 'nowhere'))
    with pytest.raises(UserError, match=f'^{variable}={data}/nowhere .set.: {data}/nowhere does not exist; expected '):
        dataset_paths('egoprocel')
    monkeypatch.delenv(variable)
    monkeypatch.chdir(data / 'data/egoprocel')
    with pytest.raises(UserError, match=f'^{variable}={default} .unset: .*: {default} does not exist'):
        dataset_paths('egoprocel')
