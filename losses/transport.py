"""Order-preserving optimal transport between the frames of two recordings, with a virtual frame on each side."""

import math
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

STOP_THRESHOLD = 1e-9  # deviation of the marginals at which Sinkhorn's steps end
BLOCK_ENTRIES = 2 ** 18  # entries of the costs computed at once: 2 MiB in float64 stay in the cache
CAP = 600.0  # costs this many regularisations above the least of their row and column underflow in the plan
NEGLIGIBLE = -200.0  # logarithm of a mass that is certainly nothing


class TransportPlan(NamedTuple):
    """How the frames of u (N) and v (M) are matched; the virtual frame is the last one of each side.

    Attributes:
        log_mass: (N + 1, M + 1), logarithm of the plan; rows sum to 1 / (N + 1) and, as far as the steps went,
            columns to 1 / (M + 1).
        objective: (), what the plan minimises.
    """

    log_mass: Tensor
    objective: Tensor


class _Matches(NamedTuple):
    """Best match of every frame of u in v, (N,), and of every frame of v in u, (M,)."""

    of_rows: Tensor
    of_columns: Tensor


@torch.no_grad()
def transport_plan(distances: Tensor, max_steps: int, lambda1: float, lambda2: float, zeta: float, delta: float,
                   phase: float) -> TransportPlan:
    """Match two sequences by order-preserving optimal transport.

    The plan T has uniform marginals over the frames and one virtual frame on each side, and minimises
    ``<T, D> - lambda1 <T, S> + lambda2 sum T log(T / P)``. With ``x = i / N``, ``y = j / M`` (frames counted from 1),
    ``i*`` and ``j*`` the best matches of frames j and i under the previous plan, ``phi`` the phase, and
    ``r = sqrt(1/N^2 + 1/M^2)``:

    - ``P = phi Pc + (1 - phi) Po``, normal densities of deviation ``delta`` of ``|x - y| / r`` and of
      ``(|x - i*/N| + |y - j*/M|) / (2 r)``;
    - ``S = phi / ((x - y)^2 + 1) + (1 - phi) / (((x - i*/N)^2 + (y - j*/M)^2) / 2 + 1)``.

    A virtual frame has no time: its entries cost ``zeta``, with ``S = 0`` and ``P = 1``. The previous plan is that of
    the distances alone, from the first half of the steps.

    Args:
        distances: D, (N, M), >= 0.
        max_steps: Sinkhorn steps in all, >= 2; fewer where the marginals are met before.
        lambda1: >= 0.
        lambda2: > 0.
        zeta: > 0.
        delta: > 0.
        phase: phi, in (0, 1).

    Returns:
        The plan, float64 where the device has it, without gradient.

    Reference:
        Liu et al., CVPR 2022; Su & Hua, CVPR 2017; Cuturi, Sinkhorn Distances, NeurIPS 2013.
    """
    half = max_steps // 2
    costs = _with_virtual_frames(distances, zeta)
    previous = _log_mass(costs, lambda2, _sinkhorn(costs, lambda2, half))
    matches = _Matches(*(best_and_least_matches(previous, axis)[0] for axis in (1, 0)))
    costs = _add_order(costs, matches, phase, lambda1, lambda2, delta)
    rows, columns = _sinkhorn(costs, lambda2, max_steps - half)
    log_mass = _log_mass(costs, lambda2, (rows, columns))
    mass = log_mass.exp()
    # <T, C> + lambda2 <T, log T>, with log T = f + g - C / lambda2.
    objective = lambda2 * (rows @ mass.sum(1) + columns @ mass.sum(0))
    return TransportPlan(log_mass, objective)


