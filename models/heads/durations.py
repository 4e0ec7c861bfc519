"""Durations of actions: densities adjusted for the recording's pace, and the pace of a recording so far."""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

LARGEST_SHRINKAGE = 50.0  # in actions; the pace of fewer completed actions then stays near average
KERNELS = (0.2, 0.3, 0.45)  # kernel std, as a fraction of the std of log durations within a label
POOLING = (1.0, 3.0, 10.0, 30.0)  # number of a label's own actions that weigh as much as the shape pooled over labels
TAIL, TAIL_SCALE = 0.01, 2.5  # mixture weight and relative std of a wide component for outliers
MOST_KERNELS = 2 ** 20  # kernels evaluated at once, 8 MiB; all of them would take memory in proportion to the actions
MOST_RATED = 1000  # training actions, at most, whose left-out likelihood selects the smoothing
SMALLEST_STD = 0.1  # of log durations, about one frame in ten
TABLE_REACH, TABLE_SIZE = 4.0, 161  # deviations at which densities are stored, in log frames around the label's mean
PACE_LEVELS = 9  # completed actions at which densities are stored: 0, 1, 2, 4, ...


class Completed(NamedTuple):
    """A completed action: its label as an integer (out of range if absent from training), and its number of frames."""

    label: int
    length: int


