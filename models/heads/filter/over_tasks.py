"""Combine the answers of the filters of several tasks if the task of a recording is inferred."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.heads.estimates import END, FrameEstimates
from models.heads.filter.records import FilterOutput
from recordings.background import BACKGROUND


def combine_estimates(outputs: Sequence[FilterOutput], labels: Sequence[Sequence[str]],
                      probability: Tensor | None) -> FrameEstimates:
    """Return the estimates at n frames.

    Labels come from the most probable task; numbers are means over the tasks, weighted by probability.

    Args:
        outputs: output of the filter of each task at the n frames.
        labels: labels of each of these tasks.
        probability: (n, tasks), probability of each task; None if there is a single one.
    """
    if probability is None:
        return _estimates_of(outputs[0], labels[0])
    best = probability.argmax(1, keepdim=True)  # (n, 1)
    by_task = [_estimates_of(output, names)._replace(
        # p(task, step) = p(task) p(step | task)
        step_probability=output.step_probability * probability[:, position])
               for position, (output, names) in enumerate(zip(outputs, labels, strict=True))]
    merged = {}
    for name in FrameEstimates._fields:
        values = [getattr(estimates, name) for estimates in by_task]
        if name in ('step', 'next_step'):
            # Labels of different tasks cannot be averaged: take those of the most probable task at frame t.
            merged[name] = [values[which][t] for t, (which,) in enumerate(best.tolist())]
        elif name == 'step_probability':
            merged[name] = torch.stack(values, dim=1).gather(1, best).squeeze(1)  # (n, tasks) -> (n, 1) -> (n,)
        elif values[0] is not None:
            # A frame is unknown only if it fits no task that may be running.
            merged[name] = (torch.stack(values).all(0) if name == 'unknown' else
                            mean_over_tasks(values, probability))
    return FrameEstimates(**merged)


def mean_over_tasks(answers: Sequence[Tensor], probability: Tensor) -> Tensor:
    """Return the mean of the tasks' answers (...) or (..., Q) at frames, weighted by their probability (..., tasks)."""
    axis = probability.ndim - 1
    stacked = torch.stack(list(answers), dim=axis)  # (..., tasks, Q)
    mean = (stacked * probability.reshape(*probability.shape, *[1] * (stacked.ndim - probability.ndim))).sum(axis)
    # Probabilities may sum to slightly more than 1, but a progress must not exceed it.
    return torch.minimum(mean, stacked.amax(axis))


def _estimates_of(output: FilterOutput, labels: Sequence[str]) -> FrameEstimates:
    """Return the estimates at n frames, given the output of a filter and its labels."""
    low, progress, high = output.progress.unbind(1)  # (n,) each
    overall_low, overall, overall_high = output.overall.unbind(1)
    steps, following = [*labels, BACKGROUND], [*labels, END]
    return FrameEstimates(
        step=[steps[number] for number in output.step.tolist()], progress=progress, progress_low=low,
        progress_high=high, remaining=output.remaining, overall=overall, overall_low=overall_low,
        # [:, 1] is the estimate, between its low and high end.
        overall_high=overall_high, overall_remaining=output.overall_remaining[:, 1],
        step_probability=output.step_probability,
        next_step=[following[number] for number in output.next_step.tolist()], unknown=output.unknown)
