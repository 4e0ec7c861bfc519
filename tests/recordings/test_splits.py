"""Random splits and splits from files."""

import json

import pytest

from recordings.splits import load_run_splits, load_splits, make_splits
from utils.errors import UserError

SHARES = (0.75, 0.10, 0.15)
HANDLES = {'tea': ['t1', 't2', 't3'], 'pie': ['p1', 'p2']}
GOOD = {'train': ['t1'], 'val': ['t2'], 'test': ['t3']}


def names(count, prefix='r'):
    return [f'{prefix}{index}' for index in range(count)]


@pytest.mark.parametrize(('count', 'shares', 'sizes'), [
    (20, SHARES, (15, 2, 3)), (100, SHARES, (75, 10, 15)), (3, SHARES, (2, 0, 1)), (2, SHARES, (1, 0, 1)),
    (1, SHARES, (1, 0, 0)), (2, (0.01, 0.5, 0.49), (1, 0, 1)), (20, (1, 0, 0), (20, 0, 0)),
    (10, (0.8, 0.2, 0), (8, 2, 0)), (3, (0.02, 0.49, 0.49), (1, 1, 1))])
def test_sizes_of_the_parts(count, shares, sizes):
    split = make_splits({'task': names(count)}, shares, 0)['task']
    assert tuple(len(split[part]) for part in ('train', 'val', 'test')) == sizes
    assert sorted(handle for part in split.values() for handle in part) == sorted(names(count))


def test_tasks_are_split_independently():
    alone = make_splits({'tea': names(20)}, SHARES, 7)
    other = make_splits({'pie': names(9, 'p'), 'tea': names(20)[::-1]}, SHARES, 7)
    assert other['tea'] == alone['tea'], 'neither other tasks nor the order of the handles may matter'
    assert make_splits({'tea': names(20)}, SHARES, 8) != alone
    assert make_splits({'two': names(20)}, SHARES, 7)['two'] != alone['tea'], 'tasks draw differently'


def write(tmp_path, content):
    path = tmp_path / 'mine.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(('content', 'expected'), [
    ('{"splits": {', 'not valid JSON'), ('[' * 100_000, 'not valid JSON'), ([1], 'no object under "splits"'),
    ({'tea': GOOD}, 'no object under "splits"'), ({'splits': [GOOD]}, 'no object under "splits"'),
    ({'splits': {'tea': ['t1']}}, "task tea: found ['t1'], expected the three lists"),
    ({'splits': {'tea': {'train': ['t1'], 'test': []}}}, "task tea: found ['test', 'train']"),
    ({'splits': {'tea': {**GOOD, 'dev': []}}}, 'task tea: found'),
    ({'splits': {'tea': 'two\nlines'}}, "task tea: found 'two\\nlines', expected the three lists"),
    ({'splits': {'tea': {**GOOD, 'val': 't2'}}}, 'task tea: val is not a list of handles but \'t2\'; write {"val": ['),
    ({'splits': {'tea': {**GOOD, 'test': [3]}}}, 'task tea: test is not a list'),
    ({'splits': {'tea': {**GOOD, 'test': ['p1']}}}, "task tea: test names 'p1'"),
    ({'splits': {'tea': {**GOOD, 'test': ['t1']}}}, "task tea: 't1' is in the split twice"),
    ({'splits': {'tea': {**GOOD, 'train': []}}}, 'task tea: no training recordings'),
    ({'splits': {'soup': GOOD}}, 'contains none of the tasks tea, pie')])
def test_a_wrong_file_is_named_in_one_line(tmp_path, content, expected):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        load_splits(path, HANDLES)
    assert str(error.value).startswith(f'{path}: ') and expected in str(error.value)
    assert '\n' not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'nowhere\.json: cannot be read'):
        load_splits(tmp_path / 'nowhere.json', HANDLES)


def test_recordings_missing_in_file_are_not_used_with_warning(tmp_path, caplog):
    path = write(tmp_path, {'splits': {'tea': {'train': ['t3', 't1'], 'val': [], 'test': []}, 'soup': GOOD},
                            'groups': {'t1': 'ann', 'T3': 'ben'}})
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())  # as some editors save
    # Sorted, as drawn splits are: neither folds nor draws may depend on the order of the file.
    assert load_splits(path, HANDLES) == {'tea': {'train': ['t1', 't3'], 'val': [], 'test': []}}
    for expected in ('task tea: 1 of 3 recordings are in no part', 'task soup is not among the loaded tasks',
                     'task pie is missing in the file', '1 of 2 recordings have no group, so each counts as a group of '
                     'its own: t3; name them in "groups"'):
        assert expected in caplog.text


def test_a_complete_file_gives_no_warning(tmp_path, caplog):
    splits = {'tea': GOOD, 'pie': {'train': ['p1'], 'val': [], 'test': ['p2']}}
    groups = dict.fromkeys(['t1', 't2', 't3', 'p1', 'p2'], 'ann')
    for content in ({'splits': splits}, {'splits': splits, 'groups': groups}):
        assert load_splits(write(tmp_path, content), HANDLES) == splits
    assert not caplog.records


def test_the_split_of_a_run_is_read_as_it_was_written(tmp_path):
    assert load_run_splits(write(tmp_path, {'splits': {'tea': GOOD}})) == {'tea': GOOD}


@pytest.mark.parametrize(('content', 'expected'), [
    ('{"splits": ', 'not valid JSON'), ([], 'no object under "splits"'), ({'tea': GOOD}, 'no object under "splits"'),
    ({'splits': {'tea': [1]}}, "task 'tea': found [1], expected the three lists"),
    ({'splits': {'a\nb': {**GOOD, 'val': [1]}}}, "task 'a\\nb': val is not a list")])
def test_a_damaged_split_of_a_run_is_named_in_one_line(tmp_path, content, expected):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        load_run_splits(path)
    assert str(error.value).startswith(f'{path}: ') and expected in str(error.value)
    assert '\n' not in str(error.value)
