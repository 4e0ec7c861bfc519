"""Creation of folders, and their replacement in one step."""

import ctypes
import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError
from utils.files import is_another_process

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux' renameat2


def make_folder(folder: Path, advice: str) -> None:
    """Create a folder and its parents unless they exist.

    Args:
        folder: path of the folder.
        advice: what to do if it cannot be created, for the message.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{folder}: cannot be made ({error.strerror}); {advice}') from error


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder next to ``path``, to be filled and then moved to ``path`` by :func:`replace_folder`.

    If it has not been moved at the end of the block, it is removed. Such folders of killed processes are removed first.
    A symbolic link is resolved.
    """
    path = path.resolve()
    _remove_leftovers(path)
    staged = _next_to(path, 'new')
    try:
        staged.mkdir(parents=True)
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Rename folder ``new`` to ``path``; an existing folder is removed, or restored if renaming fails.

    If ``path`` is a symbolic link, its target is replaced. If the system can exchange two names at once (Linux), then
    there is a whole folder at ``path`` at any time, also if the process is killed.
    """
    path = path.resolve()
    if not path.exists():
        new.rename(path)
        return
    if exchange_names(new, path):  # then `new` is the name of the earlier folder
        shutil.rmtree(new, ignore_errors=True)
        return
    # Two renames: a process killed between them leaves no folder at path, which _remove_leftovers repairs.
    old = _next_to(path, 'old')
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def exchange_names(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step; return False if the system or the disk cannot do it.

    Raises:
        OSError: a path does not exist, or there is no permission.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # Windows, macOS, or an old C library
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def _next_to(path: Path, state: str) -> Path:
    return path.with_name(f'.{path.name}.{os.getpid()}.{state}')


def _remove_leftovers(path: Path) -> None:
    """Remove folders that killed processes were creating or replacing, but not those of running processes."""
    leftover = re.compile(rf'\.{re.escape(path.name)}\.(\d+)\.(new|old)')
    for folder in path.parent.iterdir() if path.parent.is_dir() else ():
        match = leftover.fullmatch(folder.name)
        if match and not is_another_process(int(match[1])):
            if match[2] == 'old' and not path.exists():  # killed between the two renames of replace_folder
                folder.rename(path)
            else:
                shutil.rmtree(folder, ignore_errors=True)