class Durations(nn.Module):
    """Log densities of the durations of K labels, given a recording's pace so far.

    The log duration of an action is ``m_k + pace + deviation``: the pace is a random effect of the recording with
    variance ``between``, and deviations have variance ``within``. The pace is estimated from completed actions as their
    shrunken mean deviation; its remaining variance widens the density. The density's shape is a kernel density of the
    label's own training deviations, mixed with the kernel density of all labels (for rare labels) and a wide tail.

    Args:
        num_labels: K, the number of labels.

    Attributes:
        log_means: buffer (K,), log frames.
        spread: buffer (3,), variances ``within`` and ``between`` and the shrinkage (actions at average pace that a
            recording is credited with before its first).
        frequency: buffer (K,), fraction of the training actions.
        table: buffer (levels, K, R), log density per unit of log frames at deviations from -4 to 4.

    Reference:
        Searle, Casella & McCulloch, Variance Components, 1992 (the one-way random model).
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.register_buffer('log_means', torch.zeros(num_labels))
        self.register_buffer('spread', torch.tensor([0.2, 0.0, LARGEST_SHRINKAGE]))
        self.register_buffer('frequency', torch.full((num_labels,), 1 / num_labels))
        self.register_buffer('range', torch.tensor([1.0, 100.0]))  # shortest and longest training action, frames
        self.register_buffer('table', torch.zeros(PACE_LEVELS, num_labels, TABLE_SIZE))

    def fit(self, recordings: Sequence[Sequence[Completed]], groups: Sequence[Hashable] | None = None) -> None:
        """Fit means, variances, and densities to the actions of each training recording, in place.

        Args:
            recordings: actions of each recording, in order of time.
            groups: who performs each recording; a group is left out as a whole to select the smoothing. If None, every
                recording is its own group.

        Raises:
            ValueError: no action has a label in [0, K).
        """
        # Log durations, because durations are skewed and a pace multiplies them: an offset on the log scale.
        rows = [(a.label, math.log(a.length), index) for index, actions in enumerate(recordings) for a in actions
                if 0 <= a.label < self.num_labels]
        if not rows:
            raise ValueError('no actions, expected at least one to learn durations from')
        label, log_length, recording = (np.array(column) for column in zip(*rows, strict=True))
        # Renumber without gaps: recordings without a known action have no rows, and bincount would give them empty
        # bins.
        recording = np.unique(recording, return_inverse=True)[1]
        means, within, between = _mixed_model(label, recording, log_length, self.num_labels)
        # The posterior mean of the pace, prior variance between, after n deviations of variance within, is their sum /
        # (n + within / between). Without between-variance all recordings have the same pace: shrink as much as allowed.
        shrinkage = min(within / between, LARGEST_SHRINKAGE) if between > 0 else LARGEST_SHRINKAGE
        self.log_means.copy_(torch.from_numpy(means))
        self.spread.copy_(torch.tensor([within, between, shrinkage]))
        counts = np.bincount(label, minlength=self.num_labels)
        self.frequency.copy_(torch.from_numpy((counts + 0.5) / (counts + 0.5).sum()))  # all > 0
        self.range.copy_(torch.tensor([math.exp(log_length.min()), math.exp(log_length.max())]))
        # Shape of the density: what is left of a duration once label and pace are known.
        deviations = _free_of_pace(log_length - means[label], recording, shrinkage)
        names = list(dict.fromkeys(groups)) if groups is not None else None
        # Without named groups, leave out recordings: actions of one recording share its pace.
        group = np.array([names.index(groups[row[2]]) for row in rows]) if names and len(names) > 1 else recording
        kernel, pooling = _choose_smoothing(deviations, label, group, within)
        at = np.linspace(-TABLE_REACH, TABLE_REACH, TABLE_SIZE)
        for level in range(PACE_LEVELS):
            # After few completed actions the pace is uncertain; its variance widens the density of that level.
            open_pace = self.pace_variance(_completed_at(level))
            density = _density(at, deviations, label, self.num_labels, within, kernel, pooling, open_pace)
            self.table[level] = torch.from_numpy(np.log(density))

    def log_pace(self, completed: Sequence[Completed]) -> float:
        """Return the log of a recording's pace given its completed actions; unknown labels are ignored."""
        means, shrinkage = self.log_means.tolist(), self.spread[2].item()
        ratios = [math.log(a.length) - means[a.label] for a in completed if 0 <= a.label < self.num_labels]
        return sum(ratios) / (len(ratios) + shrinkage) if ratios else 0.0

    def num_known(self, completed: Sequence[Completed]) -> int:
        """Return the number of completed actions with a known label; only these contribute to the pace."""
        return sum(0 <= a.label < self.num_labels for a in completed)

    def pace_variance(self, num_completed: float) -> float:
        """Return the variance of the log pace that remains after a number of completed actions."""
        _, between, shrinkage = self.spread.tolist()
        # 1 / (1 / between + n / within), written with the shrinkage s = within / between.
        return between * shrinkage / (num_completed + shrinkage)

    def log_density(self, log_frames: Tensor, log_pace: Tensor | float = 0.0,
                    num_completed: Tensor | float = 0.0) -> Tensor:
        """Return the log density of each label's durations, per unit of log frames.

        Args:
            log_frames: (G,), log durations.
            log_pace: () or (B,), the pace so far, see :meth:`log_pace`.
            num_completed: () or (B,), completed actions that the pace was estimated from, see :meth:`num_known`.

        Returns:
            (K, G) or (B, K, G).
        """
        log_pace, num_completed = (torch.as_tensor(value, dtype=self.table.dtype, device=self.table.device)
                                   for value in (log_pace, num_completed))
        deviation = log_frames - self.log_means[:, None] - log_pace[..., None, None]  # (..., K, G)
        # Coordinate in the table, (..., K, G). The limit below TABLE_SIZE - 1 keeps before + 1 inside.
        position = ((deviation + TABLE_REACH) * ((TABLE_SIZE - 1) / (2 * TABLE_REACH))).clamp(0, TABLE_SIZE - 1.001)
        before = position.floor().long()
        level = (num_completed + 1).log2().clamp(0, PACE_LEVELS - 1.001)  # (...), inverse of _completed_at
        table = torch.lerp(self.table[level.floor().long()], self.table[level.floor().long() + 1],
                           (level - level.floor())[..., None, None])  # (..., K, R)
        # Linear interpolation of log densities between neighboring points, (..., K, G).
        return torch.lerp(table.gather(-1, before), table.gather(-1, before + 1), position - before)


def _completed_at(level: int) -> int:
    """Return the number of completed actions at a level of the table: 0, 1, 3, 7, ..."""
    return 2 ** level - 1


def _mixed_model(label: np.ndarray, group: np.ndarray, values: np.ndarray,
                 num_labels: int) -> tuple[np.ndarray, float, float]:
    """Return the mean of each label (K,) and the variances within and between groups (recordings).

    Unseen labels get the mean over all actions.
    """
    counts = np.bincount(label, minlength=num_labels)
    means = np.where(counts > 0, np.bincount(label, values, num_labels) / np.maximum(counts, 1), values.mean())  # (K,)
    deviation = values - means[label]
    sizes = np.bincount(group)  # (groups,)
    group_means = np.bincount(group, deviation) / sizes
    # Labels and groups together lose one degree of freedom less, as both sets of means contain the overall mean; hence
    # the + 1 below.
    lost = np.count_nonzero(counts)  # degrees of freedom spent on the labels' means
    if (freedom := len(values) - len(sizes) - lost + 1) > 0 and len(sizes) > 1:
        within = ((deviation - group_means[group]) ** 2).sum() / freedom
        # A group mean of n deviations has variance between + within / n. This moment estimate may be negative.
        between = max(float(np.mean(group_means ** 2 - within / sizes)), 0.0)
    else:
        within, between = (deviation ** 2).sum() / max(len(values) - lost, 1), 0.0
    return means, max(float(within), SMALLEST_STD ** 2), between  # a std of 0 would make densities infinite


