"""Match the frames of a recording to those of a reference: distances, their scale, decisions."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from alignment.forward_backward import REACH, PathPosterior, path_posterior
from alignment.time_warping import warped_posterior
from losses.distances import euclidean_distances

UNMATCHED = -1  # in place of a reference frame
SPREADS = 6.0  # a frame is unlike the reference this many spreads of the nearest distances above their median
LEAST_LIMIT = 1.5  # the limit is at least this multiple of the median, even if all distances are nearly the same
TOLERANCE = 2  # reference frames to each side that count as the same match, for the confidence
BLOCK = 256  # rows that are summed at once
NEGLIGIBLE = 1e-3  # nearest distances below this fraction of the median distance are those of a copy


@dataclass(frozen=True)
class FrameMatches:
    """Matches of the frames of a recording.

    Attributes:
        frames: (T,), the reference frame of each frame; ``UNMATCHED`` if it shows nothing of the reference.
        confidence: (T,), probability of the match up to ``TOLERANCE`` frames, or of having none, in [0, 1].
        posterior: probabilities that both were read from.
        cost: mean distance of the frames to their matches, in units of the embedding; for frames without a match, to
            the nearest frame of the reference.
    """

    frames: np.ndarray
    confidence: np.ndarray
    posterior: PathPosterior
    cost: float

    @property
    def matched(self) -> np.ndarray:
        """True (T,) for frames with a match."""
        return self.frames != UNMATCHED


def match_frames(embedding: Tensor, reference: Tensor, *, keep_order: bool = False) -> FrameMatches:
    """Match each frame of a recording to a frame of the reference, or to none.

    Distances are measured in units of the median distance of a frame to its nearest frame in the other recording, so
    the scale of the embedding does not matter. The limit above which a frame is rather unmatched follows from the
    spread of those nearest distances on their lower side, which frames of unseen steps do not inflate.

    Args:
        embedding: (T, E) of the recording.
        reference: (S, E) of the reference.
        keep_order: True if both recordings show the same steps in the same order: matches never run backward, and a
            frame is unmatched only if it is much farther from its match than the others are from theirs.
    """
    distances = euclidean_distances(embedding, reference).cpu().numpy()  # (T, S)
    nearest = distances.min(axis=1)  # (T,)
    # Steps that only one of the recordings has, even for half of its frames, do not count in one of the directions.
    nearest_of_both = min(nearest, distances.min(axis=0), key=np.median)
    scale, limit = _scale_and_limit(nearest_of_both, np.median(distances))
    if keep_order:
        posterior, expected = warped_posterior(distances / scale)
        own_scale, limit = _scale_and_limit(expected, np.median(distances))
        far = expected > limit * own_scale  # (T,)
        posterior = PathPosterior(posterior.matched * ~far[:, None], far.astype(float))
    else:
        posterior = path_posterior((distances / scale) ** 2, limit**2)
    frames, confidence = decide(posterior)
    matched = frames != UNMATCHED
    at_match = distances[np.arange(len(frames)), frames]  # of unmatched frames: not used
    return FrameMatches(frames, confidence, posterior, float(np.where(matched, at_match, nearest).mean()))


def _scale_and_limit(matched: np.ndarray, typical: float) -> tuple[float, float]:
    """Return the unit of distances, and the limit in that unit.

    Args:
        matched: (n,), distances of frames to their matches.
        typical: distance of frames that do not match.
    """
    quarter, median = np.quantile(matched, [0.25, 0.5])
    scale = max(median, NEGLIGIBLE * typical) or 1.0  # 1 if all frames are the same
    # Of a normal distribution, the median is 0.674 standard deviations above the lower quartile.
    return scale, max(LEAST_LIMIT, 1 + SPREADS * (median - quarter) / scale)


def decide(posterior: PathPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Return the match (T,) of each frame and its confidence (T,).

    The match is the reference frame with the largest probability around it (closer frames count more), which is right
    more often than the most likely single path; a frame is unmatched if that is more probable than all matches
    together.
    """
    frames, near = np.empty(len(posterior.unmatched), np.int64), np.empty(len(posterior.unmatched))
    for start in range(0, len(frames), BLOCK):  # the sums of all rows at once would need most of the memory
        rows = slice(start, start + BLOCK)
        within = [windowed_sum(posterior.matched[rows], reach) for reach in range(TOLERANCE + 1)]
        # With one window alone, all frames next to a sure match would tie.
        frames[rows] = np.sum(within, axis=0).argmax(axis=1)
        near[rows] = within[-1][np.arange(len(within[-1])), frames[rows]]
    absent = posterior.unmatched > 0.5
    confidence = np.where(absent, posterior.unmatched, near)
    return np.where(absent, UNMATCHED, frames), np.clip(confidence, 0, 1)


def windowed_sum(values: np.ndarray, reach: int) -> np.ndarray:
    """Return the sums over the columns up to ``reach`` to both sides: (T, S) -> (T, S)."""
    size = values.shape[1]
    totals = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1, dtype=np.float64)], axis=1)  # (T, S + 1)
    columns = np.arange(size)
    return totals[:, np.minimum(columns + reach + 1, size)] - totals[:, np.maximum(columns - reach, 0)]


def partners(matches: FrameMatches, num_reference: int) -> np.ndarray:
    """Return the frame (S,) of the recording to show with each reference frame; or ``UNMATCHED``.

    That is a frame matched to it, or to the closest reference frame up to ``REACH`` frames away (a fast recording skips
    some); of several, the one closest to the previous partner, so that a player does not flicker between repetitions.
    """
    own = np.flatnonzero(matches.matched)
    theirs = matches.frames[own]
    found, previous = np.full(num_reference, UNMATCHED), 0
    for frame in range(num_reference if len(own) else 0):
        away = np.abs(theirs - frame)
        if away.min() <= REACH:
            candidates = own[away == away.min()]
            previous = found[frame] = candidates[np.abs(candidates - previous).argmin()]
    return found
