"""Metrics of the embeddings: how well they encode progress, and how well they agree between recordings.

Means over pairs are over all ordered pairs of recordings, or over a seeded sample of them, see
:func:`evaluation.sampling.ordered_pairs`.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from evaluation.columns import describes
from evaluation.rank_statistics import kendall_tau_b
from evaluation.sampling import ordered_pairs
from losses.distances import euclidean_distances
from utils.tensorops import Action, get_cumulative_distance


def path_lengths(embeddings: Sequence[Tensor]) -> np.ndarray:
    """Return the path length of each recording's embeddings: list of (T_i, E) -> (recordings,)."""
    # The last cumulative distance is the length of the whole path, in units of the embedding.
    return np.array([float(get_cumulative_distance(embedding)[-1]) for embedding in embeddings])


@describes('ogpe', ogpe=('lower', 'error of the progress of the whole recording, read off the path of the embedding'))
def overall_progress_error(embeddings: Sequence[Tensor], true_progress: Sequence[Tensor],
                           mean_path_length: float) -> float:
    """Return OGPE: mean over frames, then recordings, of |true - predicted| progress of the whole recording.

    Args:
        embeddings: (T_i, E), embeddings of the test recordings.
        true_progress: (T_i,), from ``get_trueprogress``.
        mean_path_length: mean path length of the task's training recordings; the cumulative distance is divided by it.
            If it is 0, the predictions are 0.

    Reference:
        Donahue & Elhamifar, "Learning to Predict Activity Progress by Self-Supervised Video Alignment" (CVPR 2024).
    """
    errors = []
    for embedding, truth in zip(embeddings, true_progress, strict=True):
        # Not clipped at 1: a path longer than the mean of the training recordings counts as an error.
        predicted = get_cumulative_distance(embedding).cpu() / (mean_path_length or 1.0)
        errors.append(float((truth - predicted).abs().mean()))
    return float(np.mean(errors))


@describes('ogpe', CoV=('lower', 'std of the path lengths of training recordings, as a fraction of their mean'))
def coefficient_of_variation(values: np.ndarray) -> float:
    """Return std / mean; 0 if the mean is 0."""
    return float(values.std() / values.mean()) if values.mean() else 0.0


def nearest_frames(embedding: Tensor, other: Tensor) -> np.ndarray:
    """Return the index of each frame's nearest neighbor in another recording: (T, E), (S, E) -> (T,)."""
    return euclidean_distances(embedding, other).argmin(dim=1).cpu().numpy()  # (T, S) -> (T,)


@describes('kendalls_tau',
           kendalls_tau=('higher', 'whether nearest neighbors in another recording keep the order of time: 1 if time '
                                   'runs alike, 0 by chance'))
def kendalls_tau(embeddings: Sequence[Tensor]) -> float:
    """Return how well nearest neighbors preserve the order of frames.

    Args:
        embeddings: (T_i, E) of a task's test recordings.

    Returns:
        Kendall's tau-b between the frames of a recording and their nearest neighbors in another recording, mean over
        ordered pairs, in [-1, 1]; 1 if the order is the same in both. A pair counts 0 if all frames have the same
        nearest neighbor. NaN if there are fewer than two recordings.

    Reference:
        Dwibedi et al., Temporal Cycle-Consistency Learning, CVPR 2019.
    """
    values = []
    # Ordered pairs, because "nearest" is not symmetric: u may point at v without v pointing back.
    for first, second in ordered_pairs(len(embeddings)):
        # The frame numbers are the order that the neighbors should have.
        values.append(kendall_tau_b(np.arange(len(embeddings[first])),
                                    nearest_frames(embeddings[first], embeddings[second])))
    return float(np.mean(values)) if values else float('nan')


@describes('kendalls_tau_wild',
           kendalls_tau_wild=('higher', 'whether they keep the order of the true alignment, also if steps come in '
                                        'another order: 1 is exact, 0 chance'))