def _free_of_pace(deviation: np.ndarray, group: np.ndarray, shrinkage: float) -> np.ndarray:
    """Subtract each recording's shrunken mean from deviations from the label's mean: (n,) -> (n,)."""
    sums, sizes = np.bincount(group, deviation), np.bincount(group)
    # Shrunken, not the full mean: a recording with one action would otherwise have a deviation of exactly 0.
    return deviation - (sums / (sizes + shrinkage))[group]


def _normal(x: np.ndarray, variance: float | np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x ** 2 / variance) / np.sqrt(2 * np.pi * variance)


def _shrink(kernel: float, within: float) -> float:
    """Return the factor on deviations that preserves their variance after smoothing with a kernel of this std."""
    # A kernel of variance h^2 adds h^2 to the variance, so deviations shrink by sqrt(1 - h^2 / within) first.
    return math.sqrt(1 - min(kernel ** 2 / within, 0.5))


def _choose_smoothing(deviation: np.ndarray, label: np.ndarray, group: np.ndarray,
                      within: float) -> tuple[float, float]:
    """Return the kernel std (in log frames) and the pooling with the best log likelihood of left-out groups."""
    rated = np.unique(np.linspace(0, len(label) - 1, MOST_RATED).round().astype(int))
    best = (-math.inf, KERNELS[-1], POOLING[-1])
    tail = _normal(deviation[rated], TAIL_SCALE ** 2 * within)
    for factor in KERNELS:
        parts = [_left_out_sums(block, deviation, label, group, within, factor * math.sqrt(within))
                 for block in _blocks(rated, len(label))]
        own, shared, same_label = (np.concatenate(column) for column in zip(*parts, strict=True))  # (rated,) each
        for pooling in POOLING:
            # As if pooling additional actions of the label had the density of all labels: few own actions count little.
            density = (own + pooling * shared) / (same_label + pooling)
            # The tail bounds the log likelihood from below: one odd action must not decide.
            score = float(np.log((1 - TAIL) * density + TAIL * tail).mean())
            if score > best[0]:
                best = score, factor, pooling
    return best[1] * math.sqrt(within), best[2]


def _blocks(rows: np.ndarray, num_actions: int) -> list[np.ndarray]:
    """Divide the rows of a table with a column per action into blocks of at most ``MOST_KERNELS`` entries."""
    size = max(1, MOST_KERNELS // num_actions)
    return [rows[start:start + size] for start in range(0, len(rows), size)]


def _left_out_sums(rated: np.ndarray, deviation: np.ndarray, label: np.ndarray, group: np.ndarray, within: float,
                   std: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums of kernels at the rated actions (indices), as if their groups were left out, (rated,) each.

    They are the sum over a label's own actions, the mean over the actions of all labels, and the number of own actions.
    """
    # Kernels of a left-out action are centered at the actions of other groups only.
    other = group[rated, None] != group  # (rated, n)
    same_label = other & (label[rated, None] == label)  # (rated, n)
    kernel = _normal(deviation[rated, None] - _shrink(std, within) * deviation, std ** 2)  # (rated, n)
    return ((kernel * same_label).sum(1), (kernel * other).sum(1) / np.maximum(other.sum(1), 1), same_label.sum(1))


def _density(at: np.ndarray, deviation: np.ndarray, label: np.ndarray, num_labels: int, within: float, kernel: float,
             pooling: float, open_pace: float) -> np.ndarray:
    """Return the density (K, R) of each label's deviations at points (R,); ``open_pace`` is the pace's variance."""
    shared, own = [], []
    for block in _blocks(at, len(label)):
        # A normal kernel, convolved with the normal uncertainty of the pace: variances add.
        kernels = _normal(block[:, None] - _shrink(kernel, within) * deviation, kernel ** 2 + open_pace)  # (r, n)
        shared.append(kernels.mean(1))
        own.append(np.stack([kernels[:, label == k].sum(1) for k in range(num_labels)]))  # (K, r)
    counts = np.bincount(label, minlength=num_labels)  # (K,)
    density = (np.concatenate(own, axis=1) + pooling * np.concatenate(shared)) / (counts[:, None] + pooling)  # (K, R)
    return (1 - TAIL) * density + TAIL * _normal(at, TAIL_SCALE ** 2 * within + open_pace)
