"""Folders that are made or say why not, and folders that are whole or not there."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.atomic_write import is_another_process
from utils.errors import UserError


def make_folder(folder: Path, source: str, advice: str) -> None:
    """Make a folder and those above it, unless they are there.

    Args:
        folder: to be made.
        source: option or variable that names it; '' where none does.
        advice: how to mend it where it cannot be made.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{source}{folder}: cannot be made ({error.strerror}); {advice}') from error


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, to be filled and put in its place by :func:`replace_folder`.

    It is removed at the end of the block where it is still there; what killed processes left of such folders is removed
    at the beginning. Of a link, the folder that it leads to counts.
    """
    path = path.resolve()
    _remove_leftovers(path)
    staged = _beside(path, 'new')
    try:
        staged.mkdir(parents=True)
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Rename a folder onto its place; an earlier one there is removed, or comes back if that fails.

    Of a link, the folder that it leads to is replaced.
    """
    path = path.resolve()
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path, 'old')
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, state: str) -> Path:
    return path.with_name(f'.{path.name}.{os.getpid()}.{state}')


def _remove_leftovers(path: Path) -> None:
    """Remove folders that a process was making or replacing when it was killed; those of a living one stay."""
    leftover = re.compile(rf'\.{re.escape(path.name)}\.(\d+)\.(new|old)')
    for folder in path.parent.iterdir() if path.parent.is_dir() else ():
        match = leftover.fullmatch(folder.name)
        if match and not is_another_process(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)