def best_and_least_matches(log_mass: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the true frames that the plan matches most and least with each true frame of one side.

    Args:
        log_mass: (N + 1, M + 1), see :class:`TransportPlan`.
        axis: 1 for the frames of u, 0 for those of v.

    Returns:
        Indices into v, each (N,), or into u, each (M,).
    """
    between = log_mass[:-1, :-1]
    return between.argmax(axis), between.argmin(axis)


def _with_virtual_frames(distances: Tensor, zeta: float) -> Tensor:
    """Append the virtual frames, (N, M) -> (N + 1, M + 1)."""
    return F.pad(widen(distances), (0, 1, 0, 1), value=zeta)


def _add_order(costs: Tensor, matches: _Matches, phase: float, lambda1: float, lambda2: float,
               delta: float) -> Tensor:
    """Subtract ``lambda1 S + lambda2 log P`` from the true frames' costs, in place and in blocks of rows."""
    rows, columns = costs.shape[0] - 1, costs.shape[1] - 1
    x = torch.arange(1, rows + 1, dtype=costs.dtype, device=costs.device).unsqueeze(1) / rows
    y = torch.arange(1, columns + 1, dtype=costs.dtype, device=costs.device) / columns
    spread = 2 * (delta * math.hypot(1 / rows, 1 / columns)) ** 2
    log_normaliser = math.log(delta * math.sqrt(2 * math.pi))
    step = max(1, BLOCK_ENTRIES // columns)
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        from_diagonal = (x[block] - y).square()
        from_row = (x[block] - x[matches.of_columns].T).abs()
        from_column = (y - y[matches.of_rows[block]].unsqueeze(1)).abs()
        moment = phase / (from_diagonal + 1)
        moment += (1 - phase) / ((from_row.square() + from_column.square()) / 2 + 1)
        from_match = ((from_row + from_column) / 2).square()
        log_prior = torch.logaddexp(from_diagonal / -spread + math.log(phase),
                                    from_match / -spread + math.log1p(-phase))
        true_costs = costs[block, :-1]
        true_costs.sub_(moment, alpha=lambda1).sub_(log_prior - log_normaliser, alpha=lambda2)
    return costs


def _sinkhorn(costs: Tensor, regularisation: float, steps: int) -> tuple[Tensor, Tensor]:
    """Run Sinkhorn's steps and return the potentials of rows and columns.

    They begin at each row's least cost of a true frame: begun at 0, they would first hand all mass to the virtual
    frames and take hundreds of steps to take it back.

    Scaling rows and columns of the kernel costs a tenth of the steps in the log domain, which exponentiate the whole
    matrix each time. Costs are taken above the least of their row and column, so that the kernel has a 1 in each, and
    capped where it would underflow, which takes a CPU several times longer. Where the cap may have changed the plan,
    or the scalings leave the range of float64, the steps are run on the true costs in the log domain.
    """
    least = costs[:, :-1].amin(1, keepdim=True)
    above = costs - least
    least_of_columns = above.amin(0)
    above -= least_of_columns
    if costs.dtype == torch.float64:
        cap = CAP * regularisation
        scalings = _scale_kernel(above.clamp(max=cap), regularisation, steps)
        if scalings is not None:
            rows, columns = scalings
            mass_at_cap = rows.unsqueeze(1) + columns - CAP
            if not ((above > cap) & (mass_at_cap > NEGLIGIBLE)).any():
                return rows + least.squeeze(1) / regularisation, columns + least_of_columns / regularisation
    return _log_sinkhorn(costs, regularisation, steps, (least.squeeze(1) / regularisation, torch.zeros_like(costs[0])))


def _scale_kernel(costs: Tensor, regularisation: float, steps: int) -> tuple[Tensor, Tensor] | None:
    """Run Sinkhorn's steps on the kernel, and return the logarithms of the scalings; None where they break down."""
    from ot.bregman import sinkhorn_knopp  # takes seconds to import, and only this loss needs it

    marginals = [costs.new_full((size,), 1 / size) for size in costs.shape]
    start = [costs.new_zeros(size) for size in costs.shape]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        try:
            _, log = sinkhorn_knopp(*marginals, costs, regularisation, numItermax=steps, stopThr=STOP_THRESHOLD,
                                    warn=False, log=True, warmstart=start)
        except UserWarning:  # how it reports numerical errors
            return None
    return log['u'].log(), log['v'].log()


def _log_sinkhorn(costs: Tensor, regularisation: float, steps: int,
                  start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Run Sinkhorn's steps in the log domain."""
    from ot.bregman import sinkhorn_log

    marginals = [costs.new_full((size,), 1 / size) for size in costs.shape]
    _, log = sinkhorn_log(*marginals, costs, regularisation, numItermax=steps, stopThr=STOP_THRESHOLD, warn=False,
                          log=True, warmstart=start)
    return log['log_u'], log['log_v']


def _log_mass(costs: Tensor, regularisation: float, potentials: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the logarithm of the plan of the potentials, (N + 1, M + 1)."""
    rows, columns = potentials
    return (costs / -regularisation).add_(rows.unsqueeze(1)).add_(columns)
