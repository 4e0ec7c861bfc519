"""Compile functions on arrays of float32."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

Floats, Integers = NDArray[np.float32], NDArray[np.int64]
ZERO, ONE = np.float32(0), np.float32(1)  # with a Python number, numba would compute in float64
TINY, NEGLIGIBLE = np.float32(1e-30), np.float32(1e-20)
SOURCES = zlib.crc32(b''.join(path.read_bytes() for path in sorted(Path(__file__).parent.glob('*.py'))))
# The order of sums may change, so that they are computed with vector instructions.
OPTIONS = {'nogil': True, 'fastmath': {'reassoc', 'contract', 'nsz'}, 'error_model': 'numpy'}


def compiled(function: Callable) -> Callable:
    """Compile a function at its first call; the code is kept next to its file for later processes."""
    # Kept code is found by the function's name, and out of date if its file has changed, says numba. A digest of all
    # files in the name covers the functions of other files that it calls.
    function.__qualname__ += f'_{SOURCES:08x}'
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # neither the file's folder nor the user's cache folder is writable
        return numba.njit(**OPTIONS)(function)


def part(function: Callable) -> Callable:
    """Compile a function that is called by compiled functions alone."""
    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)


# In compiled code, these loops take a tenth of the time to compile that assignments to slices take.

@part
def copy(source: Floats, target: Floats) -> None:
    """Copy numbers (n,)."""
    for index in range(len(source)):
        target[index] = source[index]


@part
def clear(numbers: Floats) -> None:
    """Set numbers (n,) to 0."""
    for index in range(len(numbers)):
        numbers[index] = ZERO
