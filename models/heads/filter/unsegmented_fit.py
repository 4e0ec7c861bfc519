"""Fit the filter with unknown boundaries: closed-form parts, then weights and intervals on left-out groups."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.heads.base import EmbeddedRecording
from models.heads.filter.decision import decide_all
from models.heads.filter.left_out import choose_tail, fold_indices, weighted_quantile
from models.heads.filter.phase_grid import PHASES
from models.heads.filter.records import Evidence, Posterior
from models.heads.filter.remaining import Remaining
from models.heads.filter.unsegmented import DEFAULT_RULE, UnsegmentedFilter, phase_quantiles
from utils.edit_distance import levenshtein
from utils.tensorops import Action

FOLDS = 6
FEWEST_GROUPS = 3  # a classifier of steps that is fitted to one of two groups says little about one fitted to both
FEWEST_RECORDINGS = 3  # with fewer, the weights are the defaults
MOST_FRAMES = 24_000  # of left-out recordings that weights and intervals are chosen on
DEFAULTS = {'label': 0.1, 'short': 0.0, 'phase': 0.1}  # weights that are kept unless others are clearly better
OPTIONS = {'label': (0.0, 0.05, 0.1, 0.2, 0.4, 0.8),  # the logistic sensor's; the Gaussian one has half of it
           'short': (0.0, 0.1, 0.3, 0.6, 1.0),  # phases, from short-term features
           'phase': (0.0, 0.03, 0.1, 0.3)}  # phases, from all features
# Caution, handicap, and reading, the default first.
RULES = (DEFAULT_RULE, (*DEFAULT_RULE[:2], 0.5), (*DEFAULT_RULE[:2], 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.5))
CLEARLY = 2.0  # standard errors by which the best of a dozen options must beat the default
BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
UNKNOWN = 0.99  # of left-out training frames are known
EXTREME = 0.002  # levels of an interval's ends are at least this far from 0 and 1


class Recording(NamedTuple):
    """A training recording: embeddings (T, D), label and progress of each frame, its segments, and its group."""

    embeddings: Tensor
    kind: Tensor  # (T,), kind of segment, as in `segments`
    label: Tensor  # (T,), K is background
    phase: Tensor  # (T,), middle of the frame within its segment, in (0, 1)
    progress: Tensor  # (T,), within the action, in (0, 1]; NaN in background
    segments: list[tuple[int, int]]  # (kind, frames), as PhaseGrid.fit expects
    group: str


class Rated(NamedTuple):
    """A left-out recording, a filter fitted without it, and the evidence of the filter's sensors."""

    recording: Recording
    model: UnsegmentedFilter
    evidence: Evidence


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


def annotate(embeddings: Tensor, actions: Sequence[Action], labels: Sequence[str], group: str) -> Recording:
    """Return a recording with the label, phase, and progress of each frame."""
    length, k = len(embeddings), len(labels)
    spans, end, previous = [], 0, k
    for action in actions:
        # Half-open, without overlap, and within the features.
        start, stop = max(action.start, end), min(action.end + 1, length)
        if stop <= start:
            continue
        if start > end:
            # A gap is background, of the kind that follows the previous label.
            spans.append((k + previous, end, start))
        previous = labels.index(action.name)
        spans.append((previous, start, stop))
        end = stop
    if end < length:
        spans.append((k + previous, end, length))
    sizes = torch.tensor([stop - start for _, start, stop in spans])
    kind = torch.tensor([span[0] for span in spans]).repeat_interleave(sizes)
    # (T,), progress: the end of each frame within its segment. Its middle, the phase, is half a frame earlier.
    place = torch.cat([torch.arange(1, size + 1) / size for size in sizes.tolist()])
    half = torch.repeat_interleave(0.5 / sizes, sizes)
    device = embeddings.device
    return Recording(embeddings.float(), kind.to(device), kind.clamp(max=k).to(device), (place - half).to(device),
                     torch.where(kind < k, place, torch.nan).to(device),
                     [(kind, stop - start) for kind, start, stop in spans], group)


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
    """Choose weights, rule, blend, and intervals on groups left out of the training recordings, in place."""
    folds, stride = [], math.ceil(sum(len(item.label) for item in items) / MOST_FRAMES)
    for left in fold_indices([item.group for item in items], FOLDS, fewest_groups=FEWEST_GROUPS):
        kept = [index for index in range(len(items)) if index not in left]
        fold = UnsegmentedFilter(model.labels, model.features.embedding_dim, model.has_background)
        fold.to(items[0].embeddings.device)
        fit_parts(fold, [items[index] for index in kept])
        folds.append([Rated(items[i], fold, fold.sense_recording(items[i].embeddings))
                      for i in left[::stride]])
    rated = [item for some in folds for item in some]
    posteriors = choose_weights(model, folds)
    levels, margin = calibrate_progress([item.recording for item in rated], posteriors)
    model.levels.copy_(levels)
    model.margin.copy_(margin)
    calibrate_remaining(model.rest, rated, posteriors)
    distance, weight = _by_recording([item.evidence.distance for item in rated])
    model.unknown_above.fill_(weighted_quantile(distance, weight, UNKNOWN))


