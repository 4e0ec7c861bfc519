"""Order-preserving optimal transport between the frames of two recordings, each with an additional virtual frame."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

STOP_THRESHOLD = 1e-9  # error of the marginals at which the Sinkhorn iterations stop
CHECK_EVERY = 10  # iterations between two checks of the marginals
BLOCK_ENTRIES = 2 ** 18  # entries of the costs computed at once: 2 MiB in float64 stay in the cache
CAP = 450.0  # largest cost above the minimum of its row and column, in units of the regularization; avoids underflow
NEGLIGIBLE = -50.0  # a mass with a smaller logarithm is below the rounding error of the marginals
Potentials = tuple[Tensor, Tensor]  # of rows, (N + 1,), and columns, (M + 1,)


class TransportPlan(NamedTuple):
    """A matching of the frames of u (N) and v (M), each followed by its virtual frame.

    Attributes:
        log_mass: logarithm of the plan, (N + 1, M + 1). The plan sums to 1; once the iterations have converged, its
            rows sum to 1 / (N + 1) and its columns to 1 / (M + 1).
        objective: value that the plan minimizes, (), mean over both orders.
    """

    log_mass: Tensor
    objective: Tensor

    def mass(self, dtype: torch.dtype) -> Tensor:
        """Return the plan without the virtual frames, (N, M)."""
        between = self.log_mass[:-1, :-1]
        mass = torch.empty(between.shape, dtype=dtype, device=between.device)
        for block in _row_blocks(*between.shape):
            mass[block] = between[block].exp()
        return mass


class _Matches(NamedTuple):
    """The best match in v of every frame of u, (N,), and the best match in u of every frame of v, (M,)."""

    of_rows: Tensor
    of_columns: Tensor


@torch.no_grad()
def transport_plan(distances: Tensor, max_steps: int, lambda1: float, lambda2: float, zeta: float, delta: float,
                   phase: float) -> TransportPlan:
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
        distances: D, (N, M), >= 0.
        max_steps: largest total number of Sinkhorn iterations per order, >= 2; they stop early once the marginals
            match.
        lambda1: weight of S, >= 0.
        lambda2: weight of the divergence from P, > 0.
        zeta: cost of a virtual frame, > 0.
        delta: std of the prior, > 0.
        phase: phi, in (0, 1).

    Returns:
        The plan, in float64 if the device supports it, without gradient.

    Reference:
        Liu et al., CVPR 2022; Su & Hua, CVPR 2017; Cuturi, Sinkhorn Distances, NeurIPS 2013.
    """
    half = max_steps // 2
    costs = _with_virtual_frames(distances, zeta)  # (N + 1, M + 1)
    matches = _best_matches(costs, lambda2, _sinkhorn(costs, lambda2, half))
    costs = _add_order(costs, matches, phase, lambda1, lambda2, delta)
    return _mean_plan(costs, lambda2, _sinkhorn(costs, lambda2, max_steps - half))


