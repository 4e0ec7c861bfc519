"""Recordings as .npy files: check headers without reading values, memory-map values, check values on request."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recordings.feature_lookup import instead_of, refuse_other_content
from utils.errors import UserError

FEATURE_NDIM, FRAME_NDIM = 2, 4
AXES = {FEATURE_NDIM: '(T, D)', FRAME_NDIM: '(T, C, H, W)'}
CHUNK_BYTES = 64 * 2**20  # values that are checked at once


def open_recording(path: Path, ndim: int) -> np.memmap:
    """Memory-map a recording and check its header.

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
        raise UserError(f'{path}: shape {array.shape}, expected {AXES[ndim]}; save it with that shape')
    if array.dtype.kind != 'f' or array.dtype.itemsize not in (2, 4, 8) or not array.dtype.isnative:
        raise UserError(f'{path}: values of type {array.dtype}, expected float16, float32 or float64 in the byte order '
                        'of this machine; convert them')
    if 0 in array.shape:
        raise UserError(f'{path}: shape {array.shape} is empty, expected {AXES[ndim]} with at least one frame')
    return array


def check_finite(array: np.ndarray, path: Path) -> None:
    """Check in bounded chunks that all values of a recording are finite as float32.

    Raises:
        UserError: a value is NaN, infinite, or too large for float32; the message names the first such frame.
    """
    rows = max(1, CHUNK_BYTES // max(1, array[0].nbytes))
    for start in range(0, len(array), rows):
        with np.errstate(over='ignore'):
            finite = np.isfinite(array[start:start + rows].astype(np.float32, copy=False))
        finite = finite.reshape(-1, array[0].size).all(axis=1)  # (rows, ...) -> (rows,)
        if not finite.all():
            frame = start + int(np.argmin(finite))
            raise UserError(f'{path}: frame {frame} holds NaN or infinity (as float32), expected finite values; '
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
