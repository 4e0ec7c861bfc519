"""Posterior probabilities of a path that keeps the order and leaves no frame of the reference out."""

import numpy as np
import torch

from alignment.forward_backward import PathPosterior
from losses.soft_dtw import align_by_antidiagonals, enter_by_antidiagonals

GAMMA = 0.1  # temperature of the paths, in units of the typical distance of matched frames; small: nearly one path


def warped_posterior(distances: np.ndarray) -> tuple[PathPosterior, np.ndarray]:
    """Return the posterior of soft dynamic time warping (Cuturi & Blondel, ICML 2017), with every frame matched.

    The path leads from the first frames of both recordings to the last ones, one step at a time in either or both, so a
    step is found by what comes before and after it even if it looks different.

    Args:
        distances: (T, S) between the frames of a recording and of the reference, in units of matched ones.

    Returns:
        The posterior, and the expected distance (T,) of each frame to its match.
    """
    costs = torch.from_numpy(np.asarray(distances, dtype=np.float64))
    visits = align_by_antidiagonals(costs, enter_by_antidiagonals(costs, GAMMA), GAMMA).numpy()
    matched = visits / visits.sum(axis=1, keepdims=True)  # a frame may visit several reference frames
    return PathPosterior(matched, np.zeros(len(matched))), (matched * distances).sum(axis=1)
