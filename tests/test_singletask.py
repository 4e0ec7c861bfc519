"""One model per task, as a user trains and evaluates them, on the demo dataset."""

import csv
import json
import shutil
import signal

import numpy as np
import pytest

import eval as eval_command
import singletask_train
from evaluation import compare
from evaluation.progress_metrics import skill
from tools.demo import DemoSettings, write_demo
from utils.ckpt_save import load_checkpoint

COMMAND = ['1', '--tcc', '--naive', '--ego', '--progress', '--progress_sampling', 'dense', '-ep', '2', '-lr', '1e-3',
           '-od', '8', '--set', 'BASEARCH.NAIVE_ARCH.layers=[16]', '--set', 'SKIP_RATE=4', '--no_tensorboard']
pytestmark = pytest.mark.usefixtures('blank_pictures')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp('single')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OUTPUT_PATH', str(root / 'output'))
        settings = DemoSettings(people=6, repetitions=1, width=12)
        for variable, path in write_demo(root, 'egoprocel', settings=settings).items():
            patch.setenv(variable, str(path))
        assert singletask_train.main(COMMAND) == 0
        yield root / 'output/single-task-setting/V1___tcc_egoprocel'


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def tasks_of(folder):
    return set(json.loads((folder / 'splits.json').read_text())['splits'])


def test_each_task_is_a_run_of_its_own(trained):
    tasks = tasks_of(trained)
    assert len(tasks) == 3 and {path.name for path in trained.iterdir()} >= {*tasks, 'splits.json'}
    weights = []
    for task in tasks:
        run = trained / task
        assert tasks_of(run) == {task} and len(rows_of(run / 'losses.csv')) == 2
        config = json.loads((run / 'config.json').read_text())
        assert config['MULTITASK'] is False
        assert (run / 'train.log').read_text().count('epoch 2/2') == 1
        state = load_checkpoint(run / 'ckpt/last.pt')['model_state_dict']
        weights.append(np.concatenate([value.numpy().ravel() for value in state.values()]))
    assert not np.array_equal(weights[0], weights[1])


def test_evaluation_gathers_the_tasks(trained, capsys):
    assert eval_command.main(['-f', str(trained), '--checkpoint_type', 'both']) == 0
    shown = capsys.readouterr().out
    assert 'side by side (MEAN over tasks)' in shown
    gathered = rows_of(trained / 'EVAL/best_model_combined/action_progress.csv')
    assert {row['task'] for row in gathered} == {*tasks_of(trained), 'MEAN'} and gathered[-1]['task'] == 'MEAN'
    for row in gathered[:-1]:
        own = rows_of(trained / row['task'] / 'EVAL/best_model_combined/action_progress.csv')
        assert own[0] == row
    assert float(gathered[-1]['mae']) == pytest.approx(np.mean([float(row['mae']) for row in gathered[:-1]]))
    # The tables of all tasks compare as those of a run do.
    assert compare.main([str(trained), '--columns', 'action_progress.mae']) == 0
    row = capsys.readouterr().out.splitlines()[2].split()
    assert row == ['tcc_egoprocel', '1', f'{float(gathered[-1]["mae"]):.4f}']


def test_the_mean_skill_is_that_of_the_mean_errors(trained):
    assert eval_command.main(['-f', str(trained)]) == 0
    mean = {column: float(value) for column, value in
            rows_of(trained / 'EVAL/best_model_combined/action_progress.csv')[-1].items() if column != 'task'}
    assert mean['skill'] == pytest.approx(skill(mean), abs=1e-12)


def test_a_task_without_test_recordings_is_left_out(trained, tmp_path, capsys):
    copied = tmp_path / trained.name
    shutil.copytree(trained, copied)
    splits = json.loads((copied / 'splits.json').read_text())
    first, *others = splits['splits']
    splits['splits'][first]['test'] = []
    (copied / 'splits.json').write_text(json.dumps(splits))
    assert eval_command.main(['-f', str(copied)]) == 0
    assert {row['task'] for row in rows_of(copied / 'EVAL/best_model_combined/ogpe.csv')} == {*others, 'MEAN'}
    assert first in capsys.readouterr().err
    for task in others:
        splits['splits'][task]['test'] = []
    (copied / 'splits.json').write_text(json.dumps(splits))
    assert 'no task has test recordings' in refused(capsys, eval_command, '-f', copied)


def test_a_single_run_is_evaluated_like_any_other(trained, capsys):
    task = sorted(tasks_of(trained))[0]
    assert eval_command.main(['-f', str(trained / task)]) == 0
    assert task in capsys.readouterr().out


def test_going_on_trains_what_is_missing_and_leaves_the_rest(trained, capsys):
    first, *_, last = tasks_of(trained)
    before = (trained / last / 'losses.csv').read_bytes()
    kept = (trained / first / 'ckpt/last.pt').read_bytes()
    shutil.rmtree(trained / last)
    assert singletask_train.main([*COMMAND, '--resume']) == 0
    assert (trained / first / 'ckpt/last.pt').read_bytes() == kept
    without_seconds = [[{**row, 'seconds': ''} for row in csv.DictReader(table.decode().splitlines())]
                       for table in (before, (trained / last / 'losses.csv').read_bytes())]
    assert without_seconds[0] == without_seconds[1]


