"""Locks of folders between processes."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from utils import run_folder
from utils.errors import UserError
from utils.locks import locked_folder, one_at_a_time
from utils.run_folder import (
    check_run_folder,
    create_run_folder,
    create_single_task_folder,
    locked_run,
)

ROOT = Path(__file__).resolve().parents[2]
HOLD = ('import sys; from pathlib import Path; from utils.run_folder import locked_run\n'
        'with locked_run(Path(sys.argv[1])): print("held", flush=True); sys.stdin.read()')


@pytest.fixture
def run(tmp_path):
    return create_run_folder(tmp_path / 'run', {'SEED': 0}, {'splits': {}}, overwrite=False).path


def test_run_of_another_process_is_not_replaced_resumed_or_shared_until_it_ends(run):
    with subprocess.Popen([sys.executable, '-c', HOLD, run], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        before = (run / 'config.json').read_text()
        for refused in (lambda: check_run_folder(run, overwrite=True),
                        lambda: create_run_folder(run, {'SEED': 1}, {}, overwrite=True),
                        lambda: create_single_task_folder(run, {}, overwrite=True),
                        lambda: locked_run(run).__enter__()):
            with pytest.raises(UserError, match='run: another process is writing to this run; wait until'):
                refused()
        assert (run / 'config.json').read_text() == before and [path.name for path in run.parent.iterdir()] == ['run']
        holder.kill()  # without a chance to tidy up
    create_run_folder(run, {'SEED': 1}, {}, overwrite=True)
    assert '1' in (run / 'config.json').read_text()


def test_new_run_is_locked_from_its_first_moment_until_the_stack_closes(run):
    with ExitStack() as locks:
        create_run_folder(run, {'SEED': 2}, {}, overwrite=True, locks=locks)
        with pytest.raises(UserError, match='another process'):
            create_run_folder(run, {'SEED': 3}, {}, overwrite=True)
    create_run_folder(run, {'SEED': 4}, {}, overwrite=True)


def test_second_new_run_of_the_same_name_does_not_replace_the_first(tmp_path, monkeypatch):
    def other_was_first(new, path):
        path.mkdir()
        (path / 'config.json').write_text('other')
        os.rename(new, path)

    monkeypatch.setattr(run_folder, 'replace_folder', other_was_first)
    with pytest.raises(UserError, match='cannot be made'):
        create_run_folder(tmp_path / 'run', {}, {}, overwrite=False)
    assert (tmp_path / 'run/config.json').read_text() == 'other'


def test_forked_process_does_not_keep_the_lock(tmp_path):
    read, write = os.pipe()
    with locked_folder(tmp_path, 'busy'):
        child = os.fork()
        if child == 0:  # such as a loader process that outlives a killed run
            os.write(write, b'started')
            time.sleep(600)
            os._exit(0)
    try:
        assert os.read(read, 7) == b'started'
        with locked_folder(tmp_path, 'busy'):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_one_at_a_time_waits(tmp_path):
    code = ('import sys, time; from pathlib import Path; from utils.locks import one_at_a_time\n'
            'with one_at_a_time(Path(sys.argv[1])):\n    print(1, flush=True); time.sleep(0.3)\n'
            '    Path(sys.argv[1], "x").touch()')
    with subprocess.Popen([sys.executable, '-c', code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with one_at_a_time(tmp_path):
            assert (tmp_path / 'x').exists()


def test_folder_that_is_being_replaced_is_busy(tmp_path, monkeypatch):
    (tmp_path / 'a').mkdir()
    monkeypatch.setattr(os.path, 'samestat', lambda opened, named: False)
    with pytest.raises(UserError, match='a: busy'), locked_folder(tmp_path / 'a', 'busy'):
        pass
