"""Folders are made or say why not; a staged folder takes its place whole, or all is as before."""

import os
import subprocess
import sys

import pytest

from utils.errors import UserError
from utils.files import make_folder, replace_folder, staged_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / 'a/b', '')
    assert (tmp_path / 'a/b').is_dir()
    (tmp_path / 'file').write_text('kept')
    with pytest.raises(UserError, match=r'file/b: cannot be made \(Not a directory\); choose another$'):
        make_folder(tmp_path / 'file/b', 'choose another')


def test_a_staged_folder_takes_the_place_of_an_earlier_one(tmp_path):
    for content in ('first', 'second'):
        with staged_folder(tmp_path / 'data') as staged:
            (staged / 'file').write_text(content)
            replace_folder(staged, tmp_path / 'data')
        assert names(tmp_path) == ['data'] and (tmp_path / 'data/file').read_text() == content


def test_what_fails_before_its_place_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / 'data'):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_the_earlier_folder_comes_back_where_the_new_one_cannot_be_put_in_place(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/file').write_text('kept')
    with pytest.raises(OSError, match='No such file'):
        replace_folder(tmp_path / 'not there', tmp_path / 'data')
    assert names(tmp_path) == ['data'] and (tmp_path / 'data/file').read_text() == 'kept'


def test_what_a_killed_process_was_making_goes_and_no_more(tmp_path):
    with subprocess.Popen([sys.executable, '-c', '']) as process:
        killed = process.pid
    living = os.getppid()
    kept = [f'.run.{living}.new', '.run.x.new', f'.run2.{killed}.new', f'run.{killed}.new']
    for name in (f'.run.{killed}.new', f'.run.{killed}.old', *kept):
        (tmp_path / name / 'inside').mkdir(parents=True)
    with staged_folder(tmp_path / 'run'):
        pass
    assert names(tmp_path) == sorted(kept)


def test_the_folder_that_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / 'disk/run').mkdir(parents=True)
    (tmp_path / 'disk/run/file').write_text('first')
    (tmp_path / 'run').symlink_to(tmp_path / 'disk/run')
    with staged_folder(tmp_path / 'run') as staged:
        assert staged.parent == tmp_path / 'disk'
        (staged / 'file').write_text('second')
        replace_folder(staged, tmp_path / 'run')
    assert names(tmp_path) == ['disk', 'run'] and names(tmp_path / 'disk') == ['run']
    assert (tmp_path / 'run').is_symlink() and (tmp_path / 'run/file').read_text() == 'second'