def kendalls_tau_wild(embeddings: Sequence[Tensor], actions: Sequence[Sequence[Action]]) -> float:
    """Return how well nearest neighbors preserve the order of the true alignment if steps come in any order.

    In the wild, the first step of a recording may be the last step of another recording, so the true alignment may run
    backwards in time. Nearest neighbors of the frames of common actions are therefore compared with the true alignment
    (:func:`true_alignment`, rounded to frames), not with the frames' own order as in :func:`kendalls_tau`.

    Args:
        embeddings: (T_i, E) of a task's test recordings.
        actions: actions of each recording.

    Returns:
        Kendall's tau-b between true and nearest frame, mean over ordered pairs of two different recordings, in
        [-1, 1]; 1 for an exact alignment, even if steps come in a different order. A pair counts 0 if all frames have
        the same nearest neighbor. Pairs whose common frames all align with a single frame have no order and are left
        out. NaN if there is no other pair.

    Reference:
        Donahue & Elhamifar, CVPR 2024, use a similar variant; this definition is ours. The published code also pairs
        each recording with itself, so that every frame is its own nearest neighbor: 1 for any embedding.
    """
    values = []
    # Pairs of indices, because a recording's embeddings and actions are needed together.
    for first, second in ordered_pairs(len(embeddings)):
        frames, partners = true_alignment(actions[first], actions[second], len(embeddings[first]))
        # Frames whose true alignment is the same frame are ties, which a shared nearest neighbor must not worsen.
        partners = np.floor(partners + 0.5)
        if len(np.unique(partners)) > 1:
            nearest = nearest_frames(embeddings[first][frames], embeddings[second])  # (n, E), (S, E) -> (n,)
            values.append(kendall_tau_b(partners, nearest))
    return float(np.mean(values)) if values else float('nan')


@describes('enclosed_area_error',
           enclosed_area_error=('lower', 'distance from the nearest neighbor to where the frame belongs, as a fraction '
                                         'of the recording: 0 is exact, about 1/3 chance'))
def enclosed_area_error(embeddings: Sequence[Tensor], actions: Sequence[Sequence[Action]]) -> float:
    """Return the area between the predicted and the true alignment of two recordings, as a fraction of the total area.

    The predicted alignment of a frame is its nearest neighbor. In the true alignment, an action aligns with the other
    recording's action of the same name (the first occurrence with the first, the second with the second), linearly
    over their frames. The error is the distance of the two in the other recording, as a fraction of its length.

    Args:
        embeddings: (T_i, E) of a task's test recordings.
        actions: actions of each recording.

    Returns:
        Mean over the frames of common actions, then over ordered pairs, in [0, 1]. Pairs without a common action are
        left out; NaN if there is no other pair.

    Reference:
        Donahue & Elhamifar, CVPR 2024; in the published code, pairs without a common action count 0.
    """
    errors = []
    for first, second in ordered_pairs(len(embeddings)):
        frames, partners = true_alignment(actions[first], actions[second], len(embeddings[first]))
        # Only the frames of common actions have a true partner; others can be neither right nor wrong.
        if len(frames):
            nearest = nearest_frames(embeddings[first][frames], embeddings[second])  # (n, E), (S, E) -> (n,)
            # In frames of the other recording, over its length: recordings of different lengths count alike.
            errors.append(np.abs(nearest - partners).mean() / len(embeddings[second]))
    return float(np.mean(errors)) if errors else float('nan')


def true_alignment(actions: Sequence[Action], others: Sequence[Action],
                   num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of common actions, and the true position of each in the other recording.

    Args:
        actions: actions of the recording.
        others: actions of the other recording.
        num_frames: length of the recording; frames past it are left out.

    Returns:
        Indices (n,), and positions (n,) in frames of the other recording, not rounded: a frame whose center is at
        fraction p of its action aligns with fraction p of the other action.
    """
    # Label -> its occurrences in the other recording, in order of time: the n-th aligns with the n-th.
    occurrences: dict[str, list[Action]] = defaultdict(list)
    for other in others:
        occurrences[other.name].append(other)
    seen: dict[str, int] = defaultdict(int)
    # The empty arrays make the concatenation below work for pairs without a common action.
    frames, partners = [np.zeros(0, dtype=int)], [np.zeros(0)]
    for action in actions:
        nth = seen[action.name]
        seen[action.name] += 1
        if nth < len(occurrences[action.name]):
            other = occurrences[action.name][nth]
            # An annotation may extend past the features, so an action can have fewer frames than its length.
            offsets = np.arange(min(action.length, num_frames - action.start))
            frames.append(action.start + offsets)
            # Frame i is the interval [i, i + 1] of time with its center at i + 1/2. Mapping centers, not left edges,
            # keeps the alignment symmetric: aligning back gives the same frame.
            partners.append(other.start + (offsets + 0.5) / action.length * other.length - 0.5)
    return np.concatenate(frames), np.concatenate(partners)
