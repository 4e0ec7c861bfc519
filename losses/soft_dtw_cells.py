"""Recursions of soft-DTW cell by cell, in compiled code on the CPU; :mod:`losses.soft_dtw` documents them."""

import math
from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor

NEGLIGIBLE = -37.0  # in float64, 1 + exp(x) is 1 below this x
UNDERFLOW = -745.0  # in float64, exp(x) is 0 below this x


def enter_by_cells(distances: Tensor, gamma: float) -> Tensor:
    """Compute the soft maximum over each cell's predecessors, (N, M), in compiled code on the CPU."""
    entering = np.empty(distances.shape)
    _enter(distances.detach().contiguous().numpy(), 1 / gamma, entering)
    return torch.from_numpy(entering)


def align_by_cells(distances: Tensor, entering: Tensor, gamma: float) -> Tensor:
    """Compute the expected alignment, (N, M), in compiled code on the CPU."""
    alignment = np.zeros(distances.shape)
    _align(distances.detach().contiguous().numpy(), 1 / gamma, entering.numpy(), alignment)
    return torch.from_numpy(alignment)


def _compile(function: Callable) -> Callable:
    """Compile a function at its first call; the code is kept next to this file for later processes."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache folder is writable
        return numba.njit(nogil=True)(function)


@_compile
def _enter(distances: np.ndarray, sharpness: float, entering: np.ndarray) -> None:
    rows, columns = distances.shape
    potentials = np.full(columns + 1, -np.inf)  # of the row above, overwritten from the left
    before = 0.0  # potential of the diagonal predecessor; 0 starts every alignment
    for i in range(rows):
        left = -np.inf
        for j in range(columns):
            above = potentials[j + 1]
            top = max(left, above, before)
            total = 0.0
            for value in (left, above, before):  # usually one predecessor dominates, so skip the other exponentials
                if value - top > NEGLIGIBLE:
                    total += math.exp(value - top)
                elif math.isnan(value):
                    total = math.nan
            entering[i, j] = top + math.log(total)
            left = entering[i, j] - distances[i, j] * sharpness
            before, potentials[j + 1] = above, left
        before = -np.inf


@_compile
def _align(distances: np.ndarray, sharpness: float, entering: np.ndarray, alignment: np.ndarray) -> None:
    rows, columns = distances.shape
    alignment[rows - 1, columns - 1] = 1.0  # every alignment ends in the last cell
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            here = entering[i, j] - distances[i, j] * sharpness
            for down, right in ((1, 0), (0, 1), (1, 1)):
                k, n = i + down, j + right
                if k < rows and n < columns and here - entering[k, n] > UNDERFLOW:
                    alignment[i, j] += alignment[k, n] * math.exp(here - entering[k, n])
