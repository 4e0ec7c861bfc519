"""A run that was killed or stopped goes on to the very numbers of one that was not."""

import csv
import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest

import multitask_train
from tests.launch import run_program
from tools.demo import DemoSettings, write_demo
from training.epoch import training_step
from utils.ckpt_save import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
RUN = Path('output/multi-task-setting/V1___GTCC_tiny')
pytestmark = pytest.mark.usefixtures('blank_pictures')
SMALL = ['1', '--dataset', 'tiny', '--gtcc', '--tstack', '--mcn', '--progress', '-od', '4', '-lr', '1e-3', '-ep', '4',
         '--set', 'SKIP_RATE=6', '--no_tensorboard',  # whose files are named by the second
         *(option for key in ('ARCHITECTURE.attn_layers=[4]', 'ARCHITECTURE.drop_layers=[4]',
                             'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=4') for option in ('--set', key))]
# Runs the command line of its arguments and sends itself the signal of its first one in the step of its second.
STOPPED = '''
import os, sys
import training.epoch
from multitask_train import main
signum, last, steps = int(sys.argv[1]), int(sys.argv[2]), []
take = training.epoch.training_step
def step(*arguments, **more):
    steps.append(1)
    if len(steps) == last:
        os.kill(os.getpid(), signum)
    return take(*arguments, **more)
training.epoch.training_step = step
sys.exit(main(sys.argv[3:]))
'''


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A folder with a tiny demo dataset and a run of four epochs that nothing stopped."""
    root = tmp_path_factory.mktemp('tiny')
    variables = write_demo(root, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=6))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        for variable, path in variables.items():
            patched.setenv(variable, str(path))
        assert multitask_train.main(SMALL) == 0
    return root


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """An output folder of its own as the working directory, with the environment set to the dataset."""
    monkeypatch.chdir(tmp_path)
    for variable, folder in (('DATASET_PATH', whole / 'data'), ('JSON_DPATH', whole / 'dset_jsons'),
                             ('OUTPUT_PATH', 'output')):
        monkeypatch.setenv(variable, str(folder))
    return tmp_path


def rows(run):
    with (run / 'losses.csv').open() as file:
        return [{**row, 'seconds': ''} for row in csv.DictReader(file)]


def steps_per_epoch(run):
    return int(load_checkpoint(run / 'ckpt/last.pt')['optimizer_state_dict']['state'][0]['step']) // 4


def assert_same_run(run, other):
    assert rows(run) == rows(other) and len(rows(run)) == 4
    last, others = (load_checkpoint(path / 'ckpt/last.pt') for path in (run, other))
    weights = last['model_state_dict']
    assert set(weights) == set(others['model_state_dict'])
    assert all(weights[name].equal(others['model_state_dict'][name]) for name in weights)
    assert last['random_state'] == others['random_state'] and last['best'] == others['best']
    names = [sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*')) for folder in (run, other)]
    assert names[0] == names[1]


def test_a_run_killed_in_its_third_epoch_goes_on_to_the_same_numbers(whole, place):
    steps = steps_per_epoch(whole / RUN)
    assert steps > 2
    killed = run_program('-c', STOPPED, int(signal.SIGKILL), 2 * steps + 2, *SMALL, cwd=place, pictures=False,
                         PYTHONPATH=str(ROOT))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert load_checkpoint(RUN / 'ckpt/last.pt')['epoch'] == 2
    (RUN / f'ckpt/.last.{os.getpid()}.partial.pt').write_bytes(b'half of a checkpoi')  # as if killed while writing
    (RUN / 'losses.csv').unlink()  # as if killed between checkpoint and table
    assert multitask_train.main([*SMALL, '--resume']) == 0
    assert_same_run(RUN, whole / RUN)


def test_a_stopped_run_tells_how_it_goes_on_and_does(whole, place, monkeypatch, capsys):
    steps, taken = steps_per_epoch(whole / RUN), []

    def step(*arguments, **more):
        taken.append(1)
        if len(taken) == steps + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr('training.epoch.training_step', step)
        assert multitask_train.main(SMALL) == 143
    assert len(taken) == steps + 2 and load_checkpoint(RUN / 'ckpt/last.pt')['epoch'] == 1
    message, command = capsys.readouterr().err.strip().splitlines()[-1].split('continue with: ')
    assert message.startswith('interrupted; the last complete epoch is saved')
    program, *arguments = shlex.split(command)
    assert program == 'python' and arguments == ['multitask_train.py', *SMALL, '--resume']
    assert multitask_train.main(arguments[1:]) == 0
    assert_same_run(RUN, whole / RUN)


def test_a_run_stopped_in_its_first_epoch_starts_again(place, monkeypatch, capsys):
    def step(*arguments, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        return training_step(*arguments, **more)

    monkeypatch.setattr('training.epoch.training_step', step)
    assert multitask_train.main(SMALL) == 143
    assert not list((RUN / 'ckpt').iterdir())
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith('interrupted before an epoch was complete; start again with: ')
    assert message.endswith('--overwrite')


def test_a_finished_run_that_lost_its_table_gets_it_back(whole, place):
    shutil.copytree(whole / RUN, RUN)
    expected = rows(RUN)
    (RUN / 'losses.csv').unlink()
    assert multitask_train.main([*SMALL, '--resume']) == 0
    assert rows(RUN) == expected
