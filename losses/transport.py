"""Order-preserving optimal transport between the frames of two recordings, each with an additional virtual frame."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.sinkhorn import Potentials, sinkhorn
from losses.transport_costs import Costs, Matches, Order, row_blocks

LOWEST_EXPONENT = -690.0  # exponentials of smaller numbers would be subnormal or 0 and take many times as long
LARGEST_EXPONENT = 40.0  # a larger x is log(1 + exp(x)) in float64


class TransportPlan(NamedTuple):
    """A matching of the frames of u (N) and v (M), each followed by its virtual frame: the mean of two plans.

    Once the iterations have converged, its rows sum to 1 / (N + 1) and its columns to 1 / (M + 1).

    Attributes:
        costs: that it minimizes.
        regularization: weight of the entropy.
        potentials: in units of the regularization, of the plan that scales columns first, and of that for rows first.
    """

    costs: Costs
    regularization: float
    potentials: Sequence[Potentials]

    def log_kernel(self, block: slice) -> Tensor:
        """Return the logarithm of the plan without its potentials, for a block of rows: (b, M + 1)."""
        return self.costs.rows(block).div_(-self.regularization)

    def log_mass(self, block: slice, log_kernel: Tensor) -> Tensor:
        """Return the logarithm of the plan for a block of rows, (b, M + 1)."""
        (rows, columns), (other_rows, other_columns) = self.potentials
        # log(exp(f + g) + exp(f' + g')) = f + g + log(1 + exp(f' - f + g' - g))
        difference = (other_rows - rows)[block].unsqueeze(1) + (other_columns - columns)  # (b, M + 1)
        return F.softplus(difference, threshold=LARGEST_EXPONENT).add_(log_kernel).add_(
            (rows[block] - math.log(2)).unsqueeze(1)).add_(columns)

    def masses(self, block: slice, log_kernel: Tensor) -> list[Tensor]:
        """Return the entries of both plans for a block of rows, (b, M + 1) each."""
        return [(log_kernel + rows[block].unsqueeze(1)).add_(columns).clamp_(min=LOWEST_EXPONENT).exp_()
                for rows, columns in self.potentials]


class Partners(NamedTuple):
    """The best and the least matches of the n frames of a sequence in the other one; virtual frames are ignored.

    Attributes:
        best: indices into the other sequence, (n,).
        least: indices into the other sequence, (n,).
        matched: True if the plan prefers the best match to the virtual frame, (n,).
    """

    best: Tensor
    least: Tensor
    matched: Tensor


class Evaluation(NamedTuple):
    """What a plan gives: the value that it minimizes, (), mean over both orders, and the matches of the frames."""

    objective: Tensor
    of_rows: Partners
    of_columns: Partners


@torch.no_grad()
def transport_plan(distances: Callable[[slice], Tensor], shape: tuple[int, int], like: Tensor, max_steps: int,
                   lambda1: float, lambda2: float, zeta: float, delta: float, phase: float) -> TransportPlan:
    """Match two sequences by order-preserving optimal transport.

    The plan T has uniform marginals over the frames and one virtual frame of each sequence. It minimizes
    ``<T, D> - lambda1 <T, S> + lambda2 sum T log(T / P)``. With ``x = (i - 1/2) / N``, ``y = (j - 1/2) / M`` (frames
    counted from 1), ``i*`` and ``j*`` the best matches of frames j and i under the previous plan, ``phi`` the phase,
    and ``r = sqrt(1/N^2 + 1/M^2)``:

    - ``P = phi Pc + (1 - phi) Po``, normal densities with std ``delta``, at ``|x - y| / r`` and at
      ``(|x - x_i*| + |y - y_j*|) / (2 r)``;
    - ``S = phi / ((x - y)^2 + 1) + (1 - phi) / (((x - x_i*)^2 + (y - y_j*)^2) / 2 + 1)``.

    A virtual frame has no time: its entries cost ``zeta``, with ``S = 0`` and ``P = 1``. The previous plan is the plan
    for the distances alone, computed in the first half of the iterations.

    Sinkhorn iterations that have not converged depend on the side that is scaled first, so the plan is the mean of the
    plans for both orders: ``transport_plan(D.T)`` is the transposed plan, and reversing both sequences in time
    reverses it. The papers' ``i / N`` and ``j / M`` for the times of frames would not allow the latter.

    Args:
        distances: returns the rows of D, >= 0, in a slice, (b, M), as a new tensor.
        shape: (N, M).
        like: any tensor of the dtype and device of the distances.
        max_steps: largest total number of Sinkhorn iterations per order, >= 2; they stop early once the marginals
            match.
        lambda1: weight of S, >= 0.
        lambda2: weight of the divergence from P, > 0.
        zeta: cost of a virtual frame, > 0.
        delta: std of the prior, > 0.
        phase: phi, in (0, 1).

    Returns:
        The plan, without gradient.

    Reference:
        Liu et al., CVPR 2022; Su & Hua, CVPR 2017; Cuturi, Sinkhorn Distances, NeurIPS 2013.
    """
    half = max_steps // 2
    costs = Costs(distances, shape, zeta, None, like)
    previous = TransportPlan(costs, lambda2, sinkhorn(costs, lambda2, half))
    costs = costs._replace(order=Order(_best_matches(previous), phase, lambda1, lambda2, delta))
    return TransportPlan(costs, lambda2, sinkhorn(costs, lambda2, max_steps - half))


@torch.no_grad()
def evaluate_plan(plan: TransportPlan, visit: Callable[[slice, Tensor], None] | None = None) -> Evaluation:
    """Compute the objective and the matches of a plan, which is never in memory as a whole.

    Args:
        plan: the plan.
        visit: called with each block of rows, and the plan's entries for them without virtual frames, (b, M).
    """
    rows, columns = plan.costs.shape
    like, parts = plan.costs.like, []
    objective = like.new_zeros(())
    best, least = ColumnMaximum(columns, like), ColumnMaximum(columns, like)
    for block in plan.costs.blocks():
        log_kernel = plan.log_kernel(block)  # (b, M + 1)
        masses = plan.masses(block, log_kernel)
        for mass, (f, g) in zip(masses, plan.potentials, strict=True):
            # <T, C> + regularization <T, log T>, with log T = f + g - C / regularization.
            objective += f[block] @ mass.sum(1) + (mass @ g).sum()
        real = slice(block.start, min(block.stop, rows))
        log_mass = plan.log_mass(block, log_kernel)
        between = log_mass[:real.stop - real.start, :-1]  # (b, M) without the virtual frames
        if len(between):
            largest, index = between.max(1)
            parts.append(Partners(index, between.min(1).indices, largest > log_mass[:len(between), -1]))
            best.update(between, block.start)
            if visit is not None:
                visit(real, masses[0].add_(masses[1]).div_(2)[:len(between), :-1])
            least.update(between.neg_(), block.start)
    virtual = log_mass[-1, :-1]  # (M,), the last row of the last block
    of_columns = Partners(best.rows, least.rows, best.values > virtual)
    of_rows = Partners(*(torch.cat(part) for part in zip(*parts, strict=True)))
    return Evaluation(plan.regularization * objective / 2, of_rows, of_columns)


class ColumnMaximum:
    """The largest value of each column, and its row, over blocks of rows."""

    def __init__(self, columns: int, like: Tensor) -> None:
        self.values = like.new_full((columns,), -math.inf)  # (M,)
        self.rows = torch.zeros(columns, dtype=torch.long, device=like.device)  # (M,)

    def update(self, values: Tensor, start: int) -> None:
        """Compare with a block of rows, (b, M), that begins at row ``start``; of equal values the first is kept."""
        best, row = values.max(0)
        better = best > self.values
        self.rows = torch.where(better, row + start, self.rows)
        self.values = torch.where(better, best, self.values)


def _best_matches(plan: TransportPlan) -> Matches:
    """Return the best matches of all frames."""
    rows, columns = plan.costs.shape
    of_rows = torch.empty(rows, dtype=torch.long, device=plan.costs.like.device)
    of_columns = ColumnMaximum(columns, plan.costs.like)
    for block in row_blocks(rows, columns):
        log_mass = plan.log_mass(block, plan.log_kernel(block))[:, :-1]  # (b, M)
        of_rows[block] = log_mass.max(1).indices
        of_columns.update(log_mass, block.start)
    return Matches(of_rows, of_columns.rows)
