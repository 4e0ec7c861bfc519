"""Output of tools.check for a dataset, and its exit status for every kind of problem."""

import json
from pathlib import Path

import numpy as np
import pytest

from tools import check, duration_picture
from tools.demo import DemoSettings, write_demo
from tools.duration_picture import BINS, _bin_edges, draw_durations
from tools.inspection import inspect_dataset, quartiles

WIDTH = 4


def write(tasks, lengths, root=Path('.')):
    """Write a dataset of task -> handle -> segments, with features of the given lengths."""
    content = {}
    for task, lists in tasks.items():
        content[task] = {'handles': list(lists)}
        for position, key in enumerate(('hdl_actions', 'hdl_start_times', 'hdl_end_times')):
            content[task][key] = [[segment[position] for segment in segments] for segments in lists.values()]
    for folder in ('data/mine/features', 'jsons'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / 'jsons/mine.json').write_text(json.dumps(content))
    for handle, frames in lengths.items():
        np.save(root / f'data/mine/features/{handle}.npy', np.zeros((frames, WIDTH), np.float32))


SEGMENTS = {'a': [('0', 0, 2), ('pour', 2, 6), ('stir', 6, 7)], 'b': [('pour', 1, 4), ('stir', 6, 10)]}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DATASET_PATH', 'data')
    monkeypatch.setenv('JSON_DPATH', 'jsons')
    write({'tea': SEGMENTS}, {'a': 7, 'b': 10})


def run(capsys, *options, name='mine'):
    status = check.main([name, *options])
    output = capsys.readouterr()
    return status, output.out, output.err