def best_and_least_matches(log_mass: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the best and the worst match of each frame of one sequence; virtual frames are ignored.

    Args:
        log_mass: (N + 1, M + 1), see :class:`TransportPlan`.
        axis: 1 for the frames of u, 0 for the frames of v.

    Returns:
        Best and worst matches: indices into v, each (N,), if ``axis`` is 1; indices into u, each (M,), if it is 0.
    """
    between = log_mass[:-1, :-1]  # (N, M)
    return between.argmax(axis), between.argmin(axis)


def _with_virtual_frames(distances: Tensor, zeta: float) -> Tensor:
    """Append a row and a column for the virtual frames, (N, M) -> (N + 1, M + 1)."""
    return F.pad(widen(distances), (0, 1, 0, 1), value=zeta)


def _add_order(costs: Tensor, matches: _Matches, phase: float, lambda1: float, lambda2: float,
               delta: float) -> Tensor:
    """Subtract ``lambda1 S + lambda2 log P`` from the costs of real frames, in place and in blocks of rows."""
    rows, columns = costs.shape[0] - 1, costs.shape[1] - 1
    # The middle of each frame: then reversing both sequences in time changes no distance from the diagonal.
    x = (torch.arange(rows, dtype=costs.dtype, device=costs.device).unsqueeze(1) + 0.5) / rows  # (N, 1)
    y = (torch.arange(columns, dtype=costs.dtype, device=costs.device) + 0.5) / columns  # (M,)
    spread = 2 * (delta * math.hypot(1 / rows, 1 / columns)) ** 2
    log_normalizer = math.log(delta * math.sqrt(2 * math.pi))
    for block in _row_blocks(rows, columns):
        from_diagonal = (x[block] - y).square()  # (b, M)
        from_row = (x[block] - x[matches.of_columns].T).abs()  # (b, M)
        from_column = (y - y[matches.of_rows[block]].unsqueeze(1)).abs()  # (b, M)
        moment = phase / (from_diagonal + 1)  # S, (b, M)
        moment += (1 - phase) / ((from_row.square() + from_column.square()) / 2 + 1)
        from_match = ((from_row + from_column) / 2).square()
        log_prior = torch.logaddexp(from_diagonal / -spread + math.log(phase),
                                    from_match / -spread + math.log1p(-phase))
        real_costs = costs[block, :-1]
        real_costs.sub_(moment, alpha=lambda1).sub_(log_prior - log_normalizer, alpha=lambda2)
    return costs


def _row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of consecutive rows whose entries stay in the cache."""
    size = max(1, BLOCK_ENTRIES // columns)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _best_matches(costs: Tensor, regularization: float, potentials: Sequence[Potentials]) -> _Matches:
    """Return the best matches of all frames under the mean of the plans; the plan is never in memory as a whole."""
    rows, columns = costs.shape[0] - 1, costs.shape[1] - 1
    of_rows = torch.empty(rows, dtype=torch.long, device=costs.device)
    of_columns = torch.zeros(columns, dtype=torch.long, device=costs.device)
    largest = costs.new_full((columns,), -math.inf)  # of each column so far
    for block in _row_blocks(rows, columns):
        log_mass = (costs[block, :-1] / -regularization).add_(
            _mean_potential(potentials, block)[:, :-1])  # (b, M), up to a constant
        of_rows[block] = log_mass.argmax(1)
        best, row = log_mass.max(0)
        better = best > largest
        of_columns = torch.where(better, row + block.start, of_columns)
        largest = torch.where(better, best, largest)
    return _Matches(of_rows, of_columns)


def _mean_potential(potentials: Sequence[Potentials], block: slice) -> Tensor:
    """Return ``log(exp(f1_i + g1_j) + exp(f2_i + g2_j))`` for a block of rows i, (b, M + 1), of plans (f, g)."""
    return torch.logaddexp(*(rows[block].unsqueeze(1) + columns for rows, columns in potentials))


def _mean_plan(costs: Tensor, regularization: float, potentials: Sequence[Potentials]) -> TransportPlan:
    """Return the mean of both plans and of their objectives; the logarithm of the plan overwrites the costs.

    For long recordings, every further matrix of this size would take longer to allocate than to compute.
    """
    objective = costs.new_zeros(())
    for block in _row_blocks(*costs.shape):
        log_mass = costs[block].div_(-regularization)  # (b, M + 1), without the potentials
        for rows, columns in potentials:  # f, (N + 1,), and g, (M + 1,)
            mass = (log_mass + rows[block].unsqueeze(1)).add_(columns).exp_()
            # <T, C> + regularization <T, log T>, with log T = f + g - C / regularization.
            objective += rows[block] @ mass.sum(1) + columns @ mass.sum(0)
        log_mass.add_(_mean_potential(potentials, block)).sub_(math.log(2))
    return TransportPlan(costs, regularization * objective / 2)


def _sinkhorn(costs: Tensor, regularization: float, steps: int) -> list[Potentials]:
    """Run Sinkhorn iterations in two orders: once scaling the columns first, once the rows.

    The potentials of the side that is scaled second start at its smallest costs of real frames. Starting at 0 would
    first move all mass to the virtual frames, and hundreds of iterations would be needed to move it back.

    An iteration that scales rows and columns of the kernel takes a tenth of the time of one in the log domain, which
    exponentiates the whole matrix. Each cost is reduced by the minima of its row and column, so that every row and
    column of the kernel contains a 1. Costs that would underflow are capped, because arithmetic with subnormal numbers
    is several times slower on a CPU. If the cap may have changed a plan, or the scalings leave the range of float64,
    the iterations are run in the log domain on the uncapped costs.

    Returns:
        Potentials of rows, (N + 1,), and columns, (M + 1,), in units of the regularization, for either order.
    """
    starts = costs[:, :-1].amin(1) / regularization, costs[:-1].amin(0) / regularization  # (N + 1,), (M + 1,)
    if costs.dtype == torch.float64:
        kernel = (costs / regularization).sub_(starts[0].unsqueeze(1))  # costs above the minimum of their row
        shifts = starts[0], kernel.amin(0)
        capped = bool((kernel.amax(0) - shifts[1]).max() > CAP)
        kernel.sub_(shifts[1]).clamp_(max=CAP).neg_().exp_()
        columns = starts[1] - shifts[1]
        # A constant factor of all columns changes nothing, as the rows are divided by it; it prevents an overflow.
        scalings = _scale_kernel(kernel, torch.zeros_like(starts[0]), columns - columns.max(), steps)
        found = scalings and [(rows + shifts[0], columns + shifts[1]) for rows, columns in scalings]
        if found and not (capped and _cap_matters(costs, regularization, shifts, scalings)):
            return found
    columns_first = _log_sinkhorn(costs, regularization, steps, starts[0])
    rows_first = _log_sinkhorn(costs.T, regularization, steps, starts[1])
    return [columns_first, rows_first[::-1]]


def _cap_matters(costs: Tensor, regularization: float, shifts: Potentials, scalings: Sequence[Potentials]) -> bool:
    """Return True if an entry whose cost was capped could have a mass that is not negligible.

    Args:
        costs: (N + 1, M + 1).
        regularization: unit of the costs in the kernel.
        shifts: what was subtracted from the rows and columns of the kernel's costs.
        scalings: logarithms of the scalings of rows and columns, for either order.
    """
    for block in _row_blocks(*costs.shape):
        above = (costs[block] / regularization).sub_(shifts[0][block].unsqueeze(1)).sub_(shifts[1])
        capped = above > CAP
        for rows, columns in scalings:
            mass_at_cap = rows[block].unsqueeze(1) + columns - CAP  # (b, M + 1), logarithm of the mass
            if bool((capped & (mass_at_cap > NEGLIGIBLE)).any()):
                return True
    return False


def _scale_kernel(kernel: Tensor, rows: Tensor, columns: Tensor, steps: int) -> list[Potentials] | None:
    """Scale rows and columns of a kernel alternately, in both orders at once.

    Every product reads the kernel only once for both orders, and reading it takes most of the time.

    Args:
        kernel: (n, m), positive.
        rows: logarithms of the scaling of rows at the start, if columns are scaled first, (n,).
        columns: logarithms of the scaling of columns at the start, if rows are scaled first, (m,).
        steps: largest number of iterations.

    Returns:
        Logarithms of the scalings of rows and columns, columns scaled first, then rows scaled first; None if a scaling
        leaves the range of the dtype.
    """
    row_mass, column_mass = (1 / size for size in kernel.shape)
    # Column 0 of both belongs to the order that scales columns first. The other order is half an iteration ahead.
    scaled_rows = torch.stack([rows.exp(), row_mass / (kernel @ columns.exp())], dim=1)  # (n, 2)
    for step in range(steps):
        scaled_columns = column_mass / (kernel.T @ scaled_rows)  # (m, 2)
        previous, sums = scaled_rows, kernel @ scaled_columns  # (n, 2)
        scaled_rows = row_mass / sums
        if step % CHECK_EVERY == 0 and ((previous * sums - row_mass).norm(dim=0) < STOP_THRESHOLD).all():
            break
    # Each order ends with the side that it scales second.
    scalings = [(rows[:, order].log(), scaled_columns[:, order].log())
                for order, rows in enumerate((scaled_rows, previous))]
    return scalings if all(part.isfinite().all() for scaling in scalings for part in scaling) else None


def _log_sinkhorn(costs: Tensor, regularization: float, steps: int, rows: Tensor) -> Potentials:
    """Run Sinkhorn iterations in the log domain, columns first, from the potentials ``rows``."""
    from ot.bregman import sinkhorn_log  # imported here because it takes seconds and only this loss needs it

    marginals = [costs.new_full((size,), 1 / size) for size in costs.shape]
    _, log = sinkhorn_log(*marginals, costs, regularization, numItermax=steps, stopThr=STOP_THRESHOLD, warn=False,
                          log=True, warmstart=(rows, torch.zeros_like(costs[0])))
    return log['log_u'], log['log_v']
