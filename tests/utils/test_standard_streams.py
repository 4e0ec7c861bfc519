"""Closed, full, non-blocking standard streams, and what is printed on a terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.tables import format_table
from utils.text import one_line, printable, short_text

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = '''
import os, sys
from utils.command_line import run_command
from utils.errors import UserError
from utils.logging import get_logger, set_up_logging
from utils.standard_streams import say
def command():
    set_up_logging()
    get_logger('x').info('logged')
    say('shown \\x1b[31m', 'second')
    with open(sys.argv[1], 'w') as file: file.write('whole')
    if len(sys.argv) > 2: raise UserError('refused')
sys.exit(run_command(command))
'''


def run(tmp_path, redirection, *more):
    """Run the program in a shell; returns status, standard output and error, and what it wrote to its file."""
    (tmp_path / 'program.py').write_text(PROGRAM)
    script = f'exec "{sys.executable}" "{tmp_path}/program.py" "{tmp_path}/file" {" ".join(more)} {redirection}'
    done = subprocess.run(['bash', '-c', script], cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr, (tmp_path / 'file').read_text()


@pytest.mark.parametrize(('redirection', 'status', 'out', 'error'), [
    ('', 0, 'shown \\x1b[31m\nsecond\n', 'I logged\n'),
    ('>/dev/full', 2, '', 'No space left on device'), ('>&-', 2, '', 'Bad file descriptor'),
    ('2>/dev/full', 0, 'shown \\x1b[31m\nsecond\n', ''), ('2>&-', 0, 'shown \\x1b[31m\nsecond\n', ''),
    ('>&- 2>&-', 2, '', ''), ('<&- >&- 2>&-', 2, '', ''), ('> >(true)', 141, '', '')])
def test_work_is_done_whatever_the_streams_are(tmp_path, redirection, status, out, error):
    if redirection == '> >(true)':
        redirection = '> >(exec <&-; sleep 0)'
    found = run(tmp_path, redirection)
    assert found[3] == 'whole' and 'Traceback' not in found[2] and 'Exception' not in found[2]
    if status == 141:  # the reader may still have been there
        assert found[0] in (0, 141) and found[2] == 'I logged\n'
        return
    assert found[:2] == (status, out) and error in found[2]
    assert found[2].count('error: ') == (1 if error and status else 0)


def test_an_error_is_reported_once_if_the_output_is_full_as_well(tmp_path):
    status, _, errors, _ = run(tmp_path, '>/dev/full', 'refuse')
    assert status == 2 and errors == 'I logged\nerror: refused\n'


def test_non_blocking_output_is_waited_for(tmp_path):
    code = ('from utils.command_line import run_command; from utils.standard_streams import say\n'
            'run_command(lambda: [say("x" * 1000) for _ in range(1000)])')
    read, write = os.pipe()
    os.set_blocking(write, False)
    with subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        with os.fdopen(read, 'rb') as reader:
            assert len(reader.read()) == 1001 * 1000
        assert process.stderr.read() == b'' and process.wait() == 0


@pytest.mark.parametrize(('text', 'expected'), [
    ('tea', 'tea'), ('Übung 日本 \U0001f375', 'Übung 日本 \U0001f375'), ('a\x1b[2Jb', r'a\x1b[2Jb'),
    ('a\nThis dataset can be trained on.', r'a\nThis dataset can be trained on.'), ('\u202eevil', r'\u202eevil'),
    ('gr\udcf6sse', r'gr\udcf6sse'), ('\x9b31m', r'\x9b31m'), ('a\u2028b', r'a\u2028b'), ('\x07\x08\r', r'\x07\x08\r')])
def test_nothing_that_is_printed_controls_a_terminal(text, expected):
    assert printable(text) == expected
    assert expected in format_table([{'label': text, 'n': 1}], 'title') and printable(expected) == expected
    assert len(one_line(text).splitlines()) == 1


def test_texts_of_messages_have_bounded_length():
    assert short_text('x' * 1000) == 'x' * 97 + '...' and short_text('tea') == 'tea'