def test_all_earlier_runs_go_before_the_first_one_is_trained(trained, tmp_path, monkeypatch):
    """Else a run that is interrupted and goes on would take the earlier runs of later tasks for its own."""
    folder = tmp_path / 'output/single-task-setting' / trained.name
    shutil.copytree(trained, folder)
    monkeypatch.setenv('OUTPUT_PATH', str(tmp_path / 'output'))

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr('training.run.alignment_training_loop', stop)
        assert singletask_train.main([*COMMAND, '-ep', '1', '--overwrite']) == 130
    assert len(list(folder.iterdir())) == 2  # the split, and the run that was about to begin
    assert singletask_train.main([*COMMAND, '-ep', '1', '--resume']) == 0
    for task in tasks_of(folder):
        mtimes = [path.stat().st_mtime for path in (folder / task / 'ckpt/last.pt', folder / 'splits.json')]
        assert mtimes[0] > mtimes[1]


@pytest.mark.parametrize('options', [
    ['--init_from', 'make_tea'], ['--init_from', '/nowhere'],
    ['--set', 'BASEARCH.NAIVE_ARCH.input_dimensions=7']])
def test_a_mistake_leaves_the_earlier_runs(trained, tmp_path, monkeypatch, capsys, options):
    folder = tmp_path / 'output/single-task-setting' / trained.name
    shutil.copytree(trained, folder)
    monkeypatch.setenv('OUTPUT_PATH', str(tmp_path / 'output'))
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.pt')}
    options = [option if option != 'make_tea' else folder / 'make_tea' for option in options]
    refused(capsys, singletask_train, *COMMAND, *options, '--overwrite')
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.pt')} == before and len(before) > 8
    # Nor is there a new folder that would stand in the way of the next attempt.
    mistake = ['--set', 'BASEARCH.NAIVE_ARCH.input_dimensions=7']
    refused(capsys, singletask_train, 'new', *COMMAND[1:], *options, *mistake)
    assert [path.name for path in folder.parent.iterdir()] == [trained.name]


def test_a_signal_in_the_last_epoch_of_a_task_stops_before_the_next_one(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('OUTPUT_PATH', str(tmp_path / 'output'))
    written = []

    def interrupted(*args, last):
        written.append(last)
        if last:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr('models.alignment_training_loop._write_history', interrupted)
        assert singletask_train.main(COMMAND) == 143
    assert written == [False, True]
    folder = tmp_path / 'output/single-task-setting' / trained.name
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1
    assert '--resume' in capsys.readouterr().err


def refused(capsys, module, *arguments):
    capsys.readouterr()
    assert module.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    return error


def test_mistakes_are_named(trained, capsys):
    assert 'this run exists; set overwrite' in refused(capsys, singletask_train, *COMMAND)
    assert 'start the runs without --resume' in refused(capsys, singletask_train, '2', *COMMAND[1:], '--resume')
    assert 'a run for each task' in refused(capsys, eval_command, '-f', trained, '--report')


def test_a_task_without_actions_is_left_out_where_the_head_knows_steps(trained, tmp_path, monkeypatch, capsys):
    annotations = json.loads((trained.parents[2] / 'dset_jsons/egoprocel.json').read_text())
    first, second, _ = annotations
    tiny = {task: {key: values[:4] for key, values in annotations[task].items()} for task in (first, second)}
    tiny[first]['hdl_actions'] = [['0'] * len(labels) for labels in tiny[first]['hdl_actions']]
    (tmp_path / 'egoprocel.json').write_text(json.dumps(tiny))
    monkeypatch.setenv('JSON_DPATH', str(tmp_path))
    monkeypatch.setenv('OUTPUT_PATH', str(tmp_path / 'output'))
    command = [*COMMAND, '-ep', '1', '--set', 'PROGRESS_LOSS.head=hsmm', '--set', 'SKIP_RATE=8']
    assert singletask_train.main(command) == 0
    assert f'left out because their training recordings contain no action: {first}' in capsys.readouterr().err
    folder = tmp_path / 'output/single-task-setting' / trained.name
    assert tasks_of(folder) == {second} and (folder / second / 'ckpt/last.pt').exists()
    # The split of the first call is that of the run, and may be given again:
    splits = {task: {'train': annotated['handles'][:3], 'val': [], 'test': annotated['handles'][3:]}
              for task, annotated in tiny.items()}
    (tmp_path / 'own.json').write_text(json.dumps({'splits': splits}))
    assert singletask_train.main([*command, '--splits', str(tmp_path / 'own.json'), '--overwrite']) == 0
    assert singletask_train.main([*command, '--splits', str(tmp_path / 'own.json'), '--resume']) == 0
    # A task of the split that the annotations have lost, and annotations of nothing but background:
    (tmp_path / 'egoprocel.json').write_text(json.dumps({first: tiny[first]}))
    assert 'but not in the dataset' in refused(capsys, singletask_train, *command, '--resume')
    assert 'contain no action' in refused(capsys, singletask_train, *command, '--overwrite')
    # Tasks named like files of the folder:
    for name in ('EVAL', 'splits.json'):
        (tmp_path / 'egoprocel.json').write_text(json.dumps({name: tiny[second]}))
        assert f"task '{name}': is the name of a file" in refused(capsys, singletask_train, *command, '--overwrite')


def test_a_task_that_was_not_trained_yet_is_named(trained, capsys):
    task = sorted(tasks_of(trained))[0]
    (trained / task).rename(trained / 'elsewhere')
    try:
        assert f'{task}: no such run folder' in refused(capsys, eval_command, '-f', trained)
    finally:
        (trained / 'elsewhere').rename(trained / task)
