"""Read files of torch.save that somebody else may have made: no code runs, and memory and time stay in proportion."""

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError, first_line

# Errors that loading a file that is not a checkpoint can raise, besides UnpicklingError.
DAMAGE = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OverflowError,
          MemoryError, struct.error)
MAX_DEPTH = 50  # of nested containers
UNPACKED_LIMIT = 1.5  # bytes of the unpacked file per byte of the file; torch.save does not compress


def load_pickled(path: Path | str, device: torch.device | str, expected: str, safe: Sequence = ()) -> object:
    """Load a file of torch.save with ``weights_only=True``, and check its content.

    Args:
        path: the file.
        device: device to put the tensors on.
        expected: what the file should hold and how to get one, for the message if it asks for code.
        safe: classes that may be loaded besides those of torch, as for ``torch.serialization.safe_globals``.

    Raises:
        UserError: the file cannot be read, would run code, or claims more memory than its own size.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # reading from a pipe would wait forever
            raise ValueError('it is not a regular file')
        _check_archive(path)
        with torch.serialization.safe_globals(list(safe)):
            content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f'{path}: refused, it {what_is_refused(error)}; expected {expected}') from error
    except PermissionError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}), expected a file that you may read; change its '
                        'permissions') from error
    except DAMAGE as error:
        raise UserError(f'{path}: cannot be read as a checkpoint ({first_line(error)[:200]}); it may be truncated: '
                        'choose another checkpoint of the run') from error
    if reason := _oversized(content, path.stat().st_size):
        raise UserError(f'{path}: refused, {reason}; expected the tensors and values that training stores: choose '
                        'another checkpoint of the run')
    return content


def what_is_refused(error: pickle.UnpicklingError) -> str:
    """Describe why a pickle was refused. The message of torch is not used because it advises running the pickle."""
    asked = re.search(r'GLOBAL (\S+)', str(error))
    return f'asks for {asked[1]}, which could run code' if asked else 'is damaged or not a checkpoint'


def _check_archive(path: Path) -> None:
    """Check the directory of the archive, if it is one: a small compressed file can unpack to terabytes.

    Raises:
        ValueError: its files are larger than itself.
    """
    if not zipfile.is_zipfile(path):  # the older format of torch.save, which has no compression
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    if unpacked > UNPACKED_LIMIT * path.stat().st_size:
        raise ValueError(f'it unpacks to {unpacked} bytes')


def _oversized(content: object, file_bytes: int) -> str | None:
    """Return why a content is larger than its file can hold, or None.

    Tensors may share and repeat storage, and containers may be shared, so that a file of a kilobyte can hold what
    takes years to read. Every value of an honest file takes at least a byte of it.
    """
    left = file_bytes
    # A stack instead of recursion: nested containers must not exhaust Python's own stack.
    pending: list[tuple[object, int, str]] = [(content, 0, 'its content')]
    while pending:
        value, depth, where = pending.pop()
        left -= 1  # each value takes a byte of the file at least
        if left < 0 or depth > MAX_DEPTH:
            return f'{where} repeats or nests its values more often than the file can hold'
        if isinstance(value, Mapping):
            pending += [(item, depth + 1, str(key)[:60]) for key, item in value.items()]
        elif isinstance(value, list | tuple | set | frozenset):
            pending += [(item, depth + 1, where) for item in value]
        elif isinstance(value, Tensor):
            if reason := _unusual(value):
                return f'{where} {reason}'
    return None


def _unusual(tensor: Tensor) -> str | None:
    """Return why training does not store such a tensor, or None if it does."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == 'meta' or tensor.is_nested:
        return 'is a tensor without a value for each entry'
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f'is a tensor of shape {tuple(tensor.shape)} that stores fewer values'
    return None
