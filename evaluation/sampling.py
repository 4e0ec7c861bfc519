"""Recordings of a part whose embeddings are in memory at once: all of them, or a seeded sample of a large part."""

from collections.abc import Iterator, Sequence

import numpy as np

# Metrics of the embeddings need all frames, or all pairs of recordings, at once. A part above a limit is sampled, so
# that memory and time do not grow with the collection.
MAX_VALUES = 2 ** 27  # frames x embedding dimension: 512 MiB
MAX_RECORDINGS = 1000
MAX_PAIRS = 10_000  # ordered pairs of recordings; all pairs of 100
LEAST_RECORDINGS = 2  # a pair
SEED = 0
# Recordings that are embedded and filtered at once, in parallel; the filter keeps some kilobytes per frame.
CHUNK_RECORDINGS = 32
CHUNK_FRAMES = 2 ** 15  # with padding to the longest


def sampled_recordings(num_frames: Sequence[int], embedding_dim: int) -> list[int]:
    """Return the indices of the recordings of a part whose embeddings are kept, in order.

    Args:
        num_frames: number of frames of each recording of the part.
        embedding_dim: E; 0 if no embeddings are kept, so that only the number of recordings is limited.

    Returns:
        All indices, if they keep the limits; otherwise those of a random sample that keeps them, the same for every run
        with this part and embedding dimension. Two recordings are kept even if they exceed ``MAX_VALUES``.
    """
    if len(num_frames) <= MAX_RECORDINGS and sum(num_frames) * embedding_dim <= MAX_VALUES:
        return list(range(len(num_frames)))
    order = np.random.default_rng(SEED).permutation(len(num_frames))[:MAX_RECORDINGS]
    values = np.cumsum(np.asarray(num_frames, dtype=np.int64)[order]) * embedding_dim
    return sorted(order[:max(LEAST_RECORDINGS, int(np.sum(values <= MAX_VALUES)))].tolist())


def ordered_pairs(count: int) -> list[tuple[int, int]]:
    """Return the ordered pairs of different recordings (indices below ``count``), at most ``MAX_PAIRS``, at random."""
    total = count * (count - 1)
    chosen = np.arange(total) if total <= MAX_PAIRS else np.sort(
        np.random.default_rng(SEED).choice(total, MAX_PAIRS, replace=False))
    # Pair p is of recording p // (count - 1) with the (p % (count - 1))-th of the others: the order of
    # itertools.permutations.
    first, other = np.divmod(chosen, max(count - 1, 1))
    return list(zip(first.tolist(), (other + (other >= first)).tolist(), strict=True))


def chunks(num_frames: Sequence[int]) -> Iterator[range]:
    """Divide recordings into consecutive chunks that are scored at once: indices, at least one of each chunk.

    Args:
        num_frames: number of frames of each recording.
    """
    start = longest = 0
    for index, frames in enumerate(num_frames):
        longest = max(longest, frames)
        size = index - start + 1
        if size > 1 and (size > CHUNK_RECORDINGS or size * longest > CHUNK_FRAMES):
            yield range(start, index)
            start, longest = index, frames
    if num_frames:
        yield range(start, len(num_frames))


def describe_sample(task: str, kept: Sequence[int], counts: Sequence[int]) -> list[str]:
    """Return lines for log and report that say what of a task was sampled; none if all recordings and pairs count.

    Args:
        task: name of the task.
        kept: numbers of training and of test recordings whose embeddings were kept.
        counts: numbers of all its training and test recordings.
    """
    lines = []
    if tuple(kept) != tuple(counts):
        lines.append(f'task {task}: embeddings are evaluated on a random sample, {kept[0]} of {counts[0]} training and '
                     f'{kept[1]} of {counts[1]} test recordings (at most {MAX_RECORDINGS} and {MAX_VALUES} values)')
    if counts[0] > MAX_RECORDINGS:
        lines.append(f'task {task}: baselines are fitted to a random sample, {MAX_RECORDINGS} of {counts[0]} training '
                     'recordings')
    if (pairs := kept[1] * (kept[1] - 1)) > MAX_PAIRS:
        lines.append(f"task {task}: Kendall's tau and the enclosed area error are of {MAX_PAIRS} random pairs of test "
                     f'recordings, of {pairs}')
    return lines
