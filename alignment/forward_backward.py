"""Posterior probabilities of a path that follows a reference, may leave it, and may jump to another place in it."""

from dataclasses import dataclass

import numpy as np

JUMP = 0.03  # probability that the next matched frame is anywhere in the reference, not one of the next few
REACH = 3  # reference frames that the next matched frame may be ahead; all from 0 on are equally likely
LEAVE, RETURN = 0.01, 0.01  # probability of a frame to become unmatched, and of an unmatched frame to be the last one


@dataclass(frozen=True)
class PathPosterior:
    """Where each frame of a recording is in the reference, given all frames of both.

    Attributes:
        matched: (T, S), probability that frame t shows what reference frame s shows.
        unmatched: (T,), probability that frame t shows nothing of the reference; each row of both sums to 1.
    """

    matched: np.ndarray
    unmatched: np.ndarray


def path_posterior(costs: np.ndarray, limit: float) -> PathPosterior:
    """Return the posterior of the hidden path by the forward-backward algorithm.

    The path visits one reference frame per frame. It stays or moves ahead by up to ``REACH`` frames, or jumps anywhere
    (a step is missing, repeated, or comes in another order). It may leave the reference, and comes back to the place
    that it left, or jumps. Memory: 8 bytes per entry of the matrix.

    Args:
        costs: (T, S), cost >= 0 of matching frame t to reference frame s, a negative log likelihood.
        limit: cost of a frame that is not matched: a frame that costs more everywhere is better left out.

    Returns:
        The posterior of every frame.
    """
    # A matched frame also pays for its choice among REACH + 1 next frames; an unmatched one has to pay the same.
    limit = limit + np.log(REACH + 1)
    frames, size = costs.shape
    # (T, 2, S): matched to s; unmatched, having left the reference at s. Rows sum to 1, so that nothing underflows.
    forward = np.empty((frames, 2, size), np.float32)
    state = np.stack([np.full(size, 1 - LEAVE), np.full(size, LEAVE)]) / size
    for t in range(frames):
        if t:
            state = _advance(state)
        state = state * _likelihoods(costs[t], limit)
        state /= state.sum()
        forward[t] = state
    later = np.ones((2, size))  # likelihood of the later frames given each state, up to a factor
    for t in range(frames - 1, -1, -1):
        here = forward[t] * later
        forward[t] = here / here.sum()  # the posterior takes the place of the forward pass
        later = _advance_back(later * _likelihoods(costs[t], limit))
        later /= later.max()
    return PathPosterior(forward[:, 0], forward[:, 1].sum(axis=1, dtype=np.float64))


def _likelihoods(costs: np.ndarray, limit: float) -> np.ndarray:
    """Return the likelihoods (2, S) of one frame if it is matched to each reference frame, and if it is unmatched.

    They are scaled so that the largest is 1. Costs are (S,).
    """
    least = min(costs.min(), limit)
    return np.stack([np.exp(least - costs.astype(np.float64)), np.full(len(costs), np.exp(least - limit))])


def _advance(state: np.ndarray) -> np.ndarray:
    """Return the distribution (2, S) one frame later, before that frame is seen."""
    moving = (1 - LEAVE) * state[0] + RETURN * state[1]  # (S,), by the place they start from
    near = moving.copy()
    for ahead in range(1, REACH + 1):
        near[ahead:] += moving[:-ahead]
    arriving = (1 - JUMP) / (REACH + 1) * near + JUMP * moving.sum() / len(moving)
    return np.stack([arriving, LEAVE * state[0] + (1 - RETURN) * state[1]])


def _advance_back(later: np.ndarray) -> np.ndarray:
    """Return the likelihood (2, S) of what follows, one frame earlier: the transpose of :func:`_advance`."""
    near = later[0].copy()
    for ahead in range(1, REACH + 1):
        near[:-ahead] += later[0][ahead:]
    moving = (1 - JUMP) / (REACH + 1) * near + JUMP * later[0].mean()
    return np.stack([(1 - LEAVE) * moving + LEAVE * later[1], RETURN * moving + (1 - RETURN) * later[1]])