def choose_weights(model: UnsegmentedFilter, folds: Sequence[Sequence[Rated]]) -> list[Posterior]:
    """Select weights and rule, in place; return the posteriors of the left-out recordings under them.

    Weights are selected one after another, then the rule. The best option replaces the current option only if it is
    better by more than ``CLEARLY`` standard errors of the difference over paired recordings, because with few
    recordings many options are better by chance.
    """
    chosen = dict(DEFAULTS)
    ((posteriors, scores),) = _try_weights(folds, [chosen])
    for name, options in OPTIONS.items():
        trials = [chosen | {name: option} for option in options if option != chosen[name]]
        found = _try_weights(folds, trials)
        best = min(range(len(trials)), key=lambda number: found[number][1][:, 0].mean())
        if _is_better(found[best][1][:, 0], scores[:, 0]):
            chosen, (posteriors, scores) = trials[best], found[best]
    best = int(scores.mean(0).argmin())
    model.weights.copy_(sensor_weights(**chosen))
    model.rule.copy_(torch.tensor(RULES[best if _is_better(scores[:, best], scores[:, 0]) else 0]))
    return posteriors


def _is_better(scores: Tensor, others: Tensor) -> bool:
    """Return True if scores (n,), lower is better, clearly beat ``others`` on average, see ``CLEARLY``."""
    gain = others - scores
    return bool(gain.mean() > CLEARLY * gain.std(correction=0) / math.sqrt(len(gain)))


def sensor_weights(label: float, short: float, phase: float) -> Tensor:
    """Return the weights of the four sensors, (4,)."""
    return torch.tensor([label, label / 2, phase, short])


def _try_weights(folds: Sequence[Sequence[Rated]],
                 trials: Sequence[Mapping[str, float]]) -> list[tuple[list[Posterior], Tensor]]:
    """Return the left-out recordings' posteriors with each choice of weights, and their scores (recordings, rules).

    The recordings of a fold are processed in parallel with all weights, because the loop over frames takes the time.
    """
    by_trial: list[list[Posterior]] = [[] for _ in trials]
    scores = []
    for some in folds:
        evidence = [item.evidence for item in some]
        device = evidence[0].distance.device
        weights = [sensor_weights(**trial).to(device) for trial in trials for _ in some]
        posteriors = some[0].model.posteriors(evidence * len(trials), weights)
        for number, found in enumerate(by_trial):
            found += posteriors[number * len(some):(number + 1) * len(some)]
        scores.append(rate(list(some) * len(trials), posteriors).unflatten(0, (len(trials), len(some))))
    all_scores = torch.cat(scores, dim=1).cpu()  # (trials, recordings, rules)
    with_actions = ~all_scores[0, :, 0].isnan()
    return list(zip(by_trial, all_scores[:, with_actions], strict=True))


def rate(rated: Sequence[Rated], posteriors: Sequence[Posterior]) -> Tensor:
    """Return the objective for weights and rule, (N, rules), for N recordings left out of the same filter.

    It is the error of progress divided by 0.25 (the error of a constant), plus three errors of the shown steps, each
    between 0 and 1: over frames of actions, over all frames, and in the edit score. NaN if a recording has no action.
    """
    model = rated[0].model
    rules = torch.tensor(RULES, device=posteriors[0].phases.device)
    kinds = pad_sequence([posterior.kinds for posterior in posteriors], batch_first=True)  # (N, T, S)
    evidence = pad_sequence([item.evidence.logistic for item in rated], batch_first=True)
    shown = decide_all(kinds, evidence, model.grid.surprise, rules)  # (N, rules, T)
    scores = []
    for item, posterior, steps in zip(rated, posteriors, shown, strict=True):
        label = item.recording.label
        within = label < model.num_labels
        steps = steps[:, :len(label)]
        hits = (steps == label).float()
        edits = _edit_scores(steps, label, model.num_labels).to(hits)
        median = phase_quantiles(posterior.phases, rules.new_tensor([0.5])).squeeze(-1)
        error = (median - item.recording.progress)[within].abs().mean()
        scores.append(4 * error + 3 - hits[:, within].mean(1) - hits.mean(1) - edits)
    return torch.stack(scores)


def _edit_scores(steps: Tensor, label: Tensor, background: int) -> Tensor:
    """Return 1 - edit distance of the labels' runs, over the longer one's number, of each row (N, T), (N,)."""
    true = _runs(label, background)
    found = [_runs(row, background) for row in steps]
    return torch.tensor([1 - levenshtein(row, true) / max(len(row), len(true), 1) for row in found])


def _runs(label: Tensor, background: int) -> np.ndarray:
    """Return the labels of the runs of equal labels (T,), except background."""
    runs = label.unique_consecutive()
    return runs[runs != background].cpu().numpy()


