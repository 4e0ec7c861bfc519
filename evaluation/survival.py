"""Progress predicted without content: from the order of steps, durations at the recording's pace, and survival."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from models.heads.durations import Completed, Durations
from models.heads.filter.duration_grid import DurationGrid
from models.heads.order import StepOrder
from utils.tensorops import Action

MEDIAN = (0.5,)


class SurvivalBaseline:
    """Posterior of progress t / L, given only that an action has lasted t frames.

    Args:
        recordings: actions of each training recording, in order of time.
        groups: who performs each recording; if None, every recording is its own group.

    Raises:
        ValueError: the recordings contain no actions.
    """

    def __init__(self, recordings: Sequence[Sequence[Action]], groups: Sequence[Hashable] | None = None) -> None:
        # Any fixed order will do: labels are numbered, because order and durations know integers only.
        labels = sorted({action.name for actions in recordings for action in actions})
        if not labels:
            raise ValueError('no actions, expected at least one to learn durations from')
        self._index = {label: k for k, label in enumerate(labels)}
        self._order, self._durations, self._grid = StepOrder(len(labels)), Durations(len(labels)), DurationGrid()
        coded = [self._code(actions) for actions in recordings]
        self._order.fit([[action.label for action in actions] for actions in coded])
        self._durations.fit(coded, groups)
        # The grid of log durations covers the shortest to the longest training action with a margin.
        self._grid.fit(*self._durations.range.tolist())

    def survival(self, completed: Sequence[Action], num_frames: int, levels: Sequence[float] = MEDIAN) -> np.ndarray:
        """Return quantiles of progress, with labels weighted by their probability after the completed actions.

        Args:
            completed: actions of the recording before this action, in order of time.
            num_frames: n, frames to predict.
            levels: (Q,) in (0, 1); 0.5 is the median.

        Returns:
            (n, Q) in (0, 1].
        """
        before = self._code(completed)
        # Given that another action follows: the action exists, so the end of the recording is excluded.
        return self._quantiles(before, self._order.log_next_label([action.label for action in before]), num_frames,
                               levels)

    def survival_per_step(self, completed: Sequence[Action], num_frames: int, label: str,
                          levels: Sequence[float] = MEDIAN) -> np.ndarray:
        """Return quantiles of progress as :meth:`survival` does, but given the label, unless the label is unseen."""
        if label not in self._index:
            return self.survival(completed, num_frames, levels)
        # All probability on the given label.
        log_label = torch.full((len(self._index),), -torch.inf)
        log_label[self._index[label]] = 0
        return self._quantiles(self._code(completed), log_label, num_frames, levels)

    def _quantiles(self, before: list[Completed], log_label: Tensor, num_frames: int,
                   levels: Sequence[float]) -> np.ndarray:
        density = self._durations.log_density(self._grid.centers(), self._durations.log_pace(before),
                                              self._durations.num_known(before))  # (K, G)
        # p(L) = sum over labels k of p(k) p(L | k), on cells of equal size in log frames: densities become masses by
        # normalizing.
        mass = (log_label[:, None] + density).logsumexp(0).softmax(0)  # (G,)
        elapsed = torch.arange(1.0, num_frames + 1)
        # Bayes' rule with survival as the only evidence: p(L | L >= t) is proportional to p(L) [L >= t].
        surviving = self._grid.surviving(elapsed)  # (n, G)
        return self._grid.progress_quantiles(mass * surviving, elapsed, surviving,
                                             torch.tensor(levels)).double().numpy()

    def _code(self, actions: Sequence[Action]) -> list[Completed]:
        # -1 is a label unseen in training: order treats it as unknown, durations ignore it.
        return [Completed(self._index.get(action.name, -1), action.length) for action in actions]
