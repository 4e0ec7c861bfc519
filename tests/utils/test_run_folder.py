"""Creating, finding and replacing the folder of a run."""

import json
import os
import re
import resource
import signal

import pytest

from utils import run_folder
from utils.errors import UserError
from utils.run_folder import (
    RunFolder,
    check_run_folder,
    create_run_folder,
    is_single_task_folder,
    open_run_folder,
)

SPLITS = {'splits': {'task': {'train': ['a'], 'val': [], 'test': ['b']}}, 'groups': {'a': 'ann'}}


def make_run(path, **options):
    return create_run_folder(path, **{'config': {'SEED': 3}, 'splits': SPLITS, 'overwrite': False, **options})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_folder_contains_settings_and_an_empty_ckpt(tmp_path):
    folder = make_run(tmp_path / 'multi-task-setting/V1___tcc_demo')
    assert {path.name for path in folder.path.iterdir()} == {'ckpt', 'config.json', 'splits.json'}
    assert not list(folder.checkpoints.iterdir())
    assert json.loads(folder.config.read_text()) == {'SEED': 3}
    assert json.loads(folder.splits.read_text()) == SPLITS
    assert (folder.losses.name, folder.log.name) == ('losses.csv', 'train.log')


def test_run_is_replaced_only_with_overwrite(tmp_path):
    folder = make_run(tmp_path / 'run')
    (folder.checkpoints / 'last.pt').write_text('weights')
    with pytest.raises(UserError, match='run: this run exists; set overwrite .--overwrite. to replace it, or give'):
        make_run(folder.path)
    assert (folder.checkpoints / 'last.pt').read_text() == 'weights'
    assert make_run(folder.path, overwrite=True) == RunFolder(folder.path)
    assert names(folder.path) == ['ckpt', 'config.json', 'splits.json'] and names(folder.checkpoints) == []
    assert names(tmp_path) == ['run']


@pytest.mark.parametrize('step', ['write_json', 'replace_folder'])
@pytest.mark.parametrize('ends', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_failure_keeps_the_existing_run_and_leaves_nothing_else(tmp_path, monkeypatch, step, ends):
    folder = make_run(tmp_path / 'run')
    (folder.checkpoints / 'last.pt').write_text('weights')

    def end(*arguments):
        raise ends

    monkeypatch.setattr(run_folder, step, end)
    with pytest.raises((UserError, KeyboardInterrupt)) as caught:
        make_run(folder.path, overwrite=True)
    if isinstance(ends, OSError):
        assert re.fullmatch('.*run: cannot be made .No space left on device.; set OUTPUT_PATH .*', str(caught.value))
    assert (folder.checkpoints / 'last.pt').read_text() == 'weights' and names(tmp_path) == ['run']
    with pytest.raises((UserError, KeyboardInterrupt)):
        make_run(tmp_path / 'other')
    assert names(tmp_path) == ['run']


def test_full_disk_error_names_the_requested_folder(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing past the limit raises an OSError
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(UserError, match='run/splits.json: cannot be written .File too large.'):
            make_run(tmp_path / 'run', config={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert names(tmp_path) == []


def test_leftover_of_the_same_process_id_is_replaced(tmp_path):
    (tmp_path / f'.run.{os.getpid()}.new/ckpt').mkdir(parents=True)
    assert make_run(tmp_path / 'run').config.exists()


@pytest.mark.parametrize('kind', ['folder', 'file'])
def test_folder_that_is_not_a_run_is_never_removed(tmp_path, kind):
    path = tmp_path / 'thesis'
    kept = path / 'chapter.txt' if kind == 'folder' else path
    kept.parent.mkdir(exist_ok=True)
    kept.write_text('years of work')
    with pytest.raises(UserError, match='contains no config.json, so it is not a run; move it elsewhere'):
        make_run(path, overwrite=True)
    assert kept.read_text() == 'years of work'


def test_checking_writes_nothing(tmp_path):
    check_run_folder(tmp_path / 'run', overwrite=False)
    assert not (tmp_path / 'run').exists()
    check_run_folder(tmp_path, overwrite=True)  # an empty folder may be used


def test_error_names_the_variable_if_the_folder_cannot_be_created(tmp_path):
    (tmp_path / 'output').write_text('a file')
    with pytest.raises(UserError, match='run: cannot be made .*; set OUTPUT_PATH'):
        make_run(tmp_path / 'output/run')


def test_opening_requires_a_run_with_checkpoints(tmp_path):
    folder = make_run(tmp_path / 'run')
    assert open_run_folder(folder.path) == folder
    (tmp_path / 'other').mkdir()
    for name, message in (('other', 'contains no ckpt/'), ('nowhere', 'no such run folder')):
        with pytest.raises(UserError, match=f'^{tmp_path / name}: {message}'):
            open_run_folder(tmp_path / name)
    # A folder of runs, and what is in a run: the message names the run.
    for place, run in (('', 'run'), ('run/ckpt', 'run'), ('run/ckpt/last.pt', 'run'), ('run/nowhere', 'run')):
        with pytest.raises(UserError, match=f', perhaps {tmp_path / run}$'):
            open_run_folder(tmp_path / place)


def test_a_run_without_its_settings_is_not_taken_for_runs_of_single_tasks(tmp_path):
    folder = make_run(tmp_path / 'run')
    folder.config.unlink()
    folder.splits.touch()
    assert not is_single_task_folder(folder.path)
    with pytest.raises(UserError, match='contains no config.json, so it is not a run'):
        check_run_folder(folder.path, overwrite=True)


def test_error_suggests_the_most_similar_run(tmp_path):
    make_run(tmp_path / 'V1___GTCC_tea.progress')
    with pytest.raises(UserError, match=r'printed, perhaps .*/V1___GTCC_tea\.progress$'):
        open_run_folder(tmp_path / 'V1___GTCC_tea.progres')
