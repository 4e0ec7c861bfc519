"""What the progress head has to beat: predictors that look at no content, or only at the path of the embeddings."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from models.heads.durations import ActionDurations, actions_before
from utils.tensorops import Action, get_cumulative_distance

# Columns of action_progress.csv, in order; the ones in LABEL_FREE are not told the step.
BASELINES = ('constant', 'average_index', 'average_index_per_step', 'paced_per_step', 'cumulative_distance')
LABEL_FREE = ('constant', 'average_index', 'cumulative_distance')


class ProgressBaselines:
    """Baselines of one task, fitted on its training recordings.

    Args:
        actions: actions of each training recording.
        embeddings: (T, E) of each training recording.

    Raises:
        ValueError: no training recording has an action.
    """

    def __init__(self, actions: Sequence[Sequence[Action]], embeddings: Sequence[Tensor]) -> None:
        self._durations = ActionDurations([action for recording in actions for action in recording])
        totals = [float(action_distance(embedding, action)[-1])
                  for recording, embedding in zip(actions, embeddings, strict=True) for action in recording]
        self._mean_distance = float(np.mean(totals))

    def predict(self, actions: Sequence[Action], embeddings: Tensor) -> list[dict[str, np.ndarray]]:
        """Predict the progress of a recording's actions.

        Args:
            actions: in order of time.
            embeddings: (T, E) of the recording.

        Returns:
            Per action: name of the baseline -> progress at its n frames within the features, (n,) in [0, 1].
        """
        predictions = []
        for action in actions:
            distance = action_distance(embeddings, action)
            frames = len(distance)
            pace = self._durations.pace(actions_before(actions, action))
            predictions.append({
                'constant': np.full(frames, 0.5),
                'average_index': self._durations.average_index(frames),
                'average_index_per_step': self._durations.average_index_per_step(action.name, frames),
                'paced_per_step': self._durations.average_index_per_step(action.name, frames, pace),
                # One-frame actions and embeddings that stand still have no path.
                'cumulative_distance': np.clip(distance / (self._mean_distance or 1.0), 0, 1),
            })
        return predictions


def action_distance(embeddings: Tensor, action: Action) -> np.ndarray:
    """Return the path length from an action's first frame to each of its n frames within the features, (n,)."""
    return get_cumulative_distance(embeddings[action.start:action.end + 1]).cpu().numpy()
