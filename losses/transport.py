"""Order-preserving optimal transport between the frames of two recordings, each with an additional virtual frame."""

import math
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

STOP_THRESHOLD = 1e-9  # error of the marginals at which the Sinkhorn iterations stop
BLOCK_ENTRIES = 2 ** 18  # entries of the costs computed at once: 2 MiB in float64 stay in the cache
CAP = 600.0  # largest cost above the minimum of its row and column, in units of the regularization; avoids underflow
NEGLIGIBLE = -200.0  # a mass with a smaller logarithm is certainly negligible


class TransportPlan(NamedTuple):
    """A matching of the frames of u (N) and v (M), each followed by its virtual frame.

    Attributes:
        log_mass: logarithm of the plan, (N + 1, M + 1). Rows of the plan sum to 1 / (N + 1); columns sum to 1 / (M + 1)
            once the iterations have converged.
        objective: value that the plan minimizes, ().
    """

    log_mass: Tensor
    objective: Tensor


class _Matches(NamedTuple):
    """The best match in v of every frame of u, (N,), and the best match in u of every frame of v, (M,)."""

    of_rows: Tensor
    of_columns: Tensor


@torch.no_grad()
def transport_plan(distances: Tensor, max_steps: int, lambda1: float, lambda2: float, zeta: float, delta: float,
                   phase: float) -> TransportPlan:
    """Match two sequences by order-preserving optimal transport.

    The plan T has uniform marginals over the frames and one virtual frame of each sequence. It minimizes
    ``<T, D> - lambda1 <T, S> + lambda2 sum T log(T / P)``. With ``x = i / N``, ``y = j / M`` (frames counted from 1),
    ``i*`` and ``j*`` the best matches of frames j and i under the previous plan, ``phi`` the phase, and
    ``r = sqrt(1/N^2 + 1/M^2)``:

    - ``P = phi Pc + (1 - phi) Po``, normal densities with std ``delta``, at ``|x - y| / r`` and at
      ``(|x - i*/N| + |y - j*/M|) / (2 r)``;
    - ``S = phi / ((x - y)^2 + 1) + (1 - phi) / (((x - i*/N)^2 + (y - j*/M)^2) / 2 + 1)``.

    A virtual frame has no time: its entries cost ``zeta``, with ``S = 0`` and ``P = 1``. The previous plan is the plan
    for the distances alone, computed in the first half of the iterations.

    Args:
        distances: D, (N, M), >= 0.
        max_steps: largest total number of Sinkhorn iterations, >= 2; they stop early once the marginals match.
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
    previous = _log_mass(costs, lambda2, _sinkhorn(costs, lambda2, half))
    matches = _Matches(*(best_and_least_matches(previous, axis)[0] for axis in (1, 0)))
    costs = _add_order(costs, matches, phase, lambda1, lambda2, delta)
    rows, columns = _sinkhorn(costs, lambda2, max_steps - half)  # potentials f, (N + 1,), and g, (M + 1,)
    log_mass = _log_mass(costs, lambda2, (rows, columns))
    mass = log_mass.exp()
    # <T, C> + lambda2 <T, log T>, with log T = f + g - C / lambda2.
    objective = lambda2 * (rows @ mass.sum(1) + columns @ mass.sum(0))
    return TransportPlan(log_mass, objective)


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
    x = torch.arange(1, rows + 1, dtype=costs.dtype, device=costs.device).unsqueeze(1) / rows  # (N, 1)
    y = torch.arange(1, columns + 1, dtype=costs.dtype, device=costs.device) / columns  # (M,)
    spread = 2 * (delta * math.hypot(1 / rows, 1 / columns)) ** 2
    log_normalizer = math.log(delta * math.sqrt(2 * math.pi))
    block_rows = max(1, BLOCK_ENTRIES // columns)
    for start in range(0, rows, block_rows):
        block = slice(start, min(start + block_rows, rows))
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


def _sinkhorn(costs: Tensor, regularization: float, steps: int) -> tuple[Tensor, Tensor]:
    """Run Sinkhorn iterations and return the potentials of rows, (N + 1,), and columns, (M + 1,).

    The potentials start at each row's smallest cost of a real frame. Starting at 0 would first move all mass to the
    virtual frames, and hundreds of iterations would be needed to move it back.

    An iteration that scales rows and columns of the kernel takes a tenth of the time of one in the log domain, which
    exponentiates the whole matrix. The minimum of its row and column is subtracted from each cost, so that every row
    and column of the kernel contains a 1. Costs that would underflow are capped, because arithmetic with subnormal
    numbers is several times slower on a CPU. If the cap may have changed the plan, or the scalings leave the range of
    float64, the iterations are run in the log domain on the uncapped costs.
    """
    least = costs[:, :-1].amin(1, keepdim=True)  # (N + 1, 1)
    above = costs - least
    least_of_columns = above.amin(0)  # (M + 1,)
    above -= least_of_columns
    if costs.dtype == torch.float64:
        cap = CAP * regularization
        scalings = _scale_kernel(above.clamp(max=cap), regularization, steps)
        if scalings is not None:
            rows, columns = scalings
            mass_at_cap = rows.unsqueeze(1) + columns - CAP  # (N + 1, M + 1), logarithm of the mass
            if not ((above > cap) & (mass_at_cap > NEGLIGIBLE)).any():
                return rows + least.squeeze(1) / regularization, columns + least_of_columns / regularization
    return _log_sinkhorn(costs, regularization, steps, (least.squeeze(1) / regularization, torch.zeros_like(costs[0])))


def _scale_kernel(costs: Tensor, regularization: float, steps: int) -> tuple[Tensor, Tensor] | None:
    """Run Sinkhorn iterations on the kernel; return the logarithms of the scalings, or None if they break down."""
    from ot.bregman import sinkhorn_knopp  # imported here because it takes seconds and only this loss needs it

    marginals = [costs.new_full((size,), 1 / size) for size in costs.shape]
    start = [costs.new_zeros(size) for size in costs.shape]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        try:
            _, log = sinkhorn_knopp(*marginals, costs, regularization, numItermax=steps, stopThr=STOP_THRESHOLD,
                                    warn=False, log=True, warmstart=start)
        except UserWarning:  # sinkhorn_knopp reports numerical errors as warnings
            return None
    return log['u'].log(), log['v'].log()


def _log_sinkhorn(costs: Tensor, regularization: float, steps: int,
                  start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Run Sinkhorn iterations in the log domain, from the potentials ``start``."""
    from ot.bregman import sinkhorn_log

    marginals = [costs.new_full((size,), 1 / size) for size in costs.shape]
    _, log = sinkhorn_log(*marginals, costs, regularization, numItermax=steps, stopThr=STOP_THRESHOLD, warn=False,
                          log=True, warmstart=start)
    return log['log_u'], log['log_v']


def _log_mass(costs: Tensor, regularization: float, potentials: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the logarithm of the plan, (N + 1, M + 1), from the potentials."""
    rows, columns = potentials
    return (costs / -regularization).add_(rows.unsqueeze(1)).add_(columns)
