"""Labels from tables and annotation files, and the file that is written."""

import json
from fractions import Fraction

import pytest

from alignment.annotations import read_labels, read_tables, write_annotations
from utils.action import Action
from utils.errors import UserError

LENGTHS = {'a': 10, 'b': 12}
CUT = [Action('cut', 0, 3), Action('stir', 4, 9)]


def write(path, tasks):
    path.write_text(json.dumps({task: {
        'handles': list(lists), **{key: [[segment[place] for segment in segments] for segments in lists.values()]
                                   for place, key in enumerate(('hdl_actions', 'hdl_start_times', 'hdl_end_times'))}}
        for task, lists in tasks.items()}))
    return path


def read(path, named=None, fps=None):
    return read_labels(path, LENGTHS, read_tables(path, list(LENGTHS), named, fps), ['0'])


def test_a_table_belongs_to_the_recording_that_it_names(tmp_path):
    table = tmp_path / 'a.csv'
    table.write_text('0,4,cut\n4,10,stir\n')
    assert read(table) == ({'a': CUT}, None)
    assert read(table, 'b')[0] == {'b': CUT}
    table.write_text('recording,start,end,label\na.mp4,0,2,cut\na.mp4,2,5,stir\nother,0,9,cut\n')
    assert read(table, fps=Fraction(2))[0] == {'a': CUT}


def test_an_annotation_file_gives_the_recordings_that_it_annotates_at_their_rate(tmp_path):
    tea = {'a': [('cut', 0, 8), ('stir', 8, 20)], 'other': [('cut', 0, 5)], 'b': []}
    path = write(tmp_path / 'x.json', {'tea': tea, 'pie': {'c': [('cut', 0, 5)]}})
    assert read(path) == ({'a': CUT}, 'tea')


@pytest.mark.parametrize(('tasks', 'message'), [
    ({'tea': {'other': [('cut', 0, 5)]}}, 'annotates none of the recordings a, b'),
    ({'tea': {'a': [('cut', 0, 5)]}, 'pie': {'b': [('cut', 0, 5)]}}, 'the recordings are of the tasks tea, pie')])
def test_annotation_files_that_do_not_fit_are_refused(tmp_path, tasks, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / 'x.json', tasks))


@pytest.mark.parametrize(('text', 'message'), [
    ('0,4,cut\n', 'has no column of recordings.*--reference NAME'),
    ('recording,start,end,label\na,0,40,cut\n', 'beyond'),
    ('recording,start,end\na,0,4\n', 'has no label, expected one to carry over')])
def test_tables_that_do_not_fit_are_refused(tmp_path, text, message):
    (tmp_path / 'steps.csv').write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path / 'steps.csv')


def test_what_is_written_ends_with_the_recording_and_reads_back(tmp_path):
    path = tmp_path / 'x.json'
    write_annotations(path, 'tea', {'a': (CUT, 10), 'b': ([Action('cut', 2, 6)], 12), 'c': ([], 3)}, '0')
    assert json.loads(path.read_text()) == {'tea': {
        'handles': ['a', 'b', 'c'], 'hdl_actions': [['cut', 'stir'], ['cut', '0'], ['0']],
        'hdl_start_times': [[0, 4], [2, 11], [2]], 'hdl_end_times': [[4, 10], [7, 12], [3]]}}
    found, _ = read(path)
    assert found == {'a': CUT, 'b': [Action('cut', 2, 6), Action('0', 11, 11)]}
