"""Training and evaluation as a user runs them, on the demo dataset: what they print, write and refuse."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as eval_command
import multitask_train
from models.heads.base import EmbeddedRecording
from models.heads.filter.segmented import SegmentedFilter
from models.heads.filter.unsegmented_fit import fit_filter
from recordings.from_config import load_dataset, split_recordings
from recordings.splits import Splits
from tests.launch import run_program
from utils.ckpt_save import load_model

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ['multitask_train.py', '1', '--ego', '--mcn', '-bs', '2', '-lr', '1e-3']
SMALL = ['-od', '8', *(option for key in (
    'ARCHITECTURE.attn_layers=[8]', 'ARCHITECTURE.drop_layers=[8]', 'BASEARCH.NAIVE_ARCH.layers=[16]',
    'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=8') for option in ('--set', key))]


def environment(root):
    return {'DATASET_PATH': str(root / 'data'), 'JSON_DPATH': str(root / 'dset_jsons'),
            'OUTPUT_PATH': str(root / 'output')}


def run(root, *command, pictures=False):
    return run_program(*command, pictures=pictures, **environment(root))


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Two tasks of the demo under the name egoprocel, every fifth frame, and just enough people for validation."""
    root = tmp_path_factory.mktemp('demo')
    written = run(root, '-m', 'tools.demo', root, '--name', 'egoprocel', '--seed', '3', '--people', '7',
                  '--repetitions', '1', '--width', '12')
    assert written.returncode == 0, written.stderr
    assert 'synthetic' in written.stdout
    edit_json(root / 'dset_jsons/egoprocel.json', lambda tasks: tasks.pop('dress_wound'))
    edit_json(root / 'dset_jsons/egoprocel.splits.json', lambda content: content['splits'].pop('dress_wound'))
    for path in (root / 'data/egoprocel').glob('*/*.npy'):
        np.save(path, np.load(path)[::5])  # the annotations are those of all frames
    return root


@pytest.fixture(scope='module')
def progress_run(demo):
    """A run of the plan's kind: GTCC with a progress head and a curriculum."""
    trained = run(demo, *TRAIN, '--gtcc', '--tstack', '-ep', '4', '--config', 'configs/progress_plan.json', *SMALL,
                  '-m', 'progress')
    assert trained.returncode == 0, trained.stderr
    return demo / 'output/multi-task-setting/V1___GTCC_egoprocel.progress', trained.stderr


def test_run_folder_and_log_are_complete(progress_run):
    folder, log = progress_run
    assert {path.name for path in (folder / 'ckpt').iterdir()} == {
        'best_model_combined.pt', 'best_model_alignment.pt', 'last.pt', 'epoch-2.pt', 'epoch-3.pt', 'epoch-4.pt'}
    assert {path.name for path in folder.iterdir()} == {
        'ckpt', 'dual_loss_comparison.png', 'train_loss_epochlevel.png', 'val_loss_epochlevel.png', 'losses.csv',
        'config.json', 'splits.json', 'train.log', 'tensorboard'}
    for text in ('New best COMBINED loss', 'New best ALIGNMENT loss', 'lambda 0.0100', 'lambda 0.5000', 'total_loss',
                 'alignment_loss', 'progress_loss'):
        assert text in log and text in (folder / 'train.log').read_text()


def test_losses_hold_their_identities(progress_run):
    rows = [{name: float(value) for name, value in row.items()} for row in read_rows(progress_run[0] / 'losses.csv')]
    assert [row['lambda'] for row in rows] == pytest.approx(np.linspace(0.01, 0.5, 4))
    for row in rows:
        assert row['train_total'] == pytest.approx(row['train_alignment'] + row['lambda'] * row['train_progress'],
                                                   rel=1e-5)
        assert row['val_total'] == pytest.approx(row['val_alignment'] + 0.5 * row['val_progress'], rel=1e-5)


def test_settings_of_the_plan_reach_the_model(progress_run):
    stored = json.loads((progress_run[0] / 'config.json').read_text())
    assert stored['PROGRESS_LOSS']['samples_per_video'] == 1
    splits = json.loads((progress_run[0] / 'splits.json').read_text())['splits']
    assert stored['ARCHITECTURE']['num_heads'] == len(splits)
    checkpoint = torch.load(progress_run[0] / 'ckpt/best_model_combined.pt', weights_only=True)
    assert any(name.startswith('progress_head.gru') for name in checkpoint['model_state_dict'])


