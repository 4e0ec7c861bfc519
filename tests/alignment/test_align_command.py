"""align.py as a user runs it: what it writes, prints and refuses."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import align as align_command
from alignment.output import COLUMNS
from configs.choices import ENCODERS
from configs.entry_config import parse_training_arguments
from models.build import build_model, fill_in_sizes
from prediction import TrainedRun
from recordings.feature_info import FeatureInfo, write_feature_info
from tests.alignment.steps import WIDTH, recording
from tests.launch import run_program
from tests.prediction.conftest import save_run  # noqa: F401 (a fixture)
from tools import check

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures('blank_pictures')  # in this process: the first test draws them
STEPS = {'a': [(0, 12), (1, 20), (2, 15)], 'b': [(0, 20), (3, 10), (1, 12), (2, 10)], 'c': [(2, 15), (0, 9), (1, 25)]}
TABLE = 'start,end,label\n0,12,0_cut\n12,32,1_pour\n32,47,2_stir\n'
NAMES = {'0': '0_cut', '1': '1_pour', '2': '2_stir', '3': ''}


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Three recordings of a dataset in the working directory, and a table of the labels of one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DATASET_PATH', 'data')
    monkeypatch.setenv('JSON_DPATH', 'jsons')
    for folder in ('data/mine/features', 'jsons'):
        Path(folder).mkdir(parents=True)
    for seed, (name, steps) in enumerate(STEPS.items()):
        np.save(f'data/mine/features/{name}.npy', recording(steps, seed=seed)[0].numpy())
    Path('a.csv').write_text(TABLE)
    return [f'data/mine/features/{name}.npy' for name in STEPS]


def call(*arguments):
    return align_command.main([*map(str, arguments), '--device', 'cpu'])


def rows_of(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_the_command_writes_matches_pictures_and_a_dataset(recordings, capsys):
    leftover = Path('jsons/.mine.999999999-0123abcd.partial.json')  # of a command that was killed
    leftover.parent.mkdir(exist_ok=True)
    leftover.touch()
    done = run_program(ROOT / 'align.py', *recordings, '--labels', 'a.csv', '--annotations', 'jsons/mine.json',
                       '--task', 'cook', '--fps', '2', '--unit', 'frames', '-o', 'out', cwd=Path.cwd())
    assert done.returncode == 0 and not leftover.exists(), done.stderr
    assert done.stdout.startswith('reference: a\nb: 80.8% of 52 frames matched') and 'jsons/mine.json' in done.stdout
    assert sorted(path.name for path in Path('out').iterdir()) == ['b.csv', 'b.png', 'c.csv', 'c.png']
    for name in 'bc':
        rows, true = rows_of(Path(f'out/{name}.csv')), recording(STEPS[name])[1]
        assert list(rows[0]) == list(COLUMNS)
        assert [row['frame'] for row in rows] == [str(frame) for frame in range(len(true))]
        assert [row['step'] for row in rows] == [NAMES[label] for label in true]
        assert all((row['reference_frame'] == '') == (row['step'] == '') for row in rows)
        assert all(float(row['time_s']) == int(row['frame']) / 2 for row in rows)
        assert all(0 <= float(row[column]) <= 1 for row in rows for column in ('confidence', 'step_probability'))
        assert imread(f'out/{name}.png').std() > 0
    assert json.loads(Path('jsons/mine.json').read_text())['cook'] == {
        'handles': ['a', 'b', 'c'],
        'hdl_actions': [['0_cut', '1_pour', '2_stir']] * 2 + [['2_stir', '0_cut', '1_pour']],
        'hdl_start_times': [[0, 12, 32], [0, 30, 42], [0, 15, 24]],
        'hdl_end_times': [[12, 32, 47], [20, 42, 52], [15, 24, 49]]}
    assert check.main(['mine']) == 0
    assert 'This dataset can be trained on.' in capsys.readouterr().out


def test_without_labels_the_medoid_is_the_reference_and_existing_results_need_overwrite(recordings, capsys):
    Path('alignments').mkdir()
    Path('alignments/c.csv').write_text('mine')
    assert call('data/mine/features') == 2 and Path('alignments/c.csv').read_text() == 'mine'
    assert 'alignments/c.csv: exists' in capsys.readouterr().err
    assert call('data/mine/features', '--overwrite') == 0
    printed = capsys.readouterr().out
    reference = printed.split()[1]
    assert reference == 'b'  # it has every step of the others
    assert sorted(path.stem for path in Path('alignments').glob('*.csv')) == sorted(set('abc') - {reference})
    for path in Path('alignments').glob('*.csv'):
        assert {(row['step'], row['time_s']) for row in rows_of(path)} == {('', '')}
    assert not Path('alignments/annotations.json').exists() and 'labels' not in printed


def test_annotated_recordings_show_how_well_the_labels_agree_and_keep_theirs(recordings, capsys, figures):
    given = {'handles': list('abc'), 'hdl_actions': [['x', 'y'], ['x'], []], 'hdl_start_times': [[0, 12], [0], []],
             'hdl_end_times': [[12, 47], [52], []]}
    Path('given.json').write_text(json.dumps({'tea': given}))
    assert call(*recordings, '--labels', 'given.json', '--reference', 'a', '-o', 'out') == 0
    assert '38.5% of its given labels' in capsys.readouterr().out  # the 20 frames of b, of 52, that match x
    written = json.loads(Path('out/annotations.json').read_text())['tea']
    assert written['hdl_actions'][:2] == given['hdl_actions'][:2] and written['hdl_actions'][2] == ['y', 'x', 'y']
    texts = [text.get_text() for figure in figures for axes in figure.axes for text in axes.get_xticklabels()]
    assert texts.count('given') == 1 and texts.count('carried over') == 2


@pytest.fixture
def run_without_head(save_run, monkeypatch):  # noqa: F811
    """A run that was trained for alignment only, and uses every second frame."""
    def save(folder):
        config, _ = parse_training_arguments(['1', '--lav', *ENCODERS['naive'].flags, '--dataset', 'mine', '-od', '8',
                                              '--set', 'SKIP_RATE=2', '--set', 'BASEARCH.NAIVE_ARCH.layers=[16]'], 'x')
        fill_in_sizes(config, WIDTH, 1)
        run = TrainedRun('V1', 'best_model_combined', 1, build_model(config).eval(), config, None, ['tea'])
        return save_run(run, folder)
    return save


def test_a_run_without_a_head_embeds_the_frames_that_it_uses(recordings, run_without_head, tmp_path, capsys):
    folder = run_without_head(tmp_path / 'V1')
    write_feature_info(Path('data/mine/features'), FeatureInfo('net', '1', Fraction(4), 224, 'features', (WIDTH,)))
    assert call(*recordings, '-f', folder, '--labels', 'a.csv', '--unit', 'frames', '--keep_order') == 0
    rows = rows_of(Path('alignments/c.csv'))
    assert [row['frame'] for row in rows] == [str(frame) for frame in range(0, 49, 2)]
    assert all(float(row['time_s']) == int(row['frame']) / 4 for row in rows)
    matched = [int(row['reference_frame']) for row in rows if row['reference_frame']]
    assert matched == sorted(matched) and {frame % 2 for frame in matched} == {0}  # although c has another order
    written = json.loads(Path('alignments/annotations.json').read_text())
    assert list(written) == ['tea'] and [ends[-1] for ends in written['tea']['hdl_end_times']] == [47, 52, 49]


@pytest.mark.parametrize(('options', 'message'), [
    (['data/mine/features/a.npy'], 'a single recording, expected two or more'),
    (['nowhere.npy', 'a.csv'], 'nowhere.npy: no such file or folder'),
    (['data/mine/features', 'data/mine/features/a.npy'], 'a: the name of two recordings'),
    (['data/mine/features', '--reference', 'x'], '--reference x: not the name of a recording, expected one of a, b, c'),
    (['data/mine/features', '--labels', 'a.csv', '--reference', 'b', '--task', 'a/b'], "--task: 'a/b' cannot name"),
    (['data/mine/features', '--annotations', 'x.json'], '--annotations, --task and --unit: apply to --labels'),
    (['data/mine/features', '--checkpoint_type', 'alignment'], '--checkpoint_type: applies to the run of -f'),
    (['data/mine/features', '--labels', 'a.csv', '--annotations', 'no/x.json'], 'no/x.json: its folder does not exist'),
    (['data/mine/features', '--labels', 'a.csv', '--unit', 'seconds'], 'no known common frame rate; give --fps'),
    (['data/mine/features', '--labels', 'a.csv', '--annotations', 'a.csv'], 'a.csv: would be replaced by a result'),
    (['data/mine/features', '--video', 'x.mp4'], 'needs the videos of all recordings, but data/mine/features/a.npy is'),
    (['data/mine/features/b.npy', 'a.mp4'], 'a.mp4: a video, which needs a run'),
    # Found before the video is read.
    (['data/mine/features/b.npy', 'a.mp4', '--labels', 'd.csv'], 'NAME, or call the file like one of b, a'),
    (['data/mine/features', '-f', 'nowhere'], '-f nowhere: no such run folder')])
def test_what_cannot_be_aligned_ends_in_one_line_and_writes_nothing(recordings, capsys, options, message):
    Path('d').mkdir()
    Path('a.mp4').write_bytes(b'')
    Path('d.csv').write_text('start,end,label\n0,4,cut\n')
    assert call(*options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and message in errors[0]
    assert not Path('alignments').exists()
