"""Fit the filter with unknown boundaries: closed-form parts, then weights and intervals on left-out groups."""

import math
from collections.abc import Sequence

import torch

from models.heads.base import EmbeddedRecording
from models.heads.filter.annotated import Rated, Recording, annotate
from models.heads.filter.left_out import fold_indices, weighted_quantile
from models.heads.filter.unsegmented import UnsegmentedFilter
from models.heads.filter.unsegmented_intervals import by_recording, calibrate_progress, calibrate_remaining
from models.heads.filter.unsegmented_weights import choose_weights

FOLDS = 6
FEWEST_GROUPS = 3  # a classifier of steps that is fitted to one of two groups says little about one fitted to both
FEWEST_RECORDINGS = 3  # with fewer, the weights are the defaults
MOST_FRAMES = 24_000  # of left-out recordings that weights and intervals are chosen on
UNKNOWN = 0.99  # of left-out training frames are known


def fit_filter(recordings: Sequence[EmbeddedRecording], labels: Sequence[str], *,
               choose: bool = True) -> UnsegmentedFilter:
    """Fit a filter for a task.

    Args:
        recordings: training recordings of the task; at least one has an action.
        labels: labels of the task.
        choose: select weights, rule, and intervals by leaving groups out; if False, keep the defaults.
    """
    items = [annotate(recording.embeddings, recording.actions, labels, recording.group or recording.handle)
             for recording in recordings]
    has_background = any(bool((item.label == len(labels)).any()) for item in items)
    model = UnsegmentedFilter(labels, items[0].embeddings.shape[1], has_background).to(items[0].embeddings.device)
    fit_parts(model, items)
    if choose and len(items) >= FEWEST_RECORDINGS:
        calibrate(model, items)
    return model


@torch.no_grad()
def fit_parts(model: UnsegmentedFilter, items: Sequence[Recording]) -> None:
    """Fit features, sensors, prior, and remaining frames, in place."""
    model.features.fit(torch.cat([item.embeddings for item in items]))
    frames = torch.cat([model.features(item.embeddings.unsqueeze(0)).squeeze(0) for item in items])
    label, phase = torch.cat([item.label for item in items]), torch.cat([item.phase for item in items])
    model.cells.fit(frames, label, phase)
    action = label < model.num_labels
    # The grid's phases count the current frame. Finer bins than those of the other cells would show it if they did not.
    progress = torch.cat([item.progress for item in items])
    model.short.fit(frames[action, :model.features.short_dim], label[action], progress[action])
    projected = (frames - model.cells.offset) @ model.cells.projection
    context = torch.cat([model.averages(part) for part in projected.split([len(item.label) for item in items])])
    model.logistic.fit(frames, projected, context, torch.cat([item.kind for item in items]))
    model.grid.fit([item.segments for item in items], [item.group for item in items])
    model.rest.fit(model.grid, [len(item.label) for item in items])
    model.derive()
    distance = model.sense(model.project(frames), context).distance
    # Training frames are closer to their own cells than new frames are; calibrate() uses left-out frames instead.
    model.unknown_above.fill_(1.5 * weighted_quantile(distance, torch.ones_like(distance), UNKNOWN))


@torch.no_grad()
def calibrate(model: UnsegmentedFilter, items: Sequence[Recording]) -> None:
    """Choose weights, rule, blend, and intervals on groups left out of the training recordings, in place.

    They stay as they are if all actions are in one fold, because nothing is left to learn from or to rate.
    """
    folds, stride = [], math.ceil(sum(len(item.label) for item in items) / MOST_FRAMES)
    for left in fold_indices([item.group for item in items], FOLDS, fewest_groups=FEWEST_GROUPS):
        kept = [items[index] for index in range(len(items)) if index not in left]
        if not any(item.has_actions for item in kept):
            continue
        fold = UnsegmentedFilter(model.labels, model.features.embedding_dim, model.has_background)
        fold.to(items[0].embeddings.device)
        fit_parts(fold, kept)
        folds.append([Rated(items[i], fold, fold.sense_recording(items[i].embeddings))
                      for i in left[::stride]])
    rated = [item for some in folds for item in some]
    if not any(item.recording.has_actions for item in rated):
        return
    posteriors = choose_weights(model, folds)
    model.margin.copy_(calibrate_progress([item.recording for item in rated], posteriors))
    calibrate_remaining(model.rest, rated, posteriors)
    distance, weight = by_recording([item.evidence.distance for item in rated])
    model.unknown_above.fill_(weighted_quantile(distance, weight, UNKNOWN))
