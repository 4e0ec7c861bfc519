"""How well the embeddings themselves tell progress and agree between recordings."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from utils.tensorops import get_cumulative_distance


def path_lengths(embeddings: Sequence[Tensor]) -> np.ndarray:
    """Return the total distance along each recording's embedding: list of (T_i, E) -> (recordings,)."""
    return np.array([float(get_cumulative_distance(embedding)[-1]) for embedding in embeddings])


def overall_progress_error(embeddings: Sequence[Tensor], true_progress: Sequence[Tensor],
                           mean_path_length: float) -> float:
    """Return OGPE: mean over frames, then recordings, of |true - predicted| progress of the whole recording.

    Args:
        embeddings: (T_i, E) of the test recordings.
        true_progress: (T_i,), from ``get_trueprogress``.
        mean_path_length: mean total distance of the task's training recordings, by which the cumulative distance is
            divided; 0 predicts 0.

    Reference:
        Donahue & Elhamifar, "Learning to Predict Activity Progress by Self-Supervised Video Alignment" (CVPR 2024).
    """
    errors = []
    for embedding, truth in zip(embeddings, true_progress, strict=True):
        predicted = get_cumulative_distance(embedding).cpu() / (mean_path_length or 1.0)
        errors.append(float((truth - predicted).abs().mean()))
    return float(np.mean(errors))


def coefficient_of_variation(values: np.ndarray) -> float:
    """Return standard deviation / mean; 0 where the mean is 0."""
    return float(values.std() / values.mean()) if values.mean() else 0.0
