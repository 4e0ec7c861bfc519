"""Folds that leave out groups of recordings, and margins from left-out values that cover a further group."""

from collections.abc import Sequence

import torch
from torch import Tensor

FOLDS = 5
COVERAGE = 0.9
# Fractions outside the interval on each side, of the calibrating groups; the first is right if people do not differ.
TAILS = (0.05, 0.045, 0.04, 0.035, 0.03, 0.025, 0.02, 0.015, 0.01, 0.005)


def fold_indices(groups: Sequence[str], count: int = FOLDS, *, fewest_groups: int = 2) -> list[list[int]]:
    """Return the recordings that each fold leaves out; a group is left out as a whole.

    Args:
        groups: group of each recording.
        count: number of folds, if there are at least that many groups.
        fewest_groups: with fewer groups, adjacent recordings are left out instead of groups.

    Returns:
        Indices of recordings for each fold; no folds if there is only one recording.
    """
    names = sorted(set(groups))
    if len(names) < fewest_groups:
        names, groups = list(range(len(groups))), range(len(groups))
    count = min(count, len(names))
    # Consecutive names form a part; parts differ by at most one name.
    part_of = {name: index * count // len(names) for index, name in enumerate(names)}
    parts = [[index for index, group in enumerate(groups) if part_of[group] == part] for part in range(count)]
    return parts if count > 1 else []


def weighted_quantile(values: Tensor, weights: Tensor, level: float) -> float:
    """Return the weighted quantile: the least value that a fraction ``level`` of the weights is not above."""
    return _weighted_quantiles(values, weights, torch.tensor([level])).item()


def conformal_margins(outside: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return how far to move the ends of intervals outward so that they cover a further group.

    Values within a group are similar, so margins from few groups cover too little of another group. For each group, the
    margins are therefore chosen on the other groups; the largest fraction beyond each end is taken that leaves enough
    inside on average.

    Args:
        outside: (n_g, 2) of each left-out group: how far the truth is below the low end, and above the high end;
            negative inside.
        weights: (n_g,), weights of these rows; the groups' totals weight the average over groups.

    Returns:
        (2,), margins of the low and the high end, at least 0. The fraction of the truth beyond each is one of
        ``TAILS``: the first if there is only one group, the last if none leaves enough inside.

    References:
        Romano, Patterson & Candes, "Conformalized quantile regression", NeurIPS 2019.
        Barber, Candes, Ramdas & Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics, 2021
        (leave-one-out calibration; here of groups).
    """
    rows, weight = torch.cat(list(outside)), torch.cat(list(weights))
    tails = torch.tensor(TAILS, dtype=torch.float64, device=rows.device)
    if len(outside) == 1:
        return _margins(rows, weight, tails[:1]).squeeze(0)
    group = torch.arange(len(outside)).repeat_interleave(torch.tensor([len(part) for part in outside])).to(rows.device)
    covered = torch.zeros_like(tails)
    for number in range(len(outside)):
        own = group == number
        # The group's rows play no part in the margins that they are tested with. (n_g, tails, 2)
        inside = rows[own].unsqueeze(1) <= _margins(rows[~own], weight[~own], tails)
        covered += weight[own].double() @ inside.all(2).double()
    enough = tails[covered >= COVERAGE * weight.double().sum()]
    return _margins(rows, weight, enough[:1] if len(enough) else tails[-1:]).squeeze(0)


def _margins(rows: Tensor, weights: Tensor, tails: Tensor) -> Tensor:
    """Return margins (L, 2) that leave fractions (L,) of the rows (n, 2) beyond each end."""
    return torch.stack([_weighted_quantiles(values, weights, 1 - tails) for values in rows.unbind(1)],
                       dim=1).clamp(min=0)


def _weighted_quantiles(values: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
    """Return the weighted quantiles (L,) of values (n,) at levels (L,)."""
    ordered, index = values.sort()
    cumulative = weights[index].double().cumsum(0)
    # No interpolation: a quantile is one of the values.
    at = torch.searchsorted(cumulative, levels.to(cumulative) * cumulative[-1])
    return ordered[at.clamp(max=len(ordered) - 1)]