def calibrate_progress(recordings: Sequence[Recording], posteriors: Sequence[Posterior]) -> tuple[Tensor, Tensor]:
    """Return levels (low, 0.5, high) and margins (3,) to add to their quantiles of progress.

    90 % of a further group's progress is expected between the ends. The margins are 0 unless the posterior is too
    narrow for any levels.

    Reference:
        Romano, Patterson & Candes, "Conformalized quantile regression", NeurIPS 2019.
    """
    ranks = []
    for recording, posterior in zip(recordings, posteriors, strict=True):
        within = ~recording.progress.isnan()
        # The inverse of phase_quantiles: the number of nodes whose mass is below this progress.
        place = recording.progress[within] * PHASES + 0.5
        mass = posterior.phases[within]
        mass = mass / mass.sum(1, keepdim=True)
        index = place.floor().long().clamp(max=PHASES).unsqueeze(1)
        # The posterior probability below the true progress, linear within a node.
        upto = mass.cumsum(1).gather(1, index) - mass.gather(1, index) * (1 - (place.unsqueeze(1) - index))
        ranks.append(upto.squeeze(1))
    low, high, tail = _outer_quantiles(ranks, recordings)
    levels = torch.tensor([min(max(low, EXTREME), 0.3), 0.5, max(min(high, 1 - EXTREME), 0.7)])
    # How far the truth is above the quantiles of these levels, (n, 3) per recording.
    above = []
    for recording, posterior in zip(recordings, posteriors, strict=True):
        within = ~recording.progress.isnan()
        ends = phase_quantiles(posterior.phases[within], levels.to(within.device))
        above.append(recording.progress[within].unsqueeze(1) - ends)
    # A fraction `tail` of the truth may be below the low end, and above the high end.
    low_end = weighted_quantile(*_by_recording([values[:, 0] for values in above]), tail)
    high_end = weighted_quantile(*_by_recording([values[:, 2] for values in above]), 1 - tail)
    return levels, torch.tensor([min(low_end, 0.0), 0.0, max(high_end, 0.0)])


def calibrate_remaining(rest: Remaining, rated: Sequence[Rated], posteriors: Sequence[Posterior]) -> None:
    """Choose the blend with the frame counter, and offsets of estimate and interval of the remaining frames, in place.

    The estimate is moved to the median of what remained in left-out recordings, because the median has the smallest
    absolute error, and the mean of a skewed posterior is above it.
    """
    def error(blend: float) -> float:
        center = weighted_quantile(*_by_recording(_remaining_residuals(rated, posteriors, blend)), 0.5)
        total = []
        for item, posterior in zip(rated, posteriors, strict=True):
            item.model.rest.spread.copy_(torch.tensor([center] * 3))
            elapsed = _elapsed(posterior)
            overall = elapsed / (elapsed + item.model.rest(posterior.moments, elapsed)[0][:, 1:2])
            total.append((overall - elapsed / len(elapsed)).abs().mean().item())
        return float(np.mean(total))

    blend = min(BLENDS, key=error)
    rest.blend.fill_(blend)
    residuals = _remaining_residuals(rated, posteriors, blend)
    center = weighted_quantile(*_by_recording(residuals), 0.5)
    low, high, _ = _outer_quantiles(residuals, [item.recording for item in rated])
    rest.spread.copy_(torch.tensor([min(low, center), center, max(high, center)]))


def _remaining_residuals(rated: Sequence[Rated], posteriors: Sequence[Posterior], blend: float) -> list[Tensor]:
    """Return log(true / expected remaining frames) in std at each frame of left-out recordings, (T,) each.

    The blend of the filters that the recordings were left out of is set, in place, and their offsets are 0 afterwards.
    """
    residuals = []
    for item, posterior in zip(rated, posteriors, strict=True):
        rest, elapsed = item.model.rest, _elapsed(posterior)
        rest.blend.fill_(blend)
        rest.spread.zero_()
        remaining, std = rest(posterior.moments, elapsed)
        # The current frame included, as in Remaining.forward, so that the log is finite at the last frame.
        true = (len(elapsed) - elapsed + 1.0).log()
        residuals.append(((true - (remaining[:, 1:2] + 1).log()) / std).squeeze(1))
    return residuals


def _outer_quantiles(values: Sequence[Tensor], recordings: Sequence[Recording]) -> tuple[float, float, float]:
    """Return two quantiles of the recordings' values and the fraction of them beyond each.

    90 % of a further group's values are expected between the quantiles.
    """
    groups = {recording.group for recording in recordings}
    by_group: dict[object, list[Tensor]] = defaultdict(list)
    for index, (value, recording) in enumerate(zip(values, recordings, strict=True)):
        if len(value):
            by_group[recording.group if len(groups) > 1 else index].append(value)
    tail = choose_tail(*zip(*map(_by_recording, by_group.values()), strict=True))
    everything = _by_recording(values)
    return weighted_quantile(*everything, tail), weighted_quantile(*everything, 1 - tail), tail


def _elapsed(posterior: Posterior) -> Tensor:
    """Return the number of frames so far at each frame of a recording, (T, 1), float."""
    return torch.arange(1.0, len(posterior.moments) + 1, device=posterior.moments.device).unsqueeze(1)


def _by_recording(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return concatenated values and weights that give every recording the same total."""
    values = [value for value in values if len(value)]
    return torch.cat(values), torch.cat([torch.full_like(value, 1 / len(value)) for value in values])
