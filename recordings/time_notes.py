"""Notes on annotated times that may be wrong: stretched, beyond the recording, inclusive ends, counted from 1."""

import statistics
from collections.abc import Iterable, Sequence
from fractions import Fraction

from recordings.annotations import TaskAnnotations
from recordings.rates import MAX_OFF_MEDIAN
from utils.errors import name_some

STRETCHED = Fraction(2, 100)  # relative; a rate closer to 1 is taken as 1
SPREAD = Fraction(5, 100)  # relative distance from the median rate that cameras of one rate do not have
BEYOND = 2  # feature frames that rounding may add to the last end


def time_notes(annotated: TaskAnnotations, lengths: Sequence[int], rates: Sequence[Fraction],
               time_scale: str | float) -> list[str]:
    """Return what is unusual about the times of a task, each as a sentence with the option that fixes it.

    Args:
        annotated: annotations of the task, one list per handle.
        lengths: T of each recording, feature frames.
        rates: feature frames per annotation frame of each recording, as they are used.
        time_scale: TIME_SCALE.
    """
    last_ends = [max(ends, default=0) for ends in annotated.ends]
    labeled = [(handle, length, end, rate) for handle, length, end, rate in
               zip(annotated.handles, lengths, last_ends, rates, strict=True) if end]
    if not labeled:
        return []
    found = [_stretched(labeled) if time_scale == 'auto' else None, _spread(labeled) if time_scale == 'auto' else None,
             _beyond(labeled), _inclusive_ends(annotated), _one_based(annotated)]
    return [f'task {annotated.task}: {note}' for note in found if note]


Labeled = Sequence[tuple[str, int, int, Fraction]]  # handle, T, last end in annotation frames, rate


def _stretched(labeled: Labeled) -> str | None:
    """Name recordings that are longer than their annotation, whose times are stretched to their length."""
    longer = [f'{handle} ({length} frames, last end {end})' for handle, length, end, rate in labeled
              if rate > 1 + STRETCHED]
    if not longer:
        return None
    return (f'{len(longer)} of {len(labeled)} recordings are longer than their annotation, whose times are stretched '
            f'to the length of the recording: {name_some(longer, 3)}; if times count feature frames, and what follows '
            'the last end is an unlabeled tail, set TIME_SCALE to 1')


def _spread(labeled: Labeled) -> str | None:
    """Name the rates if they differ between recordings more than those of cameras do."""
    median = statistics.median(rate for *_, rate in labeled)
    off = [rate for *_, rate in labeled if SPREAD < abs(rate / median - 1) <= MAX_OFF_MEDIAN]
    # Longer recordings than annotations are named above, and larger differences by task_rates.
    if median > 1 or 2 * len(off) < len(labeled) or len(labeled) < 3:
        return None
    scales = sorted(1 / rate for *_, rate in labeled)
    return (f'annotation frames per feature frame differ from recording to recording, from {float(scales[0]):.3g} to '
            f'{float(scales[-1]):.3g}: if all cameras have one rate, the recordings have unlabeled tails; set '
            "TIME_SCALE to that number, or to 'median'")


def _beyond(labeled: Labeled) -> str | None:
    """Name recordings whose annotation ends after their last frame."""
    beyond = [(handle, float(end * rate) - length) for handle, length, end, rate in labeled
              if end * rate - length > BEYOND]
    if not beyond:
        return None
    most = max(frames for _, frames in beyond)
    return (f'the annotation of {len(beyond)} of {len(labeled)} recordings ends beyond the recording, by up to '
            f'{most:.0f} feature frames, which are cut off: {name_some([handle for handle, _ in beyond], 3)}; check '
            'that features and annotation belong to the same recordings, and TIME_SCALE')


def look_inclusive(starts: Iterable[Sequence], ends: Iterable[Sequence]) -> bool:
    """Return True if most segments, in frames, end one frame before the next segment, and no two segments touch.

    Args:
        starts: starts of the segments of each recording, in order of time.
        ends: their ends.
    """
    # 0: the next segment starts where this one ends. 1: one frame is missing in between, or the end is inclusive.
    gaps = [start - end for begun, ended in zip(starts, ends, strict=True)
            for end, start in zip(ended, begun[1:], strict=False)]
    return len(gaps) > 1 and 0 not in gaps and 2 * gaps.count(1) > len(gaps)


def _inclusive_ends(annotated: TaskAnnotations) -> str | None:
    """Return a note if ends look inclusive."""
    if not look_inclusive(annotated.starts, annotated.ends):
        return None
    return ('most segments end one frame before the next one starts, as if an end were the last frame of its segment; '
            'an end is the frame after it: add 1 to the ends if they are inclusive')


def _one_based(annotated: TaskAnnotations) -> str | None:
    """Return a note if the first segment of every recording starts at frame 1."""
    firsts = [starts[0] for starts in annotated.starts if starts]
    if len(firsts) < 2 or any(first != 1 for first in firsts):
        return None
    return ('the first segment of every recording starts at frame 1; frames are counted from 0: subtract 1 from all '
            'times if they are counted from 1')
