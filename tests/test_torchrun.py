"""Training in two processes: one set of files, a run that goes on, and the end of one process as the end of all."""

import contextlib
import csv
import json
import signal
import time
from pathlib import Path

import pytest

import multitask_train
from tests.launch import run_processes, run_program
from tools.demo import DemoSettings, write_demo
from utils.ckpt_save import load_checkpoint, load_model
from utils.errors import UserError
from utils.locks import locked_folder

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path('output/multi-task-setting')
OPTIONS = ['--dataset', 'tiny', '--gtcc', '--tstack', '--mcn', '--progress', '-od', '4', '-lr', '1e-3', '-ep', '2',
           '--no_tensorboard',  # slow to import
           *(option for key in ('ARCHITECTURE.attn_layers=[4]', 'ARCHITECTURE.drop_layers=[4]',
                                'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=4') for option in ('--set', key))]
# Runs the command line of its arguments in two processes, the second of which is killed in its first step of the second
# epoch: by torchrun, but with forks instead of processes that load torch again.
KILLED = '''
import os, signal, sys
import multitask_train, training.epoch
from torch.distributed import run
from torch.distributed.launcher.api import elastic_launch
take = training.epoch.training_step
def step(module, optimizer, videos, times, epoch, *more):
    if epoch == 1 and os.environ['RANK'] == '1':
        os.kill(os.getpid(), signal.SIGKILL)
    return take(module, optimizer, videos, times, epoch, *more)
def train(*arguments):
    training.epoch.training_step = step
    sys.exit(multitask_train.main(arguments))
def launch(config, entrypoint):
    config.start_method = 'fork'
    return lambda option, program, *arguments: elastic_launch(config, train)(*arguments)
run.elastic_launch = launch
run.main(['--standalone', '--nproc_per_node=2', 'multitask_train.py', *sys.argv[1:]])
'''


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A tiny demo dataset of one task, in the working directory and the environment."""
    root = tmp_path_factory.mktemp('tiny')
    variables = write_demo(root, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=6))
    annotations = json.loads((root / 'dset_jsons/tiny.json').read_text())
    first = dict(list(annotations.items())[:1])
    (root / 'dset_jsons/tiny.json').write_text(json.dumps(first))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        for variable, path in variables.items():
            patched.setenv(variable, str(path))
        yield root


@pytest.fixture(scope='module')
def whole(folder):
    """A run in two processes that nothing stopped, with what each of them did."""
    finished = run_processes(2, ROOT / 'multitask_train.py', 'whole', *OPTIONS, cwd=folder)
    assert [process.returncode for process in finished] == [0, 0], finished
    return RUNS / 'Vwhole___GTCC_tiny', finished


def wait_until_free(run):
    """Wait until no process writes to a run: the one that survived may end after torchrun does."""
    for _ in range(1200):
        with contextlib.suppress(UserError), locked_folder(run, 'busy'):
            return
        time.sleep(0.1)
    raise AssertionError(f'{run} is still being written to')


def losses(run):
    with (run / 'losses.csv').open() as file:
        return [{**row, 'seconds': ''} for row in csv.DictReader(file)]


def test_the_first_process_alone_writes_and_logs(whole):
    run, processes = whole
    first, second = (process.stderr for process in processes)
    assert second == '' and 'on cpu, one of 2 processes' in first
    assert {path.name for path in run.iterdir()} == {
        'ckpt', 'config.json', 'splits.json', 'losses.csv', 'train.log', 'dual_loss_comparison.png',
        'train_loss_epochlevel.png', 'val_loss_epochlevel.png'}
    recordings = len(json.loads((run / 'splits.json').read_text())['splits']['make_tea']['train'])
    steps = 2 * -(-recordings // (2 * 2))  # two epochs, two processes with batches of two
    assert f'{steps} steps taken, 0 skipped' in first
    last = load_checkpoint(run / 'ckpt/last.pt')
    assert last['optimizer_state_dict']['state'][0]['step'] == steps == last['steps']


def test_a_checkpoint_is_that_of_a_single_process(whole):
    run, _ = whole
    model, _, checkpoint = load_model(run / 'ckpt/best_model_combined.pt')
    assert not any(name.startswith('module.') or 'never_used' in name for name in checkpoint['model_state_dict'])
    assert model.progress_head is not None
    assert multitask_train.main(['whole', *OPTIONS, '--resume']) == 0  # it is finished: one process finds it so


def test_the_death_of_a_process_ends_the_run_which_then_goes_on(whole, folder):
    died = run_program('-c', KILLED, 'cut', *OPTIONS, cwd=folder, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    assert died.returncode != 0 and f'exitcode  : {-signal.SIGKILL}' in died.stderr
    run = RUNS / 'Vcut___GTCC_tiny'
    assert load_checkpoint(run / 'ckpt/last.pt')['epoch'] == 1
    wait_until_free(run)
    finished = run_processes(2, ROOT / 'multitask_train.py', 'cut', *OPTIONS, '--resume', cwd=folder)
    assert [process.returncode for process in finished] == [0, 0], finished
    assert losses(run) == losses(whole[0])
    last, expected = (load_checkpoint(path / 'ckpt/last.pt')['model_state_dict'] for path in (run, whole[0]))
    assert all(last[name].equal(expected[name]) for name in expected)
