"""Frame counters: mean progress of the training actions at their i-th frame."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from models.heads.durations import Completed, Durations
from utils.tensorops import Action


def average_index_curve(lengths: Sequence[int]) -> np.ndarray:
    """Return the mean true progress at the i-th frame, over the actions with at least i frames.

    Args:
        lengths: durations of actions in frames, >= 1.

    Returns:
        (longest,) float64 in (0, 1]; element i is the mean of (i + 1) / length over the actions longer than i.

    Reference:
        de Boer et al., "Is there progress in activity progress prediction?" (2023).
    """
    # In sorted order, the actions that reach a frame are a suffix, so that all means come from one cumulative sum.
    ordered = np.sort(np.asarray(lengths, dtype=np.float64))
    index = np.arange(int(ordered[-1]))
    # Frame i (from 0) exists in actions longer than i; equal lengths are excluded by side='right'.
    first_longer = np.searchsorted(ordered, index, side='right')  # (longest,)
    # sums_from[j] is the sum of 1 / length over ordered[j:]; the sum past the last action is 0.
    sums_from = np.append(np.cumsum((1 / ordered)[::-1])[::-1], 0.0)  # (n + 1,)
    # The mean of (i + 1) / length over these actions, with i + 1 taken out of the sum.
    return (index + 1) * sums_from[first_longer] / (len(ordered) - first_longer)


class FrameCounters:
    """Progress of an action predicted by counting frames, optionally given its step and the recording's pace.

    Args:
        recordings: actions of each training recording, in order of time.
        groups: who performs each recording; if None, every recording is its own group.

    Raises:
        ValueError: the recordings contain no actions.
    """

    def __init__(self, recordings: Sequence[Sequence[Action]], groups: Sequence[Hashable] | None = None) -> None:
        by_step: dict[str, list[int]] = defaultdict(list)
        for action in (action for actions in recordings for action in actions):
            by_step[action.name].append(action.length)
        if not by_step:
            raise ValueError('no actions, expected at least one to learn durations from')
        self._curve = average_index_curve([length for lengths in by_step.values() for length in lengths])
        self._step_curves = {step: average_index_curve(lengths) for step, lengths in by_step.items()}
        # Durations identifies steps by integers; any fixed order will do.
        self._index = {step: number for number, step in enumerate(by_step)}
        self._durations = Durations(len(by_step))
        self._durations.fit([self._code(actions) for actions in recordings], groups)

    def average_index(self, num_frames: int) -> np.ndarray:
        """Return the progress by frame count, (num_frames,); constant past the longest training action."""
        # Frames past the longest training action repeat the curve's last value, which is 1.
        return self._curve[np.minimum(np.arange(num_frames), len(self._curve) - 1)]

    def average_index_per_step(self, step: str, num_frames: int, pace: float = 1.0) -> np.ndarray:
        """Return the progress by frame count, given the step.

        Args:
            step: label of the action; for an unseen label, the curve over all actions is used.
            num_frames: frames to predict.
            pace: duration of the recording's actions relative to their steps' means; time is divided by it.

        Returns:
            (num_frames,) in (0, 1].
        """
        curve = self._step_curves.get(step, self._curve)
        # A recording at pace 1.25 takes 1.25 times as long, so its frame t corresponds to frame t / 1.25 of an average
        # one.
        elapsed = np.arange(1, num_frames + 1) / pace
        # Interpolate from progress 0 before the first frame, because slow recordings need times below one frame.
        # Past its last point, np.interp repeats the last value, as average_index does.
        return np.interp(elapsed, np.arange(len(curve) + 1), np.concatenate([[0.0], curve]))

    def pace(self, completed: Sequence[Action]) -> float:
        """Return the pace (> 0) of a recording given its completed actions; see :class:`Durations`."""
        return float(np.exp(self._durations.log_pace(self._code(completed))))

    def _code(self, actions: Sequence[Action]) -> list[Completed]:
        # -1 means a label unseen in training: such an action says nothing about the pace.
        return [Completed(self._index.get(action.name, -1), action.length) for action in actions]