def row(text, first):
    """Return the cells of the table row that begins with ``first``."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


# What is in it --------------------------------------------------------------------------------------------------------

def test_counts_are_those_of_the_dataset(mine, capsys):
    status, text, log = run(capsys)
    assert (status, log) == (0, '') and 'This dataset can be trained on.' in text and 'wrong' not in text
    assert text.startswith('mine: 1 task, 2 recordings, 17 frames of D = 4, 4 actions\n')
    # a: 2 background frames; b: 1 unlabeled frame before the first segment and 2 between the segments
    assert row(text, 'tea') == ['tea', '2', '7', '8.5', '10', '1', '4', '2', '11.8%', '17.6%', '2', '1', '0']
    assert row(text, 'pour') == ['pour', '2', '2', '3', '3.25', '3.5', '3.75', '4']
    assert row(text, 'stir') == ['stir', '2', '2', '1', '1.75', '2.5', '3.25', '4']


def test_rate_is_printed_as_time_scale(mine, capsys):
    write({'tea': {'a': [('pour', 0, 300)], 'b': [('pour', 0, 600)]}}, {'a': 10, 'b': 21})
    assert row(run(capsys)[1], 'tea')[5:8] == ['28.57', 'to', '30']
    assert row(run(capsys, '--time_scale', '30')[1], 'tea')[5] == '30'


def test_lists_that_outnumber_handles_are_matched_and_named(mine, capsys):
    lists = {str(end): [('pour', 0, end // 2), ('stir', end // 2, end)] for end in (300, 410, 520, 640, 800)}
    write({'tea': lists}, {'a': 300, 'b': 640})
    content = json.loads(Path('jsons/mine.json').read_text())
    Path('jsons/mine.json').write_text(json.dumps({'tea': {**content['tea'], 'handles': ['a', 'b']}}))
    status, text, _ = run(capsys)
    assert status == 0 and 'that each gets: a 0, b 3' in text and '5 annotation lists for 2 handles' in text


def test_splits_are_counted_and_their_unseen_labels_named(mine, capsys):
    Path('s.json').write_text('{"splits": {"tea": {"train": ["a"], "val": [], "test": ["b"]}}}')
    status, text, _ = run(capsys, '--splits', 's.json')
    assert row(text, 'tea')[2] == '1/0/1' and 'no validation recordings' in text
    write({'tea': {'a': [('pour', 0, 7)], 'b': SEGMENTS['b']}}, {'a': 7, 'b': 10})
    status, text, _ = run(capsys, '--splits', 's.json')
    assert status == 0 and 'labels of test recordings that are missing in the training recordings: stir' in text


def test_notes_are_not_problems(mine, capsys):
    tea = {'a': [('Pour milk', 0, 1), ('pour_milk', 1, 2), ('stir', 4, 5)], 'b': []}
    write({'tea': tea, 'one': {'c': SEGMENTS['a']}}, {'a': 5, 'b': 3, 'c': 7, 'spare': 3})
    status, text, _ = run(capsys)
    assert status == 0
    for message in ("labels that may mean the same: 'Pour milk', 'pour_milk'", 'no action in 1 of 2 recordings: b',
                    'task one: a single recording', '3 of 3 actions last a single frame', '1 files in data/mine',
                    'task tea: more than 25% of the frames are in no segment'):
        assert message in text


def test_frames_and_parts_of_datasets(tmp_path, monkeypatch, capsys):
    variables = write_demo(tmp_path, 'egoprocel', settings=DemoSettings(people=4, repetitions=1, width=6))
    path = variables['JSON_DPATH'] / 'egoprocel.json'
    content = json.loads(path.read_text())
    path.write_text(json.dumps({'tea.cmu': content['make_tea'], 'tyre': content['change_tyre']}))
    for variable, folder in variables.items():
        monkeypatch.setenv(variable, str(folder))
    status, text, _ = run(capsys, '--frames', name='cmu')
    assert status == 0 and 'cmu: 1 task, 4 recordings' in text and 'of C, H, W = 8 x 3 x 3' in text


# What is wrong with it ------------------------------------------------------------------------------------------------

def spoil(handle, value=np.nan):
    array = np.zeros((7, WIDTH), np.float32)
    array[5, 1] = value
    np.save(f'data/mine/features/{handle}.npy', array)


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda: Path('data/mine/features/a.npy').unlink(), '1 of 2 handles have no file in data/mine/features: a;'),
    (lambda: spoil('a'), 'a.npy: frame 5 holds NaN or infinity'),
    (lambda: np.save('data/mine/features/a.npy', np.zeros((7, 9), np.float32)), '1 files differ in shape'),
    (lambda: np.save('data/mine/features/a.npy', np.zeros(7, np.float32)), 'a.npy: shape (7,), expected (T, D)'),
    (lambda: Path('data/mine/features/a.npy').write_bytes(b'x'), 'a.npy: cannot be read'),
    (lambda: Path('jsons/mine.json').write_text('{'), 'mine.json: not valid JSON'),
    (lambda: write({'tea': {'a': [('pour', 0, 5), ('stir', 4, 7)]}}, {'a': 7}), 'before the end 5 of the segment'),
    (lambda: write({'tea': {'a': []}}, {'a': 7}), "TIME_SCALE 'auto' gives no rate")],
    ids=['missing', 'nan', 'shape', 'ndim', 'unreadable', 'json', 'overlap', 'unannotated'])
def test_problems_are_printed_and_give_status_1(mine, capsys, damage, message):
    damage()
    leftover = Path('.mine.999999999-0123abcd.partial.png')  # of a command that was killed
    leftover.touch()
    status, text, log = run(capsys, '-o', 'mine.png')
    assert leftover.exists() != Path('mine.png').exists()
    assert (status, log) == (1, '')
    assert message in text and text.index('wrong:') < text.index(message)
    assert 'This dataset cannot be trained on as it is.' in text


def test_without_actions_alignment_can_be_trained(mine, capsys):
    write({'tea': {'a': [('0', 0, 7)], 'b': [('0', 0, 10)]}}, {'a': 7, 'b': 10})
    status, text, _ = run(capsys)
    assert status == 0 and 'no task has an action: alignment can be trained, but a progress head cannot' in text


def test_all_problems_are_printed_and_the_rest_is_counted(mine, capsys):
    write({'tea': {**SEGMENTS, 'c': SEGMENTS['a'], 'd': SEGMENTS['a']}}, {'a': 7, 'b': 10, 'd': 7})
    spoil('d', np.inf)
    status, text, _ = run(capsys)
    assert status == 1 and 'no file in data/mine/features: c;' in text and 'd.npy: frame 5' in text
    assert row(text, 'tea')[:4] == ['tea', '2', 'of', '4']
    assert 'd.npy' not in run(capsys, '--skip_values')[1]


def test_every_recording_with_a_mistake_is_named_and_the_other_tasks_are_counted(mine, capsys):
    overlap, backwards = [('pour', 0, 5), ('stir', 4, 7)], [('pour', 5, 2)]
    write({'soup': {'c': overlap, 'd': SEGMENTS['a'], 'e': backwards}, 'tea': SEGMENTS},
          {'a': 7, 'b': 10, 'c': 7, 'd': 7, 'e': 7})
    status, text, _ = run(capsys)
    assert status == 1 and row(text, 'tea')[1] == '2'
    assert "handle 'c': segment 1 runs backwards: it starts at 4, before the end 5" in text
    assert "handle 'e': segment 0 runs backwards, from 5 to 2" in text and "handle 'd'" not in text


def test_invalid_split_is_a_problem(mine, capsys):
    Path('s.json').write_text('{"splits": {"tea": {"train": ["z"], "val": [], "test": ["b"]}}}')
    status, text, _ = run(capsys, '--splits', 's.json')
    assert status == 1 and "train names 'z'" in text
    # A file that is missing is no mistake of the split, and annotations that cannot be read say nothing about it.
    Path('s.json').write_text('{"splits": {"tea": {"train": ["a.npy"], "val": [], "test": ["b"]}}}')
    assert "missing in the annotations; remove it, or write 'a'" in run(capsys, '--splits', 's.json')[1]
    Path('s.json').write_text('{"splits": {"tea": {"train": ["a"], "val": [], "test": ["b"]}}}')
    Path('data/mine/features/a.npy').unlink()
    assert run(capsys, '--splits', 's.json')[1].count('- ') == 1 + run(capsys)[1].count('- ')  # no validation recording
    Path('jsons/mine.json').write_text('{')
    assert 's.json' not in run(capsys, '--splits', 's.json')[1]


@pytest.mark.parametrize(('options', 'name', 'message'), [
    ([], 'yours', 'jsons/yours.json does not exist'), (['--time_scale', 'x'], 'mine', 'TIME_SCALE is'),
    (['--frames'], 'mine', 'data/mine/frames does not exist'), (['-o', 'x.doc'], 'mine', '-o x.doc: expected a pic'),
    (['-o', 'none/mine.png'], 'mine', 'its folder does not exist'), (['--laout'], 'mine', 'unrecognized arguments')])
def test_a_mistake_in_the_command_gives_status_2(mine, capsys, options, name, message):
    status, text, log = run(capsys, *options, name=name)
    assert (status, text, log.count('\n')) == (2, '', 1) and message in log


# The parts ------------------------------------------------------------------------------------------------------------

def test_inspection_keeps_the_recordings_in_order(mine):
    found = inspect_dataset(Path('jsons/mine.json'), Path('data/mine/features'), background=['0'])
    assert [(recording.handle, recording.gaps) for recording in found.tasks['tea'].recordings] == [('a', 0), ('b', 2)]
    assert [action.length for action in found.tasks['tea'].actions] == [4, 1, 3, 4]


def test_quartiles_are_those_of_numpy():
    for values in ([3], [1, 2], [5, 1, 9, 9, 2]):
        assert quartiles(values) == pytest.approx(np.percentile(values, [25, 50, 75]))


@pytest.mark.parametrize(('shortest', 'longest'), [(1, 1), (1, 3), (7, 40), (3, 5000)])
def test_every_bin_of_the_picture_holds_a_duration(shortest, longest):
    for wide in (False, True):
        edges = _bin_edges(shortest, longest, wide)
        assert edges[0] == shortest - 0.5 and edges[-1] > longest
        steps = np.diff(edges)
        assert (steps >= 1).all() and np.array_equal(steps, np.round(steps)) and len(steps) <= 2 * BINS
        assert (np.diff(steps) >= 0).all()


@pytest.mark.parametrize('tasks', [1, 5, 8])
def test_pictures_of_few_and_many_tasks(tmp_path, monkeypatch, tasks):
    monkeypatch.setattr(duration_picture, 'MAX_PANELS', 6)
    durations = {f'task ${number}': [2**power for power in range(number % 7 + 1)] for number in range(tasks)}
    draw_durations('mine', {**durations, 'empty': []}, tmp_path / 'mine.png')
    assert (tmp_path / 'mine.png').read_bytes().startswith(b'\x89PNG')
