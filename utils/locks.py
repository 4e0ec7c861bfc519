"""Locks on files and folders, which the system releases when their process ends, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

_held: set[int] = set()  # descriptors of the locks of this process


def _close_inherited() -> None:
    """Close the locks in a forked process: otherwise a loader process that outlives a killed run would keep them."""
    while _held:
        os.close(_held.pop())


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_close_inherited)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder without waiting.

    Returns:
        True if it is locked now, False if another process, or another descriptor of this process, has locked it, None
        if its file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        # flock, not lockf: it belongs to the open file, so closing another descriptor of the file does not release it.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def holding(descriptor: int) -> Iterator[None]:
    """Close a descriptor, and so release its lock, at the end of the block; a forked process closes it at once."""
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a forked process, which has closed it
            _held.discard(descriptor)
            os.close(descriptor)


@contextmanager
def locked_folder(folder: Path, busy: str) -> Iterator[None]:
    """Lock an existing folder for the duration of the block; the lock moves with the folder if it is renamed.

    Args:
        folder: folder to lock.
        busy: message if another process has locked it.

    Raises:
        UserError: another process has locked the folder, or is replacing it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    with holding(descriptor):
        # If the folder was replaced in the meantime, the lock is on the one that was there before.
        if try_lock(descriptor) is False or not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise UserError(f'{folder}: {busy}')
        yield


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder; for changes that take milliseconds."""
    descriptor = os.open(folder, os.O_RDONLY)
    with holding(descriptor):
        if try_lock(descriptor) is False:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
