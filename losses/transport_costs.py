"""Costs of order-preserving optimal transport, computed in blocks of rows."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_ENTRIES = 2 ** 18  # entries of the costs computed at once: 2 MiB in float64 stay in the cache


class Matches(NamedTuple):
    """The best match in v of every frame of u, (N,), and the best match in u of every frame of v, (M,)."""

    of_rows: Tensor
    of_columns: Tensor


class Order(NamedTuple):
    """Terms of the costs that depend on the times of the frames, see :func:`transport_plan`."""

    matches: Matches  # under the previous plan
    phase: float
    lambda1: float
    lambda2: float
    delta: float


class Costs(NamedTuple):
    """The costs of matching the frames of u (N) and v (M), each followed by its virtual frame.

    Attributes:
        distances: returns the rows of D in a slice within [0, N), (b, M), as a new tensor in float64 if the device
            supports it.
        shape: (N, M).
        zeta: cost of a virtual frame.
        order: further terms, or None for the distances alone.
        like: any tensor of the dtype and device of the distances.
    """

    distances: Callable[[slice], Tensor]
    shape: tuple[int, int]
    zeta: float
    order: Order | None
    like: Tensor

    def rows(self, block: slice) -> Tensor:
        """Return a block of rows, (b, M + 1), as a new tensor; row N is that of the virtual frame."""
        length, columns = self.shape
        real = slice(block.start, min(block.stop, length))
        if real.start >= length:
            return self.like.new_full((block.stop - block.start, columns + 1), self.zeta)
        costs = self.distances(real)  # (b, M)
        if self.order is not None:
            _subtract_order(costs, real, self.shape, self.order)
        return F.pad(costs, (0, 1, 0, block.stop - real.stop), value=self.zeta)

    def blocks(self) -> Iterator[slice]:
        """Yield slices of consecutive rows, including the virtual frame's, whose costs stay in the cache."""
        return row_blocks(self.shape[0] + 1, self.shape[1] + 1)


def _subtract_order(costs: Tensor, block: slice, shape: tuple[int, int], order: Order) -> None:
    """Subtract ``lambda1 S + lambda2 log P`` from the costs of a block of real rows, (b, M), in place."""
    rows, columns = shape
    matches, phase, lambda1, lambda2, delta = order
    # The middle of each frame: then reversing both sequences in time changes no distance from the diagonal.
    x = (torch.arange(rows, dtype=costs.dtype, device=costs.device) + 0.5) / rows  # (N,)
    y = (torch.arange(columns, dtype=costs.dtype, device=costs.device) + 0.5) / columns  # (M,)
    spread = 2 * (delta * math.hypot(1 / rows, 1 / columns)) ** 2
    own = x[block].unsqueeze(1)  # (b, 1)
    from_diagonal = (own - y).square_()  # (b, M)
    from_row = (own - x[matches.of_columns]).abs_()  # (b, M)
    from_column = (y - y[matches.of_rows[block]].unsqueeze(1)).abs_()  # (b, M)
    costs.sub_((from_diagonal + 1).reciprocal_(), alpha=lambda1 * phase)  # S, first part
    ordered = from_diagonal.div_(-spread).add_(math.log(phase))  # logarithms of the two parts of P
    matched = (from_row + from_column).square_().div_(-4 * spread).add_(math.log1p(-phase))
    costs.sub_(torch.logaddexp(ordered, matched), alpha=lambda2)
    from_row.square_().addcmul_(from_column, from_column).div_(2).add_(1)
    costs.sub_(from_row.reciprocal_(), alpha=lambda1 * (1 - phase))  # S, second part
    costs.add_(lambda2 * math.log(delta * math.sqrt(2 * math.pi)))  # the normalizer of P


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of consecutive rows whose entries stay in the cache."""
    size = max(1, BLOCK_ENTRIES // columns)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
