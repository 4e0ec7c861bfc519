"""Choose the weights of the sensors and the rule of the shown step on left-out groups, boundaries unknown."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.heads.filter.annotated import Rated
from models.heads.filter.decision import decide_all
from models.heads.filter.records import Posterior
from models.heads.filter.unsegmented import DEFAULT_RULE, UnsegmentedFilter, phase_quantiles
from utils.edit_distance import levenshtein

DEFAULTS = {'label': 0.1, 'short': 0.0, 'phase': 0.1}  # weights that are kept unless others are clearly better
OPTIONS = {'label': (0.0, 0.05, 0.1, 0.2, 0.4, 0.8),  # the logistic sensor's; the Gaussian one has half of it
           'short': (0.0, 0.1, 0.3, 0.6, 1.0),  # phases, from short-term features
           'phase': (0.0, 0.03, 0.1, 0.3)}  # phases, from all features
# Caution, handicap, and reading, the default first.
RULES = (DEFAULT_RULE, (*DEFAULT_RULE[:2], 0.5), (*DEFAULT_RULE[:2], 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.5))
CLEARLY = 1.0  # standard errors by which the best of a dozen options must beat the default


def choose_weights(model: UnsegmentedFilter, folds: Sequence[Sequence[Rated]]) -> list[Posterior]:
    """Select weights and rule, in place; return the posteriors of the left-out recordings under them.

    Weights are selected one after another, then the rule. The best option replaces the current option only if it is
    better by more than ``CLEARLY`` standard errors of the difference over paired recordings, because with few
    recordings many options are better by chance.
    """
    chosen = dict(DEFAULTS)
    posteriors, scores = _try_weights(folds, **chosen)
    for name, options in OPTIONS.items():
        trials = [chosen | {name: option} for option in options if option != chosen[name]]
        found = [_try_weights(folds, **trial) for trial in trials]
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


def _try_weights(folds: Sequence[Sequence[Rated]], **weights: float) -> tuple[list[Posterior], Tensor]:
    """Return left-out recordings' posteriors with these weights, and the scores of those with actions, (n, rules)."""
    posteriors, scores = [], []
    for some in folds:
        evidence = [item.evidence for item in some]
        found = some[0].model.posteriors(evidence, sensor_weights(**weights).to(evidence[0].distance.device))
        posteriors += found
        scores.append(rate(some, found))
    all_scores = torch.cat(scores).cpu()
    return posteriors, all_scores[~all_scores[:, 0].isnan()]


def rate(rated: Sequence[Rated], posteriors: Sequence[Posterior]) -> Tensor:
    """Return the objective for weights and rule, (N, rules), for N recordings left out of the same filter.

    It is the error of progress divided by 0.25 (the error of a constant), plus three errors of the shown steps, each
    between 0 and 1: over frames of actions, over all frames, and in the edit score. NaN if a recording has no action.
    """
    model = rated[0].model
    rules = torch.tensor(RULES, device=posteriors[0].phases.device)
    shown = decide_all([posterior.kinds for posterior in posteriors], [item.evidence.logistic for item in rated],
                       model.grid.surprise, rules)
    scores = []
    for item, posterior, steps in zip(rated, posteriors, shown, strict=True):
        label = item.recording.label
        within = label < model.num_labels
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
