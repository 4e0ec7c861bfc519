"""Recordings as .npy files: headers checked without reading, values memory-mapped and checked when asked."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.errors import UserError

FEATURE_RANK, FRAME_RANK = 2, 4
AXES = {FEATURE_RANK: '(T, D)', FRAME_RANK: '(T, C, H, W)'}
CHUNK_BYTES = 64 * 2**20


def open_recording(path: Path, rank: int) -> np.memmap:
    """Open a recording memory-mapped, with its header checked.

    Args:
        path: ``.npy`` file of float16, float32 or float64.
        rank: 2 for features (T, D), 4 for frames (T, C, H, W).

    Raises:
        UserError: missing, truncated, no ``.npy`` file, of another rank or type, or empty.
    """
    try:
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file, but the annotations name this recording; extract its features or '
                        'take its handle out of the annotations') from error
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f'{path}: cannot be read as a .npy array ({error}); it may be truncated: write it anew'
                        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != rank:
        found = f'shape {array.shape}' if isinstance(array, np.ndarray) else 'a .npz archive'
        raise UserError(f'{path}: {found}, expected {AXES[rank]}; save it with that shape')
    if array.dtype.kind != 'f' or array.dtype.itemsize not in (2, 4, 8):
        raise UserError(f'{path}: values of type {array.dtype}, expected float16, float32 or float64')
    if 0 in array.shape:
        raise UserError(f'{path}: shape {array.shape} is empty, expected {AXES[rank]} with at least one frame')
    return array


def check_finite(array: np.ndarray, path: Path) -> None:
    """Look through a recording in bounded chunks for NaN and infinity.

    Raises:
        UserError: a value is not finite; names the first frame that holds one.
    """
    rows = max(1, CHUNK_BYTES // max(1, array[0].nbytes))
    for start in range(0, len(array), rows):
        finite = np.isfinite(array[start:start + rows]).reshape(-1, array[0].size).all(axis=1)
        if not finite.all():
            frame = start + int(np.argmin(finite))
            raise UserError(f'{path}: frame {frame} holds NaN or infinity, expected finite values; '
                            'extract the features of this recording anew')


def check_folder(paths: Iterable[Path], rank: int, values_limit_gb: float) -> dict[Path, tuple[int, ...]]:
    """Check all files of a dataset before training starts.

    Args:
        paths: the recordings' files.
        rank: see :func:`open_recording`.
        values_limit_gb: values are looked through only where all files together are smaller.

    Returns:
        path -> shape.

    Raises:
        UserError: see :func:`open_recording` and :func:`check_finite`; or two files differ in width.
    """
    paths = list(paths)
    arrays = {path: open_recording(path, rank) for path in paths}
    first = paths[0]
    for path, array in arrays.items():
        if array.shape[1:] != arrays[first].shape[1:]:
            raise UserError(f'{path}: shape {array.shape}, but {first} has {arrays[first].shape}; expected the same '
                            f'{AXES[rank]} but for T: extract all recordings with one network')
    if sum(array.nbytes for array in arrays.values()) < values_limit_gb * 2**30:
        for path, array in arrays.items():
            check_finite(array, path)
    return {path: array.shape for path, array in arrays.items()}
