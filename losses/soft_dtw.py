"""Soft dynamic time warping: value and gradient in O(N M) memory, on any device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import check_positive, widen


def soft_dtw(distances: Tensor, gamma: float = 0.1) -> Tensor:
    """Compute soft-DTW: the soft minimum, over all monotone alignments, of the sum of their distances.

    ``R[i, j] = D[i, j] + softmin(R[i - 1, j - 1], R[i - 1, j], R[i, j - 1])`` with
    ``softmin(a) = -gamma log sum exp(-a / gamma)``; the value is ``R[N, M]``. It is at most the cost of the best
    alignment and can be negative. The gradient is the expected alignment. Sums are computed in float64.

    Args:
        distances: D, (N, M), floating, with N, M >= 1; the cost of aligning frame i with frame j.
        gamma: smoothing, > 0; as it approaches 0, the value approaches that of dynamic time warping.

    Returns:
        Soft-DTW, (), in the distances' dtype. Differentiable once.

    Raises:
        ValueError: ``distances`` is not a matrix or is empty, or ``gamma`` is not positive.

    Reference:
        Cuturi & Blondel, Soft-DTW: a Differentiable Loss Function for Time-Series, ICML 2017, Algorithms 1 and 2.
    """
    check_positive(gamma=gamma)
    if distances.ndim != 2 or 0 in distances.shape or not distances.is_floating_point():
        raise ValueError(f'distances has shape {tuple(distances.shape)} and dtype {distances.dtype}, expected a '
                         'floating (N, M) with N, M >= 1')
    return _SoftDTW.apply(distances, gamma)


class _SoftDTW(torch.autograd.Function):
    """Soft-DTW in terms of the potentials ``-R / gamma``.

    The backward pass needs the distances and one more matrix, ``entering``, the soft maximum over each cell's
    predecessors. The potential of a cell is exactly ``entering - D / gamma``; computing ``entering`` from the potential
    instead would lose precision for large distances.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, distances: Tensor, gamma: float) -> Tensor:
        if distances.device.type == 'cpu':
            from losses.soft_dtw_cells import enter_by_cells as enter  # needs numba, which is slow to import
        else:
            enter = enter_by_antidiagonals
        entering = enter(distances, gamma)
        ctx.save_for_backward(distances, entering)
        ctx.gamma = gamma
        return (widen(distances[-1, -1]) - gamma * entering[-1, -1]).to(distances.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        distances, entering = ctx.saved_tensors
        if distances.device.type == 'cpu':
            from losses.soft_dtw_cells import align_by_cells as align
        else:
            align = align_by_antidiagonals
        alignment = align(distances, entering, ctx.gamma)
        return alignment.mul_(gradient.to(alignment.dtype)).to(distances.dtype), None


def enter_by_antidiagonals(distances: Tensor, gamma: float) -> Tensor:
    """Compute the soft maximum over each cell's predecessors, (N, M), one antidiagonal at a time, on any device."""
    costs = widen(distances) * (1 / gamma)  # (N, M)
    rows, columns = costs.shape
    entering = torch.empty_like(costs)
    potentials = costs.new_full((rows + 1, columns + 1), -math.inf)  # with a row and a column before the first
    potentials[0, 0] = 0  # the only start of an alignment
    for total in range(rows + columns - 1):
        first, last = max(0, total - columns + 1), min(rows, total + 1)
        # Cell (i, j) of the distances is cell (i + 1, j + 1) of the potentials.
        above = _antidiagonal(potentials, total + 1, first, last)
        left = _antidiagonal(potentials, total + 1, first + 1, last + 1)
        before = _antidiagonal(potentials, total, first, last)
        best = torch.logaddexp(torch.logaddexp(above, left), before)
        _antidiagonal(entering, total, first, last).copy_(best)
        cells = _antidiagonal(potentials, total + 2, first + 1, last + 1)
        torch.sub(best, _antidiagonal(costs, total, first, last), out=cells)
    return entering


def align_by_antidiagonals(distances: Tensor, entering: Tensor, gamma: float) -> Tensor:
    """Compute the expected alignment, (N, M), one antidiagonal at a time, on any device."""
    rows, columns = distances.shape
    potentials = entering - widen(distances) * (1 / gamma)  # (N, M)
    entering = F.pad(entering, (0, 1, 0, 1), value=math.inf)  # (N + 1, M + 1); nothing follows the last cell
    alignment = torch.zeros_like(entering)
    alignment[-2, -2] = 1  # every alignment ends in the last cell
    for total in range(rows + columns - 3, -1, -1):
        first, last = max(0, total - columns + 1), min(rows, total + 1)
        here = _antidiagonal(potentials, total, first, last)
        cells = _antidiagonal(alignment, total, first, last)
        for down, right in ((1, 0), (0, 1), (1, 1)):
            after = total + down + right, first + down, last + down
            cells += _antidiagonal(alignment, *after) * torch.exp(here - _antidiagonal(entering, *after))
    return alignment[:-1, :-1]


def _antidiagonal(matrix: Tensor, total: int, first: int, last: int) -> Tensor:
    """Return a view of the entries (i, total - i) of a matrix for i from ``first`` to ``last - 1``."""
    down, right = matrix.stride()
    return matrix.as_strided((last - first,), (down - right,),
                             matrix.storage_offset() + first * down + (total - first) * right)
