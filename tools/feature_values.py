"""What the values of feature files tell about a dataset: copies, constant dimensions, frozen recordings, scales."""

import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recordings.feature_files import CHUNK_BYTES
from utils.errors import name_some

HEAD = 32  # frames at the beginning of a recording that are compared, to find copies of another length
SMALL_SCALE, LARGE_SCALE = 1e-3, 1e3  # networks expect values of about 1
UNEQUAL = 1e3  # ratio of the largest to the median std of a dimension
MANY_REPEATED = 0.25  # fraction of frames that equal the frame before them
OTHER_SCALE = 10  # ratio of a recording's scale to the median one
STANDARDIZE = 'train with --standardize_features'


@dataclass(frozen=True)
class ValueSummary:
    """Values of one recording.

    Attributes:
        frames: T.
        mean: (D,) or (C,), mean of each dimension.
        std: the same, standard deviation.
        low: the same, smallest value.
        high: the same, largest value.
        digest: equal for recordings with the same values, up to the precision of float16 if they vary by more.
        head: digest of the first ``HEAD`` frames; None if there are fewer, or they do not change.
        repeated: number of frames that equal the frame before them.
    """

    frames: int
    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    digest: str
    head: str | None
    repeated: int = 0

    @property
    def frozen(self) -> bool:
        """True if there are several frames, and no value changes from frame to frame."""
        return self.frames > 1 and bool((self.low == self.high).all())


def summarize(array: np.ndarray) -> ValueSummary:
    """Return the summary of a recording (T, D) or (T, C, H, W) whose values are finite; reads it in bounded chunks."""
    rows = max(1, CHUNK_BYTES // max(1, array[0].nbytes) // 4)
    digests = [hashlib.blake2b(str(array.shape).encode()) for _ in range(2)]  # of rounded and of exact values
    repeated, last = 0, None
    offset = _per_dimension(np.array(array[:1], dtype=np.float64), np.mean)
    shift = offset.reshape(-1, *[1] * (array.ndim - 2))  # (D,) or (C, 1, 1)
    sums, squares, low, high = 0.0, 0.0, np.inf, -np.inf
    for start in range(0, len(array), rows):
        values = np.array(array[start:start + rows], dtype=np.float32)
        for digest, content in zip(digests, (_rounded(values), values.tobytes()), strict=True):
            digest.update(content)
        follow = values if last is None else np.concatenate([last, values])
        repeated += int((follow[1:] == follow[:-1]).reshape(len(follow) - 1, -1).all(axis=1).sum())
        last = values[-1:].copy()
        low = np.minimum(low, _per_dimension(values, np.min))
        high = np.maximum(high, _per_dimension(values, np.max))
        values = values.astype(np.float64) - shift  # sums of squares would lose digits far from 0
        sums, squares = sums + _per_dimension(values, np.sum), squares + _per_dimension(values * values, np.sum)
    count = len(array) * math.prod(array.shape[2:])  # values per dimension
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 0))
    # Far from 0, float16 cannot tell frames apart, and different recordings would be equal.
    coarse = bool(np.median(np.maximum(abs(low), abs(high)) * 2**-11 - std / 10) > 0)
    head = None
    if len(array) >= HEAD:
        beginning = np.array(array[:HEAD], dtype=np.float32)
        content = beginning.tobytes() if coarse else _rounded(beginning)
        head = hashlib.blake2b(content).hexdigest() if (beginning != beginning[0]).any() else None
    return ValueSummary(len(array), mean + offset, std, low, high, digests[coarse].hexdigest(), head, repeated)


def _per_dimension(values: np.ndarray, reduce: Callable) -> np.ndarray:
    """Reduce (n, D) or (n, C, H, W) to (D,) or (C,)."""
    return reduce(values, axis=(0, *range(2, values.ndim)))


