"""Baselines of the progress head: predictors that ignore content, or use only the path length of the embeddings."""

from collections.abc import Hashable, Sequence

import numpy as np
from torch import Tensor

from evaluation.columns import describe
from evaluation.counters import FrameCounters
from evaluation.survival import SurvivalBaseline
from utils.action import Action, actions_before
from utils.tensorops import get_cumulative_distance

# Columns of action_progress.csv, in order; those in LABEL_FREE are not given the label of the current action.
BASELINES = ('constant', 'average_index', 'average_index_per_step', 'paced_per_step', 'cumulative_distance', 'survival',
             'survival_per_step')
LABEL_FREE = ('constant', 'average_index', 'cumulative_distance', 'survival')

describe('action_progress', {
    'baseline_constant': ('', 'error of always answering 0.5'),
    'baseline_average_index': ('', 'error of the mean progress that training actions have at their i-th frame'),
    'baseline_average_index_per_step': ('', 'the same over training actions of the same step; given the step'),
    'baseline_paced_per_step': ('', 'the same, with time scaled by the pace of the recording so far; given the step'),
    'baseline_cumulative_distance': ('', 'error of the path along the embedding since the action began'),
    'baseline_survival': ('', 'error of the progress expected from the order of steps and their durations at the pace '
                              'so far, given that the action is not over'),
    'baseline_survival_per_step': ('', 'the same for the step of the action; given the step'),
})


class ProgressBaselines:
    """Baselines of a task, fitted to its training recordings.

    Args:
        actions: actions of each training recording.
        mean_distance: path length of a training action in the embedding, from :func:`mean_action_distance`.
        groups: who performs each training recording; if None, every recording is its own group.

    Attributes:
        survival: the baseline that knows the order of steps and their durations.

    Raises:
        ValueError: no training recording has an action.
    """

    def __init__(self, actions: Sequence[Sequence[Action]], mean_distance: float,
                 groups: Sequence[Hashable] | None = None) -> None:
        self._counters = FrameCounters(actions, groups)
        self.survival = SurvivalBaseline(actions, groups)
        # Distances in an embedding have no natural unit: they become progress by comparison with the mean path length
        # of a training action.
        self._mean_distance = mean_distance

    def predict(self, actions: Sequence[Action], embeddings: Tensor) -> list[dict[str, np.ndarray]]:
        """Predict the progress of a recording's actions.

        Args:
            actions: in order of time.
            embeddings: (T, E) of the recording.

        Returns:
            For each action: name of the baseline -> progress at its n frames within the features, (n,) in [0, 1].
        """
        predictions = []
        for action in actions:
            distance = action_distance(embeddings, action)
            frames = len(distance)
            # Completed actions only: the length of the current action would reveal its progress.
            completed = actions_before(actions, action)
            pace = self._counters.pace(completed)
            predictions.append({
                'constant': np.full(frames, 0.5),
                'average_index': self._counters.average_index(frames),
                'average_index_per_step': self._counters.average_index_per_step(action.name, frames),
                'paced_per_step': self._counters.average_index_per_step(action.name, frames, pace),
                # The path length of one-frame actions and constant embeddings is 0.
                'cumulative_distance': np.clip(distance / (self._mean_distance or 1.0), 0, 1),
                # (n, 1) -> (n,), the only level is the median.
                'survival': self.survival.survival(completed, frames)[:, 0],
                'survival_per_step': self.survival.survival_per_step(completed, frames, action.name)[:, 0],
            })
        return predictions


def action_distance(embeddings: Tensor, action: Action) -> np.ndarray:
    """Return the path length from an action's first frame to each of its n frames within the features, (n,)."""
    # Both ends of an action are inclusive. The slice stops at the end of the features if the annotation does not.
    return get_cumulative_distance(embeddings[action.start:action.end + 1]).cpu().numpy()


def mean_action_distance(actions: Sequence[Sequence[Action]], embeddings: Sequence[Tensor]) -> float:
    """Return the mean path length of the actions of recordings (T_i, E), in units of the embedding; 0 without one."""
    totals = [float(action_distance(embedding, action)[-1])
              for recording, embedding in zip(actions, embeddings, strict=True) for action in recording]
    return float(np.mean(totals)) if totals else 0.0
