"""What the training actions tell of time: average-index curves, durations per step, and a recording's pace."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from utils.tensorops import Action

PACE_SHRINKAGE = 1.0  # actions at the average pace that a recording is credited with before its first
LARGEST_SHRINKAGE = 50.0  # of an estimated one: the pace of so many actions is then hardly believed
SPREAD = 0.2 * np.array([-1.7, -1.0, -0.5, 0.0, 0.5, 1.0, 1.7])  # of log durations; about normal, deviation 0.22


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
        self._log_mean_durations = {step: math.log(np.mean(lengths)) for step, lengths in by_step.items()}

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
        return math.exp(shrunken_log_pace(completed, self._log_mean_durations, PACE_SHRINKAGE))


class PacedDurations:
    """Durations of the steps of one task's training recordings, freed of each recording's pace.

    A recording's pace is a factor on the durations of all its actions. What is known of it when an action begins is the
    mean of ``log(duration / step's geometric mean)`` over the actions completed before, shrunken towards 0 as a random
    effect: by the variance between a recording's actions over that between recordings.

    Args:
        recordings: actions of each training recording, in order of time.

    Attributes:
        steps: labels, sorted.
        log_means: step -> mean log duration, log frames.
        shrinkage: actions at the average pace that a recording is credited with, in [0, ``LARGEST_SHRINKAGE``].

    Raises:
        ValueError: there is no action.
    """

    def __init__(self, recordings: Sequence[Sequence[Action]]) -> None:
        by_step: dict[str, list[float]] = defaultdict(list)
        for action in (action for actions in recordings for action in actions):
            by_step[action.name].append(math.log(action.length))
        if not by_step:
            raise ValueError('no actions, expected at least one to learn durations from')
        self.steps = sorted(by_step)
        self.log_means = {step: float(np.mean(by_step[step])) for step in self.steps}
        deviations = [np.array([math.log(action.length) - self.log_means[action.name] for action in actions])
                      for actions in recordings if actions]
        self.shrinkage = random_effect_shrinkage(deviations)
        self._paced = {step: [] for step in self.steps}  # log durations minus the log pace known at their start
        for actions in recordings:
            for action in actions:
                pace = shrunken_log_pace(actions_before(actions, action), self.log_means, self.shrinkage)
                self._paced[action.name].append(math.log(action.length) - pace)

    def survival_curves(self, log_elapsed: np.ndarray) -> np.ndarray:
        """Return the mean progress of each step's actions that last longer than a time, E[t / L | L >= t].

        Each training duration counts as a few around it, ``SPREAD`` apart in the logarithm, so that the curve of a step
        that was seen a few times is smooth.

        Args:
            log_elapsed: (G,), rising; log of the frames elapsed, the current one included, divided by the pace.

        Returns:
            (steps, G), in (0, 1], in the order of ``steps``; past a step's longest duration its last value.
        """
        return np.stack([_survival_curve(np.add.outer(self._paced[step], SPREAD).ravel(), log_elapsed)
                         for step in self.steps])


def actions_before(actions: Sequence[Action], action: Action) -> list[Action]:
    """Return the actions of a recording that are completed when another one of it begins."""
    return [other for other in actions if other.end < action.start]


def shrunken_log_pace(completed: Sequence[Action], log_means: Mapping[str, float], shrinkage: float) -> float:
    """Return the log of a recording's pace from its completed actions; steps never trained on say nothing."""
    ratios = [math.log(action.length) - log_means[action.name] for action in completed if action.name in log_means]
    return sum(ratios) / (len(ratios) + shrinkage) if ratios else 0.0


def random_effect_shrinkage(groups: Sequence[np.ndarray]) -> float:
    """Return the variance within groups over that between them, by the method of moments.

    Args:
        groups: deviations from a common mean, (n_i,) each with n_i >= 1.

    Returns:
        In [0, ``LARGEST_SHRINKAGE``], the largest where groups do not differ or cannot be told to.

    Reference:
        Searle, Casella & McCulloch, Variance Components, 1992, the one-way random model.
    """
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return LARGEST_SHRINKAGE
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / freedom
    between = float(np.mean([group.mean() ** 2 - within / len(group) for group in groups]))
    return float(min(within / between, LARGEST_SHRINKAGE)) if between > 0 else LARGEST_SHRINKAGE


def _survival_curve(log_durations: np.ndarray, log_elapsed: np.ndarray) -> np.ndarray:
    """Return E[t / L | L >= t] at each time, (G,), from equally likely log durations."""
    ordered = np.sort(log_durations)
    first_longer = np.minimum(np.searchsorted(ordered, log_elapsed), len(ordered) - 1)
    sums_from = np.cumsum(np.exp(-ordered)[::-1])[::-1]
    times = np.minimum(log_elapsed, ordered[-1])
    return np.exp(times) * sums_from[first_longer] / (len(ordered) - first_longer)