def _rounded(values: np.ndarray) -> bytes:
    """Return float32 values rounded to the 10 bits of float16's mantissa, so that copies of both types are equal."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    with np.errstate(over='ignore'):
        return ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).tobytes()


def copies(summaries: Mapping[str, ValueSummary]) -> list[list[str]]:
    """Return groups of recordings that have the same values, or begin with the same frames; they change over time."""
    groups: dict[str, list[str]] = {}
    for handle, summary in summaries.items():
        if summary.frozen:  # such as black pictures: named by their own note
            continue
        groups.setdefault(summary.head or summary.digest, []).append(handle)
    return [group for group in groups.values() if len(group) > 1]


def value_notes(summaries: Mapping[str, ValueSummary]) -> list[str]:
    """Return what is unusual about the values of a dataset, each as a sentence."""
    if not summaries or len({len(summary.mean) for summary in summaries.values()}) > 1:
        return []  # different dimensions are a problem of their own
    views = list(summaries.values())
    found = [f'{" and ".join(group[:4])} have the same features, or begin with the same {HEAD} frames: copies of one '
             'recording?' for group in copies(summaries)]
    constant = _constant(views)
    if constant.any():
        found.append(f'{int(constant.sum())} of {len(constant)} feature dimensions have one value in all recordings: '
                     f'{name_some([str(index) for index in np.flatnonzero(constant)])}')
    if frozen := [handle for handle, view in summaries.items() if view.frozen and not constant.all()]:
        found.append(f'the features of {len(frozen)} recordings do not change over time: {name_some(frozen)}; extract '
                     'them again')
    if stuck := [f'{handle} ({view.repeated} of {view.frames} frames)' for handle, view in summaries.items()
                 if not view.frozen and view.repeated > MANY_REPEATED * view.frames]:
        found.append(f'many frames repeat the frame before in {len(stuck)} recordings: {name_some(stuck)}; padded with '
                     'zeros or with the last frame, or a frozen picture?')
    return found + _scale_notes(summaries, ~constant)


def _scale_notes(summaries: Mapping[str, ValueSummary], used: np.ndarray) -> list[str]:
    if not used.any():
        return []
    frames = np.array([view.frames for view in summaries.values()], dtype=np.float64)
    # (recordings, D) each
    means, stds = (np.stack([getattr(view, name)[used] for view in summaries.values()]) for name in ('mean', 'std'))
    weights = (frames / frames.sum())[:, None]  # (recordings, 1)
    mean = (weights * means).sum(axis=0)
    # Total variance: within recordings, plus that of their means.
    std = np.sqrt((weights * (stds ** 2 + (means - mean) ** 2)).sum(axis=0))
    typical, found = float(np.median(std)), []
    if not SMALL_SCALE <= typical <= LARGE_SCALE:
        found.append(f'the features vary by about {typical:.1g}, but networks expect values that vary by about 1; '
                     f'{STANDARDIZE}')
    if std.max() > UNEQUAL * typical:
        found.append(f'feature dimension {np.flatnonzero(used)[std.argmax()]} varies by {std.max():.1g}, the median '
                     f'dimension by {typical:.1g}: it hides the others; {STANDARDIZE}')
    if float(np.median(np.abs(mean))) > UNEQUAL * typical:
        found.append(f'the features are near {np.median(np.abs(mean)):.3g} and vary by only {typical:.1g}; '
                     f'{STANDARDIZE}')
    return found + _other_scales(summaries)


def _other_scales(summaries: Mapping[str, ValueSummary]) -> list[str]:
    """Name recordings whose values have another scale than those of most recordings."""
    sizes = {handle: float(np.sqrt(np.mean(view.mean ** 2 + view.std ** 2))) for handle, view in summaries.items()}
    middle = statistics.median(sizes.values())
    far = [f'{handle} ({size:.2g})' for handle, size in sizes.items()
           if not middle / OTHER_SCALE <= size <= OTHER_SCALE * middle]
    if not far or len(sizes) < 3:
        return []
    return [f'the values of {len(far)} recordings have another scale than the median recording ({middle:.2g}): '
            f'{name_some(far)}; extract all recordings in the same way']


def _constant(views: Sequence[ValueSummary]) -> np.ndarray:
    """Return for each dimension whether it has one value in all recordings."""
    return np.minimum.reduce([view.low for view in views]) == np.maximum.reduce([view.high for view in views])


def constant_in_training(summaries: Mapping[str, ValueSummary], trained: Sequence[str]) -> str | None:
    """Return a sentence on the dimensions that have one value in the training recordings, but not in the others."""
    views = [summaries[handle] for handle in trained if handle in summaries]
    if not views or len({len(summary.mean) for summary in summaries.values()}) > 1:
        return None
    dead = np.flatnonzero(_constant(views) & ~_constant([*summaries.values()]))
    if not len(dead):
        return None
    return (f'{len(dead)} of {len(views[0].mean)} feature dimensions have one value in the training recordings, but '
            f'not in the others: {name_some([str(index) for index in dead])}')


def copies_in_two_parts(groups: Sequence[Sequence[str]], parts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each training recording whose copy is a test or validation recording.

    Args:
        groups: from :func:`copies`.
        parts: part -> handles.
    """
    return [f'{trained} (train) and {other} ({part}) have the same features, so the results are too good; keep one of '
            'them, or both in one part'
            for group in groups for trained in group if trained in parts['train']
            for part in ('val', 'test') for other in group if other in parts[part]]
