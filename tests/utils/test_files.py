"""Atomic writing of files, and reading of JSON."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils import files
from utils.errors import UserError
from utils.files import atomic_path, read_json, remove_leftovers, write_csv, write_json

ROOT = Path(__file__).resolve().parents[2]


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / 'table.csv'
    with atomic_path(str(path)) as temporary:
        temporary.write_text('new')
        assert not path.exists() and temporary.parent == tmp_path and temporary.suffix == '.csv'
    assert path.read_text() == 'new'
    assert [file.name for file in tmp_path.iterdir()] == ['table.csv']


@pytest.mark.parametrize(('raised', 'expected', 'message'), [
    (OSError(28, 'No space left on device'), UserError, 'table.csv: cannot be written .No space left on device.; free'),
    (ZeroDivisionError('defect'), ZeroDivisionError, 'defect'), (KeyboardInterrupt(), KeyboardInterrupt, None)])
def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, raised, expected, message):
    path = tmp_path / 'table.csv'
    path.write_text('old')
    with pytest.raises(expected, match=message), atomic_path(path) as temporary:
        temporary.write_text('half')
        raise raised
    assert path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['table.csv']


def test_missing_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match='cannot be written .No such file or directory.; make the folder .*/nowhere or'):
        write_json(tmp_path / 'nowhere/config.json', {})


def test_json_is_readable(tmp_path):
    content = {'task': ['Café', 1, None, 0.5]}
    write_json(tmp_path / 'config.json', content)
    text = (tmp_path / 'config.json').read_text(encoding='utf-8')
    assert json.loads(text) == content and 'Café' in text and text.endswith('}\n')


def test_only_files_of_killed_processes_are_removed(tmp_path):
    dead = subprocess.Popen(['true'])
    dead.wait()
    kept = {'last.pt', '.hidden', '.p01.12.npy', f'.last.{os.getppid()}.partial.pt'}  # the last is being written
    left = {f'.last.{dead.pid}.partial.pt', f'.no ending.{dead.pid}.partial', f'.config.{os.getpid()}.partial.json',
            f'.losses.{10**30}.partial.csv'}
    for name in kept | left:
        (tmp_path / name).write_text('')
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_remove_leftovers_ignores_a_missing_folder(tmp_path):
    remove_leftovers(tmp_path / 'nowhere')


def test_killed_process_keeps_the_old_file_and_leaves_a_removable_file(tmp_path):
    path = tmp_path / 'last.pt'
    path.write_text('old')
    code = ('import os, signal, sys; from utils.files import atomic_path\n'
            'with atomic_path(sys.argv[1]) as temporary:\n'
            '    temporary.write_text("half"); os.kill(os.getpid(), signal.SIGKILL)')
    killed = subprocess.run([sys.executable, '-c', code, path], cwd=ROOT, timeout=600)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == 'old' and len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ['last.pt']


@pytest.mark.parametrize('name', ['a file/table.csv', 'x' * 300 + '.csv'])
def test_failing_cleanup_does_not_hide_the_error(tmp_path, name):
    (tmp_path / 'a file').write_text('')
    with pytest.raises(UserError, match='csv: cannot be written'):
        write_json(tmp_path / name, {})


def test_content_is_synced_before_the_name(tmp_path, monkeypatch):
    synced = []

    def note(descriptor):
        synced.append((os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}')), (tmp_path / 'a.json').exists()))

    monkeypatch.setattr(os, 'fsync', note)
    write_json(tmp_path / 'a.json', {})
    (temporary, existed), *after = synced
    assert re.fullmatch(rf'\.a\.{os.getpid()}-[0-9a-f]{{8}}\.partial\.json', temporary) and not existed
    assert after == [(tmp_path.name, True)]


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'cannot be read .No such file.*expected a split'), (b'{"a": ', 'not valid JSON at line 1, column 7 .*: fix'),
    (b'\xff', 'not valid JSON .*; fix it'), (b'[' * 10**5, 'not valid JSON .*; fix it'),
    (b'{"b": {"a": 1, "a": 2}}', "'a' stands twice")])
def test_invalid_json_is_a_user_error(tmp_path, content, message):
    path = tmp_path / 'splits.json'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f'splits.json: {message}') as caught:
        read_json(path, 'a split', 'fix it')
    assert '\n' not in str(caught.value)


def test_csv_and_json_round_trip(tmp_path):
    write_csv(tmp_path / 'a.csv', ('task', 'mae'), [['tea, hot', 0.1], ['pie', None]])
    assert (tmp_path / 'a.csv').read_bytes() == b'task,mae\r\n"tea, hot",0.1\r\npie,\r\n'
    (tmp_path / 'a.json').write_text('{"a": [1]}', encoding='utf-8-sig')
    assert read_json(tmp_path / 'a.json', 'anything') == {'a': [1]}


@pytest.mark.parametrize('value', [float('nan'), [1, {'a': float('inf')}], {'a': -float('inf')}])
def test_json_never_contains_what_json_does_not_have(tmp_path, value):
    write_json(tmp_path / 'a.json', {'a': 1})
    with pytest.raises(UserError, match='a.json: not written, it would contain NaN or infinity'):
        write_json(tmp_path / 'a.json', value)
    assert read_json(tmp_path / 'a.json', '') == {'a': 1} and [path.name for path in tmp_path.iterdir()] == ['a.json']


def test_links_planted_under_the_temporary_name_are_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    names = []
    for _ in range(3):
        with atomic_path(tmp_path / 'a.csv') as temporary:
            names.append(temporary.name)
    assert len(set(names)) == 3, 'nobody can predict the name'
    monkeypatch.setattr(files, 'token_hex', lambda count: 'guessed')
    (tmp_path / f'.a.{os.getpid()}-guessed.partial.csv').symlink_to(victim)
    with pytest.raises(UserError, match='a.csv: cannot be written .File exists'):
        write_csv(tmp_path / 'a.csv', ['a'], [])
    # A link at the path itself, or to a leftover, does not lead to what it points to either.
    (tmp_path / 'b.csv').symlink_to(victim)
    write_csv(tmp_path / 'b.csv', ['a'], [])
    (tmp_path / f'.c.{10**30}.partial.csv').symlink_to(victim)
    remove_leftovers(tmp_path)
    assert victim.read_text() == 'precious'


def test_file_that_is_being_written_is_no_leftover(tmp_path):
    # In another container, the writer may have the process ID of this one, or one that does not exist here.
    with atomic_path(tmp_path / 'a.csv') as temporary:
        remove_leftovers(tmp_path)
        assert temporary.exists()
    (tmp_path / f'.b.{10**30}-ab12cd34.partial.csv').touch()
    (tmp_path / f'.with.dots.{10**30}-ab12cd34.partial').touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['a.csv']


@pytest.mark.parametrize('name', ['gr\udcf6sse', 'a\ud800', 'tea'])
def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path, name):
    write_json(tmp_path / 'a.json', {'folder': f'/data/{name}'})
    assert json.loads((tmp_path / 'a.json').read_bytes().decode('utf-8')) == {'folder': f'/data/{name}'}
    files.write_text(tmp_path / 'a.txt', name)
    assert (tmp_path / 'a.txt').read_bytes().decode('utf-8') == name.encode('utf-8', 'backslashreplace').decode()


@pytest.mark.parametrize('value', [float('nan'), float('inf'), [{'a': -float('inf')}]])
def test_json_is_always_valid(tmp_path, value):
    write_json(tmp_path / 'a.json', {})
    with pytest.raises(UserError, match='a.json: not written, it would contain NaN'):
        write_json(tmp_path / 'a.json', {'x': value})
    assert json.loads((tmp_path / 'a.json').read_text()) == {}


def test_file_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(files, 'MAX_TEXT_BYTES', 2**20)
    with pytest.raises(UserError, match='/dev/zero: more than 1 MiB'):
        read_json(Path('/dev/zero'), 'a split')


def test_repeated_names_are_found_in_linear_time():
    names = [f'recording_{number}' for number in range(50_000)]
    started = time.process_time()
    assert files.first_repeated(names) is None and files.first_repeated([*names, names[-1]]) == names[-1]
    assert time.process_time() - started < 2
