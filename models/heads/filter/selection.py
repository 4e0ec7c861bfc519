"""Select sensor weights and calibrate intervals by leaving groups out of the training recordings."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.heads.filter.left_out import FOLDS, conformal_margins, fold_indices
from models.heads.filter.segmented import SegmentedFilter, TrainingRecording

LABEL_WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
PHASE_WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
MOST_FRAMES = 16  # of an action that are rated; all of them count as evidence
MOST_ACTIONS = 600  # of a task that are rated, about
ROWS = 2000  # frames that are rated together
SEARCH_GRID = 64  # cells of the durations of the filters that are rated


class Fold(NamedTuple):
    """A filter, left-out recordings of its task, and the part of the groups that they belong to."""

    filter: SegmentedFilter
    left_out: list[TrainingRecording]
    part: int


class Rated(NamedTuple):
    """n left-out frames on which weights are evaluated.

    Attributes:
        log_prior: (n, K, G).
        by_label, by_phase: (n, K, 1), (n, K, G), sums of each sensor's unweighted evidence.
        elapsed, truth, fraction: (n,), frame number within the action, true progress, and weight in the mean error.
    """

    log_prior: Tensor
    by_label: Tensor
    by_phase: Tensor
    elapsed: Tensor
    truth: Tensor
    fraction: Tensor


def fit_filters(tasks: Mapping[str, Sequence[TrainingRecording]], num_labels: Mapping[str, int], feature_dim: int,
                ) -> dict[str, SegmentedFilter]:
    """Fit the filters of all tasks; weights and intervals, common to all tasks, are chosen on left-out recordings.

    Args:
        tasks: task -> its training recordings.
        num_labels: task -> K, its number of labels.
        feature_dim: D, the dimension of the embeddings.

    Returns:
        task -> filter.
    """
    folds = [fold for task, recordings in tasks.items()
             for fold in fit_folds(recordings, num_labels[task], feature_dim)]
    weights = choose_weights(folds)
    margin = calibrate_intervals(folds, weights)
    filters = {}
    for task, recordings in tasks.items():
        filters[task] = SegmentedFilter(num_labels[task], feature_dim).to(recordings[0].embeddings.device)
        # The filter that is used learns from all recordings; only weights and intervals come from the folds.
        filters[task].fit(recordings)
        filters[task].weights.copy_(weights)
        filters[task].margin.copy_(margin)
    return filters


def fit_folds(recordings: Sequence[TrainingRecording], num_labels: int, feature_dim: int) -> list[Fold]:
    """Return a filter of a task for each fold, fitted to the recordings that are not left out."""
    folds = []
    for part, left_out in enumerate(fold_indices([recording.group for recording in recordings])):
        training = [recording for index, recording in enumerate(recordings) if index not in left_out]
        if any(recording.labels for recording in training):
            fold_filter = SegmentedFilter(num_labels, feature_dim, grid_size=SEARCH_GRID)
            fold_filter.to(recordings[0].embeddings.device).fit(training)
            rated = [recordings[index] for index in left_out if recordings[index].labels]
            folds += [Fold(fold_filter, rated, part)] if rated else []
    return folds


def choose_weights(folds: Sequence[Fold]) -> Tensor:
    """Return the weights (2,) with the lowest mean absolute error on left-out recordings; zeros if there is no fold."""
    combinations = list(itertools.product(LABEL_WEIGHTS, PHASE_WEIGHTS))
    errors = torch.zeros(len(combinations), dtype=torch.float64)
    for fold in folds:
        for rated in _rated(fold):
            errors += torch.tensor([_error(fold.filter, rated, weights) for weights in combinations])
    return torch.tensor(combinations[int(errors.argmin())])


def calibrate_intervals(folds: Sequence[Fold], weights: Tensor) -> Tensor:
    """Return the margins that give the intervals their coverage on left-out frames; zeros if there is no fold.

    Args:
        folds: from :func:`fit_folds`.
        weights: (2,), weights of the sensors.

    Returns:
        (3,), to add to the estimate (0), the low end, and the high end, see :func:`conformal_margins`.
    """
    outside, fractions = defaultdict(list), defaultdict(list)
    for fold in folds:
        grid, levels = fold.filter.grid, fold.filter.levels[1:]
        for rated in _rated(fold):
            mass, surviving = _mass(fold.filter, rated, weights)
            low, high = grid.progress_quantiles(mass, rated.elapsed, surviving, levels).unbind(1)
            outside[fold.part].append(torch.stack([low - rated.truth, rated.truth - high], dim=1))
            fractions[fold.part].append(rated.fraction)
    if not outside:
        return weights.new_zeros(3)
    below, above = conformal_margins(*([torch.cat(rows) for rows in by_part.values()]
                                       for by_part in (outside, fractions))).unbind()
    return torch.stack([torch.zeros_like(below), -below, above])


def _rated(fold: Fold) -> Iterator[Rated]:
    """Iterate over the evaluated frames of a fold's left-out recordings, about ``ROWS`` at a time."""
    num_actions = sum(len(recording.labels) for recording in fold.left_out)
    # Rounded up: every n-th recording is rated, so that all folds together rate about MOST_ACTIONS actions.
    every = -(-num_actions * FOLDS // MOST_ACTIONS)
    rows: list[Rated] = []
    for recording in fold.left_out[::every]:
        rows += _rated_actions(fold.filter, recording, len(fold.left_out[::every]) / len(fold.left_out))
        if sum(len(row.truth) for row in rows) >= ROWS:
            yield Rated(*(torch.cat(values) for values in zip(*rows, strict=True)))
            rows = []
    if rows:
        yield Rated(*(torch.cat(values) for values in zip(*rows, strict=True)))


def _rated_actions(fold_filter: SegmentedFilter, recording: TrainingRecording, kept: float) -> Iterator[Rated]:
    """Iterate over the actions of a recording that represents ``1 / kept`` recordings."""
    done = recording.completed()
    for position, segment in enumerate(recording.segments()):
        # (n,), evenly spaced frames of the action; the evidence at each of them is the sum up to it.
        picked = torch.linspace(0, len(segment) - 1, min(len(segment), MOST_FRAMES)).round().long().to(segment.device)
        elapsed = torch.arange(1, len(segment) + 1).to(segment)
        by_label, by_phase = fold_filter.cells.log_evidence(fold_filter.features(segment))
        by_duration = fold_filter.at_durations(by_phase, elapsed).cumsum(0)[picked]  # (n, K, G)
        # A rated frame represents len / n frames of its action. Recordings weigh equally, as in the metric.
        fraction = len(segment) / len(picked) / sum(action.length for action in done) / kept
        yield Rated(fold_filter.log_prior([fold_filter.start(done[:position])]).expand_as(by_duration),
                    by_label.cumsum(0)[picked].unsqueeze(2), by_duration, elapsed[picked],
                    elapsed[picked] / len(segment), torch.full_like(elapsed[picked], fraction))


def _mass(fold_filter: SegmentedFilter, rated: Rated, weights: Sequence[float] | Tensor) -> tuple[Tensor, Tensor]:
    """Return the posterior mass of each duration, (n, G), and the surviving fraction of its cell, (n, G)."""
    # Linear in the weights: the sums of each sensor are computed once, for all weights. (n, K, G)
    log_mass = rated.log_prior + weights[0] * rated.by_label + weights[1] * rated.by_phase
    surviving = fold_filter.grid.surviving(rated.elapsed)
    mass = log_mass.flatten(1).softmax(1).unflatten(1, log_mass.shape[1:]).sum(1) * surviving
    return mass, surviving


def _error(fold_filter: SegmentedFilter, rated: Rated, weights: Sequence[float]) -> float:
    """Return the sum over evaluated frames of the absolute error times the frame's weight."""
    mass, surviving = _mass(fold_filter, rated, weights)
    median = fold_filter.grid.progress_quantiles(mass, rated.elapsed, surviving, mass.new_tensor([0.5])).squeeze(1)
    return ((median - rated.truth).abs() * rated.fraction).sum().item()
