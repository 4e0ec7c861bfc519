"""Creation and atomic replacement of folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils import folders
from utils.errors import UserError
from utils.folders import make_folder, replace_folder, staged_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_make_folder_creates_parents_and_accepts_an_existing_folder(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / 'a/b', '')
    assert (tmp_path / 'a/b').is_dir()
    (tmp_path / 'file').write_text('kept')
    with pytest.raises(UserError, match=r'file/b: cannot be made \(Not a directory\); choose another$'):
        make_folder(tmp_path / 'file/b', 'choose another')


def test_staged_folder_replaces_an_existing_folder(tmp_path):
    for content in ('first', 'second'):
        with staged_folder(tmp_path / 'data') as staged:
            (staged / 'file').write_text(content)
            replace_folder(staged, tmp_path / 'data')
        assert names(tmp_path) == ['data'] and (tmp_path / 'data/file').read_text() == content


def test_failure_removes_the_staged_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / 'data'):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_existing_folder_is_restored_if_replacing_fails(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/file').write_text('kept')
    with pytest.raises(OSError, match='No such file'):
        replace_folder(tmp_path / 'missing', tmp_path / 'data')
    assert names(tmp_path) == ['data'] and (tmp_path / 'data/file').read_text() == 'kept'


def test_only_folders_of_killed_processes_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, '-c', '']) as process:
        killed = process.pid
    living = os.getppid()
    kept = [f'.run.{living}.new', '.run.x.new', f'.run2.{killed}.new', f'run.{killed}.new']
    for name in (f'.run.{killed}.new', f'.run.{killed}.old', *kept):
        (tmp_path / name / 'inside').mkdir(parents=True)
    (tmp_path / 'run').mkdir()
    with staged_folder(tmp_path / 'run'):
        pass
    assert names(tmp_path) == sorted([*kept, 'run'])


def test_folder_of_a_process_killed_between_two_renames_is_restored(tmp_path):
    with subprocess.Popen([sys.executable, '-c', '']) as process:
        killed = process.pid
    (tmp_path / f'.run.{killed}.old/inside').mkdir(parents=True)
    with staged_folder(tmp_path / 'run'):
        assert names(tmp_path / 'run') == ['inside']


@pytest.mark.parametrize('exchanges', [True, False])
def test_whole_folder_is_at_its_path_whenever_names_can_be_exchanged(tmp_path, monkeypatch, exchanges):
    for name in ('new', 'run'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'file').write_text(name)
    renamed = []
    monkeypatch.setattr(Path, 'rename', lambda path, target: renamed.append(path) or os.rename(path, target))
    if not exchanges:
        monkeypatch.setattr(folders, 'exchange_names', lambda first, second: False)
    replace_folder(tmp_path / 'new', tmp_path / 'run')
    assert names(tmp_path) == ['run'] and (tmp_path / 'run/file').read_text() == 'new'
    assert bool(renamed) != exchanges


def test_target_of_a_link_is_replaced(tmp_path):
    (tmp_path / 'disk/run').mkdir(parents=True)
    (tmp_path / 'disk/run/file').write_text('first')
    (tmp_path / 'run').symlink_to(tmp_path / 'disk/run')
    with staged_folder(tmp_path / 'run') as staged:
        assert staged.parent == tmp_path / 'disk'
        (staged / 'file').write_text('second')
        replace_folder(staged, tmp_path / 'run')
    assert names(tmp_path) == ['disk', 'run'] and names(tmp_path / 'disk') == ['run']
    assert (tmp_path / 'run').is_symlink() and (tmp_path / 'run/file').read_text() == 'second'
