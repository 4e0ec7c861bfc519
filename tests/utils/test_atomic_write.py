"""A file is whole or not there, whatever ends the writing."""

import json

import pytest

from utils.atomic_write import atomic_path, remove_leftovers, write_json
from utils.errors import UserError


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / 'table.csv'
    with atomic_path(str(path)) as temporary:
        temporary.write_text('new')
        assert not path.exists() and temporary.parent == tmp_path and temporary.suffix == '.csv'
    assert path.read_text() == 'new'
    assert [file.name for file in tmp_path.iterdir()] == ['table.csv']


@pytest.mark.parametrize(('raised', 'expected', 'message'), [
    (OSError(28, 'No space left on device'), UserError, 'table.csv: cannot be written .No space left on device.; free'),
    (ZeroDivisionError('defect'), ZeroDivisionError, 'defect'), (KeyboardInterrupt(), KeyboardInterrupt, None)])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, raised, expected, message):
    path = tmp_path / 'table.csv'
    path.write_text('old')
    with pytest.raises(expected, match=message), atomic_path(path) as temporary:
        temporary.write_text('half')
        raise raised
    assert path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['table.csv']


def test_a_missing_folder_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match='cannot be written .No such file or directory.; .* OUTPUT_PATH'):
        write_json(tmp_path / 'nowhere/config.json', {})


def test_json_is_readable(tmp_path):
    content = {'task': ['Café', 1, None, 0.5]}
    write_json(tmp_path / 'config.json', content)
    text = (tmp_path / 'config.json').read_text(encoding='utf-8')
    assert json.loads(text) == content and 'Café' in text and text.endswith('}\n')


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in ('last.pt', '.last.4711.pt', '.losses.12.csv', '.hidden', '.name.pt', 'epoch-5.pt'):
        (tmp_path / name).write_text('')
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.hidden', '.name.pt', 'epoch-5.pt', 'last.pt']
