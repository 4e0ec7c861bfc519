"""Folds that leave out groups of recordings, and quantiles of left-out values that cover a further group."""

from collections.abc import Sequence

import torch
from torch import Tensor

FOLDS = 5
COVERAGE = 0.9
# Fractions outside the interval on each side, of the calibrating groups; the first is right if people do not differ.
TAILS = (0.05, 0.04, 0.03, 0.02, 0.01, 0.005)


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
    ordered, index = values.sort()
    cumulative = weights[index].double().cumsum(0)
    # No interpolation: the quantile is one of the values.
    at = int(torch.searchsorted(cumulative, level * cumulative[-1]))
    return ordered[min(at, len(ordered) - 1)].item()


def choose_tail(values: Sequence[Tensor], weights: Sequence[Tensor], coverage: float = COVERAGE) -> float:
    """Return the tail of the calibrating groups that leaves a fraction ``coverage`` of a further group inside.

    Values within a group are similar, so the quantiles of few groups cover too little of another group. For each group,
    the interval is therefore calibrated on the other groups; the largest tail is chosen that covers enough on average.

    Args:
        values: (n_g,) of each left-out group, such as ranks of the truth in its posterior.
        weights: (n_g,), weights of the values; the groups' totals weight the average over groups.
        coverage: fraction of the weight that is inside, in (0, 1).

    Returns:
        One of ``TAILS``: the smallest if none covers enough, the largest if there is only one group.

    Reference:
        Barber, Candes, Ramdas & Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics, 2021
        (leave-one-out calibration; here of groups).
    """
    if len(values) < 2:
        return TAILS[0]
    for tail in TAILS:
        inside = total = 0.0
        for group, (value, weight) in enumerate(zip(values, weights, strict=True)):
            others = [torch.cat([*some[:group], *some[group + 1:]]) for some in (list(values), list(weights))]
            # The group's values play no part in the interval that they are tested with.
            low, high = (weighted_quantile(*others, level) for level in (tail, 1 - tail))
            inside += weight[(value >= low) & (value <= high)].sum().item()
            total += weight.sum().item()
        if inside >= coverage * total:
            return tail
    return TAILS[-1]
