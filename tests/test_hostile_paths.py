"""Paths and numbers that the system or the machine refuses, on every command line: one line, nothing written."""

import importlib
import sys
from pathlib import Path

import pytest

from tests.launch import run_program

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ['1', '--gtcc', '--naive', '--dataset', 'x']
# Program and its arguments; {p} is the path.
COMMANDS = [
    ('multitask_train', [*NETWORK, '--config', '{p}']), ('multitask_train', [*NETWORK, '--splits', '{p}']),
    ('multitask_train', [*NETWORK, '--init_from', '{p}']), ('singletask_train', [*NETWORK, '--config', '{p}']),
    ('eval', ['-f', '{p}']), ('predict', ['-f', '{p}', '--features', 'a.npy']),
    ('predict', ['-f', 'run', '--features', '{p}']), ('tools.import_segments', ['new', '{p}']),
    ('tools.import_segments', ['new', 'table.csv', '--features', '{p}']), ('tools.check', ['x', '--splits', '{p}']),
    ('tools.check', ['x', '-o', '{p}/a.png']), ('tools.demo', ['{p}/demo']), ('tools.extract', ['{p}', 'new']),
    ('tools.convert_checkpoint', ['{p}', '--run', 'new_run']), ('tools.convert_checkpoint', ['a.npy', '--run', '{p}']),
]
PATHS = {'long': 'x' * 300, 'long folder': 'x' * 300 + '/a', 'loop': 'loop/a', 'below a file': 'a.npy/a',
         'no path': '/dev/null/a', 'not UTF-8': 'nowhere/gr\udcf6sse'}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ('DATASET_PATH', 'JSON_DPATH', 'OUTPUT_PATH'):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'a.npy').write_bytes(b'no array')
    (tmp_path / 'table.csv').write_text('recording,start,end,label\na,0,6,x\n')
    return tmp_path


def refused(capsys, program, arguments):
    """Return the error line of a program."""
    assert importlib.import_module(program).main(arguments) == 2, arguments
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, errors
    return errors[0]


@pytest.mark.parametrize('kind', PATHS)
def test_paths_that_the_system_refuses(place, capsys, kind):
    before = sorted(place.rglob('*'))
    for program, arguments in COMMANDS:
        if kind == 'not UTF-8' and program == 'tools.demo':  # which can write there
            continue
        message = refused(capsys, program, [argument.replace('{p}', PATHS[kind]) for argument in arguments])
        assert len(message) < 1200 and '\udcf6' not in message
    assert sorted(place.rglob('*')) == before


@pytest.mark.parametrize(('program', 'arguments', 'expected'), [
    ('multitask_train', [*NETWORK, '--workers', '257'], 'WORKERS is 257'),
    ('multitask_train', [*NETWORK, '--set', 'ARCHITECTURE.num_heads=1000000'], 'num_heads is 1000000'),
    ('multitask_train', [*NETWORK, '--set', 'PROGRESS_LOSS.samples_per_video=10000000'], 'samples_per_video'),
    ('multitask_train', [*NETWORK, '--set', 'GTCC_PARAMS.max_gmm_iters=1000000000'], 'max_gmm_iters'),
    ('singletask_train', [*NETWORK, '--set', 'SEED=' + '9' * 5000], 'SEED'),
    ('predict', ['-f', 'run', '--features', 'a.npy', '--fps', '1e999999999'], '--fps'),
    ('tools.import_segments', ['new', 'table.csv', '--labels_per_feature', '1e999999999'], 'expected a number'),
    ('tools.import_segments', ['new', 'table.csv', '--unit', 'seconds', '--fps', '1' + '0' * 500], 'expected a number'),
    ('tools.extract', ['a.npy', 'new', '--fps', '1e-999999999'], '--fps'),
    ('tools.extract', ['a.npy', 'new', '--workers', '100000'], '--workers 100000'),
    ('tools.extract', ['a.npy', 'new', '--batch_size', '1000000000'], '--batch_size 1000000000'),
    ('tools.demo', ['out', '--people', '1000', '--repetitions', '1000'], 'recordings, which take hours')])
def test_numbers_that_ask_for_hours_or_terabytes(place, capsys, program, arguments, expected):
    assert expected in refused(capsys, program, arguments)


ENTRIES = [('eval', '-f'), ('tools.check', 'x', '--splits'), ('tools.demo',), ('tools.import_segments', 'new')]


# Root may read everything, but not without its capabilities: all of them are dropped, in the version of the header.
DROP = '''
import ctypes, os, sys
from importlib import import_module
header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert os.getuid() or ctypes.CDLL(None).capset(header, none) == 0
'''


@pytest.mark.skipif(sys.platform != 'linux', reason='permissions of folders and capabilities of processes')
def test_folders_without_permission(place):
    (place / 'closed/in').mkdir(parents=True)
    (place / 'closed').chmod(0)
    code = f'''{DROP}
for program, *arguments in {ENTRIES!r}:
    print(import_module(program).main([*arguments, {str(place / 'closed/in')!r}]))'''
    try:
        done = run_program('-c', code, cwd=place, PYTHONPATH=str(ROOT))
    finally:
        (place / 'closed').chmod(0o700)
    assert done.stdout.split() == ['2'] * len(ENTRIES), done.stderr
    assert done.stderr.count('error: ') == len(ENTRIES) and 'Traceback' not in done.stderr