def test_both_checkpoints_are_evaluated_side_by_side(demo, progress_run):
    folder, _ = progress_run
    result = run(demo, 'eval.py', '-f', folder, '--checkpoint_type', 'both')
    assert result.returncode == 0, result.stderr
    assert 'side by side' in result.stdout and 'frames ahead' in result.stdout
    for name in ('best_model_combined', 'best_model_alignment'):
        ogpe = read_rows(folder / 'EVAL' / name / 'ogpe.csv')
        assert list(ogpe[0]) == ['task', 'ogpe', 'CoV'] and ogpe[-1]['task'] == 'MEAN'
        progress = read_rows(folder / 'EVAL' / name / 'action_progress.csv')
        assert list(progress[0]) == [
            'task', 'num_recordings', 'num_actions', 'mae', 'mae_short', 'mae_medium', 'mae_long', 'spearman',
            'monotonicity', 'first_frame_error', 'last_frame_error', 'baseline_constant', 'baseline_average_index',
            'baseline_average_index_per_step', 'baseline_paced_per_step', 'baseline_cumulative_distance',
            'baseline_survival', 'baseline_survival_per_step', 'skill']
        assert all(0 < float(row['mae']) < 1 for row in progress)
        assert list((folder / 'EVAL' / name).glob('progress_*.png'))


@pytest.fixture
def in_process(demo, monkeypatch, blank_pictures):
    """Let commands that run in this process find the dataset: starting a process takes longer than most of them."""
    for variable, value in environment(demo).items():
        monkeypatch.setenv(variable, value)


@pytest.mark.parametrize('kind', ['combined', 'alignment'])
def test_each_checkpoint_type_evaluates_itself_alone(in_process, progress_run, tmp_path, kind):
    folder = shutil.copytree(progress_run[0], tmp_path / 'run', ignore=shutil.ignore_patterns('EVAL'))
    assert eval_command.main(['-f', str(folder), '--checkpoint_type', kind]) == 0
    assert [path.name for path in (folder / 'EVAL').iterdir()] == [f'best_model_{kind}']


@pytest.fixture(scope='module')
def recommended_run(demo):
    """A run of the recommended preset."""
    trained = run(demo, 'multitask_train.py', '1', '--ego', '--config', 'configs/progress_recommended.json')
    assert trained.returncode == 0, trained.stderr
    folder, = (demo / 'output/multi-task-setting').glob('V1___*_egoprocel')
    return folder


def test_the_recommended_preset_trains_and_evaluates_without_a_look_ahead(demo, recommended_run):
    row, = read_rows(recommended_run / 'losses.csv')
    assert 0 < float(row['val_progress']) < 0.2  # as soon as it is fitted
    result = run(demo, 'eval.py', '-f', recommended_run, pictures=True)
    assert result.returncode == 0, result.stderr
    assert 'the encoder sees 0 frames ahead' in result.stdout
    folder = recommended_run / 'EVAL/best_model_combined'
    for name in ('action_progress', 'unsegmented', 'overall', 'intervals', 'contrast'):
        rows = read_rows(folder / f'{name}.csv')
        assert len(rows) > 1 and rows[-1]['task'] == 'MEAN', name
    scores = read_rows(folder / 'action_progress.csv')
    assert all(0 < float(row['mae']) < float(row['baseline_constant']) for row in scores)


def test_the_head_learns_from_the_training_recordings_alone(demo, recommended_run, monkeypatch):
    for variable, value in environment(demo).items():
        monkeypatch.setenv(variable, value)
    model, config, _ = load_model(recommended_run / 'ckpt/last.pt')
    splits = Splits(**json.loads((recommended_run / 'splits.json').read_text()))
    training = [EmbeddedRecording(one.task, one.handle, torch.from_numpy(np.load(one.path)).float(), list(one.actions),
                                  one.group)
                for members in split_recordings(load_dataset(config), splits)['train'].values() for one in members]
    steps = {(one.task, action.name) for one in training for action in one.actions}
    assert set(map(tuple, config.PROGRESS_LOSS.steps)) == steps and len(splits) > 1
    for task, known in zip(model.progress_head.tasks, model.progress_head.filters, strict=True):
        members = [one for one in training if one.task == task]
        given = SegmentedFilter(len(known.labels), config.OUTPUT_DIMENSIONALITY)
        given.fit([known.code(one) for one in members])
        inferred = fit_filter(members, known.labels, choose=False)
        parts = [(known.segmented, given, part) for part in ('order', 'durations', 'grid', 'cells')]
        parts += [(known.unsegmented, inferred, part) for part in ('features', 'cells', 'short', 'logistic', 'grid')]
        for fitted, expected, part in parts:
            found = getattr(fitted, part).state_dict()
            for name, value in getattr(expected, part).state_dict().items():
                torch.testing.assert_close(found[name], value, msg=f'{task}: {part}.{name}')


