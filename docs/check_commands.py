"""Run the commands in the documents: python docs/check_commands.py [PAGE ...].

A block fenced as ```bash is a command that must succeed. The blocks of a page run in order, in a single shell, in a
separate copy of the project, in which ``demo/`` contains the demo dataset and the three environment variables point to
it. Other blocks are not run: ```text is output, and ```console is a command that needs a user's own data, another
machine, or hours.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = ('.*', '__pycache__', 'demo', 'data', 'output', 'dset_jsons')
WRITE_DEMO = ('-m', 'tools.demo', 'demo', '--people', '6', '--repetitions', '1')  # a small one
VARIABLES = {'DATASET_PATH': 'demo/data', 'JSON_DPATH': 'demo/dset_jsons', 'OUTPUT_PATH': 'demo/output'}
RUN = 'bash'
SHOWN_LINES = 15  # of a failed block's output


class Block(NamedTuple):
    """A fenced block: its language or '', the number of its first line within the page, and its text."""

    language: str
    line: int
    text: str


class Failure(NamedTuple):
    """A block that failed, and the end of what its page printed."""

    block: Block
    output: str


def read_blocks(markdown: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page.

    Raises:
        ValueError: a fence is never closed.
    """
    lines = iter(enumerate(markdown.splitlines(), 1))
    for number, line in lines:
        fence = _fence(line)
        if not fence:
            continue
        indent = len(line) - len(line.lstrip())
        body = []
        for _, inside in lines:
            if _fence(inside).startswith(fence) and not inside.strip().strip(fence[0]):
                break
            body.append(inside[min(indent, len(inside) - len(inside.lstrip())):])
        else:
            raise ValueError(f'line {number}: the fence {fence} is never closed')
        yield Block(next(iter(line.strip().strip(fence[0]).split()), ''), number + 1, '\n'.join(body) + '\n')


def _fence(line: str) -> str:
    """Return the marks of a line that starts a fence, '' for any other line."""
    text = line.strip()
    marks = text[:len(text) - len(text.lstrip(text[:1]))] if text[:1] in ('`', '~') else ''
    return marks if len(marks) >= 3 else ''


def shell_script(blocks: Sequence[Block], progress: Path) -> str:
    """Return a script of the blocks that stops at the first error and writes its position to ``progress``."""
    parts = ['set -eo pipefail']
    for position, block in enumerate(blocks):
        parts += [f'echo {position} > {shlex.quote(str(progress))}', block.text]
    return '\n'.join(parts)


def run_blocks(blocks: Sequence[Block], folder: Path, timeout: float) -> Failure | None:
    """Run blocks in order in a single shell.

    Args:
        blocks: commands of a page.
        folder: working directory, with the demo dataset.
        timeout: seconds for all of them.

    Returns:
        The first block that fails, or None.
    """
    environment = {**os.environ, **VARIABLES, 'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'}
    progress, log = (folder.with_name(f'{folder.name}.{ending}') for ending in ('progress', 'log'))
    with log.open('w') as output:
        # A separate session, so that processes started by the blocks can be stopped with them.
        shell = subprocess.Popen(['bash', '-c', shell_script(blocks, progress)], cwd=folder, env=environment,
                                 stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            shell.wait(timeout)
        except subprocess.TimeoutExpired:
            output.write(f'\nstopped after {timeout:.0f} s')
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
    if shell.wait() == 0:
        return None
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    return Failure(blocks[int(progress.read_text())], '\n'.join(lines[-SHOWN_LINES:]))


def check_pages(pages: Sequence[Path], timeout: float) -> int:
    """Run the commands of each page in a fresh copy of the project, report them, and return the number of failures."""
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary) / 'fresh'
        shutil.copytree(ROOT, fresh, ignore=shutil.ignore_patterns(*NOT_COPIED))
        subprocess.run([sys.executable, *WRITE_DEMO], cwd=fresh, check=True, stdout=subprocess.DEVNULL)
        for page in pages:
            blocks = [block for block in read_blocks(page.read_text(encoding='utf-8')) if block.language == RUN]
            if not blocks:
                continue
            folder = Path(temporary) / page.stem
            shutil.copytree(fresh, folder)
            started = time.monotonic()
            failure = run_blocks(blocks, folder, timeout)
            shutil.rmtree(folder)
            print(f'{"FAILED" if failure else "ok":7} {page.name}: {len(blocks)} blocks, '
                  f'{time.monotonic() - started:.1f} s', flush=True)
            if failure:
                failures += 1
                print(f'{page}:{failure.block.line}: this block fails\n{failure.block.text}--\n{failure.output}')
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description='Run the commands in the documents.')
    parser.add_argument('pages', nargs='*', type=Path, metavar='PAGE', help='default: README.md and docs/*.md')
    parser.add_argument('--timeout', type=float, default=300, metavar='SECONDS', help='for a page; default 300')
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that running blocks are stopped, too
    pages = arguments.pages or [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
    return 1 if check_pages(pages, arguments.timeout) else 0


if __name__ == '__main__':
    sys.exit(main())
