"""What the training actions tell of time: average-index curves, durations per step, and a recording's pace."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from utils.tensorops import Action

PACE_SHRINKAGE = 1.0  # actions at the average pace that a recording is credited with before its first


def average_index_curve(lengths: Sequence[int]) -> np.ndarray:
    """Return the mean true progress at the i-th frame over the actions that have one.

    Args:
        lengths: durations of actions in frames, >= 1.

    Returns:
        (longest,) float64 in (0, 1]; element i is the mean of (i + 1) / length over the actions longer than i.

    Reference:
        de Boer et al., "Is there progress in activity progress prediction?" (2023).
    """
    ordered = np.sort(np.asarray(lengths, dtype=np.float64))
    index = np.arange(int(ordered[-1]))
    first_longer = np.searchsorted(ordered, index, side='right')
    sums_from = np.append(np.cumsum((1 / ordered)[::-1])[::-1], 0.0)
    return (index + 1) * sums_from[first_longer] / (len(ordered) - first_longer)


class ActionDurations:
    """Durations of a task's training actions, and the progress that they alone predict.

    Args:
        actions: actions of the training recordings.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, actions: Sequence[Action]) -> None:
        if not actions:
            raise ValueError('no actions, expected at least one to learn durations from')
        by_step: Mapping[str, list[int]] = defaultdict(list)
        for action in actions:
            by_step[action.name].append(action.length)
        self._curve = average_index_curve([action.length for action in actions])
        self._step_curves = {step: average_index_curve(lengths) for step, lengths in by_step.items()}
        self._mean_durations = {step: float(np.mean(lengths)) for step, lengths in by_step.items()}

    def average_index(self, num_frames: int) -> np.ndarray:
        """Return the progress of a counter of frames: (num_frames,); past the longest action its last value."""
        return self._curve[np.minimum(np.arange(num_frames), len(self._curve) - 1)]

    def average_index_per_step(self, step: str, num_frames: int, pace: float = 1.0) -> np.ndarray:
        """Return the progress of a counter of frames that is told the step.

        Args:
            step: label of the action; an unseen one takes the curve over all actions.
            num_frames: frames to predict.
            pace: duration of the recording's actions relative to their steps' means; time is divided by it.

        Returns:
            (num_frames,) in (0, 1].
        """
        curve = self._step_curves.get(step, self._curve)
        elapsed = np.arange(1, num_frames + 1) / pace
        # From progress 0 before the first frame: a slow recording asks for times below one frame.
        return np.interp(elapsed, np.arange(len(curve) + 1), np.concatenate([[0.0], curve]))

    def pace(self, completed: Sequence[Action]) -> float:
        """Return the pace of a recording from the actions that it has completed, > 0.

        The mean of log(duration / step's mean duration), shrunken towards 0 by ``PACE_SHRINKAGE`` actions; steps that
        were never trained on say nothing.
        """
        ratios = [math.log(action.length / self._mean_durations[action.name]) for action in completed
                  if action.name in self._mean_durations]
        return math.exp(sum(ratios) / (len(ratios) + PACE_SHRINKAGE))