@pytest.mark.parametrize(('options', 'name'), [
    (['--tcc', '--tstack'], 'tcc'), (['--lav', '--tstack', '--mcn'], 'LAV'), (['--vava', '--naive'], 'VAVA'),
    (['--gtcc', '--naive', '--progress'], 'GTCC'),
    (['--gtcc', '--resnet', '--progress', '--progress_sampling', 'prefix', '--max_frames', '20'], 'GTCC')],
    ids=['tcc-tstack', 'lav-tstack', 'vava-naive', 'gtcc-naive', 'gtcc-resnet50'])
def test_other_losses_and_encoders_train_and_evaluate(demo, in_process, capsys, options, name):
    message = options[1].strip('-')
    assert multitask_train.main([*TRAIN[1:], *options, *SMALL, '-ep', '1', '-m', message]) == 0
    folder = demo / f'output/multi-task-setting/V1___{name}_egoprocel.{message}'
    assert eval_command.main(['-f', str(folder)]) == 0
    has_head = '--progress' in options
    assert (folder / 'EVAL/best_model_combined/action_progress.csv').exists() == has_head
    stored = torch.load(folder / 'ckpt/last.pt', weights_only=True)
    assert any('progress_head' in key for key in stored['model_state_dict']) == has_head
    row = read_rows(folder / 'losses.csv')[0]
    assert (row['train_progress'] != '') == has_head
    if not has_head:
        assert row['train_total'] == row['train_alignment']
        assert 'no progress head' in capsys.readouterr().out


@pytest.fixture
def broken(demo, tmp_path, monkeypatch):
    """A copy of the demo dataset that a test may break, with the environment set to it."""
    for folder in ('dset_jsons', 'data/egoprocel/features'):
        shutil.copytree(demo / folder, tmp_path / folder)
    for variable, value in environment(tmp_path).items():
        monkeypatch.setenv(variable, value)
    return tmp_path


def refused(capsys, command, *arguments):
    """Run a command line in this process; return the one line of its error."""
    status = command.main([str(argument) for argument in arguments])
    message = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    errors = [line for line in message if line.startswith('error: ')]
    assert len(errors) == 1 and message[-1] == errors[0]
    return errors[0]


def edit_annotations(root, change):
    edit_json(root / 'dset_jsons/egoprocel.json', lambda tasks: change(next(iter(tasks.values()))))


def first_feature_file(root):
    return sorted((root / 'data/egoprocel/features').iterdir())[0]


def drop_a_list(task):
    for key in ('hdl_actions', 'hdl_start_times', 'hdl_end_times'):
        task[key].pop()


