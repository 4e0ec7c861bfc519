"""Recordings as .npy files: check headers without reading values, read values on access, check values on request."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recordings.feature_lookup import instead_of, refuse_other_content
from utils.errors import UserError

FEATURE_NDIM, FRAME_NDIM = 2, 4
AXES = {FEATURE_NDIM: '(T, D)', FRAME_NDIM: '(T, C, H, W)'}
CHUNK_BYTES = 64 * 2**20  # values that are checked at once


class RecordingFile:
    """Array (T, ...) in a ``.npy`` file; only the frames that are asked for are read.

    It is read instead of memory-mapped: if a program rewrites or truncates a mapped file, the system ends every process
    that reads it, without a message.

    Args:
        path: the file.
        array: the same file, memory-mapped; only its header is used.

    Attributes:
        path: the file.
        shape: shape of the array.
        ndim: number of its axes.
        size: number of its values.
        dtype: type of its values.
        stamp: identity, size and time of the last change of the file when it was opened.
    """

    def __init__(self, path: Path, array: np.memmap) -> None:
        self.path, self.shape, self.ndim, self.dtype = path, array.shape, array.ndim, array.dtype
        self.size = array.size
        self._offset, self._in_order = array.offset, array.flags.c_contiguous
        self.stamp = _stamp(os.stat(path))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Return the frames at an index, a slice, or an array of indices of the first axis; a copy.

        Raises:
            UserError: the file has changed since it was opened.
        """
        # NumPy resolves any kind of index, negative ones included, to numbers of frames: (n,), or () for a single one.
        rows = np.arange(len(self))[index]
        frames = self._read(np.atleast_1d(rows)) if self._in_order else self._read_all()[np.atleast_1d(rows)]
        return frames if rows.ndim else frames[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames at increasing rows, with one read for each run of consecutive rows."""
        size = math.prod(self.shape[1:])
        frames = np.empty((len(rows), size), self.dtype)
        begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # positions in `rows` at which a run begins
        with self._opened() as file:
            for begin, end in zip(begins, [*begins[1:], len(rows)], strict=False):
                # In bytes: in C order a frame is in one piece.
                file.seek(self._offset + int(rows[begin]) * size * self.dtype.itemsize)
                part = frames[begin:end]
                if file.readinto(part.view(np.uint8).data) < part.nbytes:
                    raise self._changed()
        return frames.reshape(len(rows), *self.shape[1:])

    def _read_all(self) -> np.ndarray:
        """Return the array of a file in Fortran order, in which a frame is not in one piece."""
        with self._opened() as file:
            file.seek(self._offset)
            flat = np.fromfile(file, self.dtype, math.prod(self.shape))
        if flat.size < math.prod(self.shape):
            raise self._changed()
        return flat.reshape(self.shape, order='F')

    def _opened(self) -> BinaryIO:
        # It is opened for each access: a large dataset has more files than a process may have open.
        file = self.path.open('rb')
        if _stamp(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise self._changed()
        return file

    def _changed(self) -> UserError:
        return UserError(f'{self.path}: has changed while it was read, expected the same file until the end; write new '
                         'features to another folder, and start again')


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def open_recording(path: Path, ndim: int) -> RecordingFile:
    """Open a recording and check its header.

    Args:
        path: ``.npy`` file of float16, float32 or float64.
        ndim: 2 for features (T, D), 4 for frames (T, C, H, W).

    Raises:
        UserError: the file is missing, truncated, empty, or not a ``.npy`` file, or has a wrong ndim or dtype.
    """
    if path.exists() and not path.is_file():  # reading from a pipe would wait forever
        raise UserError(f'{path}: cannot be read, it is not a regular file; expected a .npy array: write it again')
    try:
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file, but the annotations name this recording; extract its features or '
                        f'remove its handle from the annotations{instead_of([path.stem], path.parent)}') from error
    except Exception as error:  # NumPy evaluates the header as a literal, which may raise errors of any type
        raise refuse_other_content(path, error) from error
    if not isinstance(array, np.ndarray):  # the archive of a .npz file, or of a file of torch
        array.close()
        raise refuse_other_content(path, ValueError('an archive of arrays'))
    if array.ndim != ndim:
        fix = 'numpy.squeeze removes axes of size 1' if array.squeeze().ndim == ndim else 'save it with that shape'
        raise UserError(f'{path}: shape {array.shape}, expected {AXES[ndim]}; {fix}')
    if array.dtype.kind != 'f' or array.dtype.itemsize not in (2, 4, 8) or not array.dtype.isnative:
        raise UserError(f'{path}: values of type {array.dtype}, expected float16, float32 or float64 in the byte order '
                        'of this machine; convert them with .astype("float32")')
    if 0 in array.shape:
        raise UserError(f'{path}: shape {array.shape} is empty, expected {AXES[ndim]} with at least one frame')
    return RecordingFile(path, array)


def check_finite(array: np.ndarray | RecordingFile, name: Path | str) -> None:
    """Check in bounded chunks that all values of a recording are finite as float32.

    Args:
        array: features (T, D) or frames (T, C, H, W).
        name: its file or name, for the message.

    Raises:
        UserError: a value is NaN, infinite, or too large for float32; the message names the first such frame.
    """
    size = math.prod(array.shape[1:])  # values of a frame
    rows = max(1, CHUNK_BYTES // (size * array.dtype.itemsize))
    for start in range(0, len(array), rows):
        with np.errstate(over='ignore'):
            finite = np.isfinite(array[start:start + rows].astype(np.float32, copy=False))
        finite = finite.reshape(-1, size).all(axis=1)  # (rows, ...) -> (rows,)
        if not finite.all():
            frame = start + int(np.argmin(finite))
            raise UserError(f'{name}: frame {frame} holds NaN or infinity (as float32), expected finite values; '
                            'extract the features of this recording again')


def check_headers(paths: Iterable[Path], ndim: int) -> dict[Path, tuple[int, ...]]:
    """Check the headers of all files of a dataset before training starts.

    Args:
        paths: files of the recordings.
        ndim: see :func:`open_recording`.

    Returns:
        path -> shape.

    Raises:
        UserError: see :func:`open_recording`; or two files differ in D (C, H, W for frames).
    """
    # One file is open at a time: a large dataset has more files than a process may have open.
    shapes = {path: open_recording(path, ndim).shape for path in paths}
    first = next(iter(shapes))
    for path, shape in shapes.items():
        if shape[1:] != shapes[first][1:]:
            raise UserError(f'{path}: shape {shape}, but {first} has {shapes[first]}; expected the same '
                            f'{AXES[ndim]} except for T: extract all recordings with one network')
    return shapes


def small_enough_to_check(paths: Iterable[Path], limit_gb: float) -> bool:
    """Return True if the files are small enough to validate all values up front: in total below the limit."""
    return sum(path.stat().st_size for path in paths) < limit_gb * 2**30