def halve(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def put_nan(path):
    features = np.load(path)
    features[7, 0] = np.nan
    np.save(path, features)


DAMAGES = {
    'json cut in half': (lambda root: halve(root / 'dset_jsons/egoprocel.json'), 'egoprocel.json'),
    'fewer lists than handles': (lambda root: edit_annotations(root, drop_a_list), 'handles'),
    'actions and times differ': (lambda root: edit_annotations(root, lambda task: task['hdl_actions'][2].pop()),
                                 'labels, '),
    'handle without a file': (lambda root: first_feature_file(root).unlink(), 'no such file'),
    'truncated file': (lambda root: halve(first_feature_file(root)), 'truncated'),
    'NaN': (lambda root: put_nan(first_feature_file(root)), 'frame 7 holds NaN'),
    '1-d features': (lambda root: np.save(first_feature_file(root), np.ones(50, np.float32)), 'expected (T, D)'),
    'two widths': (lambda root: np.save(first_feature_file(root), np.ones((50, 3), np.float32)), 'expected the same'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_data_ends_in_one_line_before_anything_is_written(broken, capsys, damage):
    break_it, expected = DAMAGES[damage]
    break_it(broken)
    assert expected in refused(capsys, multitask_train, '1', '--tcc', '--ego', '--tstack')
    assert not (broken / 'output').exists()


@pytest.mark.parametrize('variable', ['DATASET_PATH', 'JSON_DPATH'])
def test_a_variable_that_points_nowhere_is_named(broken, capsys, monkeypatch, variable):
    monkeypatch.setenv(variable, str(broken / 'nowhere'))
    message = refused(capsys, multitask_train, '1', '--tcc', '--ego', '--tstack')
    assert f'{variable}={broken / "nowhere"}' in message and 'python -m tools.demo' in message


@pytest.mark.parametrize(('options', 'expected'), [
    (['--set', 'PROGRES_LOSS.hidden_dim=3'], "'PROGRESS_LOSS.hidden_dim'"), (['--gtcc', '--tcc'], 'not allowed with'),
    (['--set', 'VAVA_PARAMS.maxIter=1'], 'VAVA_PARAMS.maxIter'), (['-ep', 'many'], 'invalid int value'),
    (['--no_such_option'], 'unrec'), (['--progress', '--condition_on_step'], 'condition_on_step is True, but it'),
    (['--config', 'configs/progress_recommended.json', '--progress_sampling', 'prefix'], 'expected dense with')])
def test_wrong_options_end_in_one_line(broken, capsys, options, expected):
    loss = [] if '--gtcc' in options else ['--tcc']
    assert expected in refused(capsys, multitask_train, '1', '--ego', '--tstack', *loss, *options)
    assert not (broken / 'output').exists()


def test_steps_without_a_training_action_are_refused(broken, capsys):
    path = broken / 'dset_jsons/egoprocel.json'
    annotations = json.loads(path.read_text())
    for task in annotations.values():
        task['hdl_actions'] = [['0'] * len(labels) for labels in task['hdl_actions']]
    path.write_text(json.dumps(annotations))
    command = ['1', '--ego', '--config', 'configs/progress_recommended.json']
    assert 'recordings contain no action' in refused(capsys, multitask_train, *command)
    assert not (broken / 'output').exists()


def test_an_existing_run_is_kept_unless_overwritten(broken, capsys):
    command = ['1', '--tcc', '--ego', '--naive', '-ep', '1', *SMALL, '--no_tensorboard']
    assert multitask_train.main(command) == 0
    losses = broken / 'output/multi-task-setting/V1___tcc_egoprocel/losses.csv'
    before = losses.read_bytes()
    capsys.readouterr()
    assert '--overwrite' in refused(capsys, multitask_train, *command)
    assert losses.read_bytes() == before
    assert multitask_train.main([*command, '--overwrite']) == 0
    config = losses.with_name('config.json').read_bytes()
    assert 'LEARNING_RATE' in refused(capsys, multitask_train, *command, '--resume', '-lr', '0.5')
    splits = losses.with_name('splits.json')
    other = json.loads(splits.read_text())
    parts = next(iter(other['splits'].values()))
    parts['train'], parts['test'] = parts['train'] + parts['test'], []
    another = broken / 'other.json'
    another.write_text(json.dumps(other))
    message = refused(capsys, multitask_train, *command, '--resume', '--splits', another)
    assert f'--splits {another}: differs from the split of the run, ' in message
    assert multitask_train.main([*command, '--resume', '--splits', str(splits)]) == 0
    assert losses.with_name('config.json').read_bytes() == config
    assert multitask_train.main([*command, '--resume']) == 0


def test_evaluation_refuses_what_it_cannot_evaluate(broken, capsys, tmp_path):
    (tmp_path / 'empty/ckpt').mkdir(parents=True)
    assert 'No checkpoints found' in refused(capsys, eval_command, '-f', tmp_path / 'empty')
    assert 'contains no ckpt/' in refused(capsys, eval_command, '-f', tmp_path / 'data')
    assert 'nowhere: no such run folder' in refused(capsys, eval_command, '-f', tmp_path / 'nowhere')
    assert 'invalid choice' in refused(capsys, eval_command, '-f', tmp_path, '--checkpoint_type', 'nonsense')


REFUSED = [['multitask_train.py', '1', '--gtcc', '--ego', '--tstack'], ['singletask_train.py', '1', '--gtcc', '--ego'],
           ['eval.py', '-f', 'output/none'], ['-m', 'tools.check', 'none'],
           ['-m', 'tools.import_segments', 'new', 'none']]
# A new process in which nothing but torch is loaded, which takes most of a start; each command line is a fork of it.
START_EACH = '''
import gc, json, os, runpy, sys, torch
gc.freeze()
for number, command in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if not child:
        os.dup2(os.open(f'{sys.argv[2]}/error{number}', os.O_WRONLY | os.O_CREAT), 2)
        sys.argv[:] = command[command[0] == '-m':]
        try:
            (runpy.run_module if command[0] == '-m' else runpy.run_path)(sys.argv[0], run_name='__main__')
        except SystemExit as end:
            os._exit(end.code)  # freeing what torch has loaded takes longer than the command
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


def test_errors_reach_the_shell_as_status_2(tmp_path):
    # Everything that a program needs to start has to be there, not only in the process of the tests.
    result = subprocess.run([sys.executable, '-c', START_EACH, json.dumps(REFUSED), tmp_path], cwd=ROOT,
                            env={**os.environ, **environment(tmp_path)}, capture_output=True, text=True, timeout=600)
    assert (result.stdout, result.stderr) == ('2\n' * len(REFUSED), '')
    for number, command in enumerate(REFUSED):
        assert len((tmp_path / f'error{number}').read_text().strip().splitlines()) == 1, command
    assert not (tmp_path / 'output').exists()
