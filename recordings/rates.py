"""Segments in annotation frames -> segments in feature frames, at the rate of each recording."""

import math
import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction

from recordings.annotations import TaskAnnotations, short
from utils.action import Action
from utils.errors import UserError, name_some
from utils.logging import get_logger

LOGGER = get_logger(__name__)
AS_IT_IS = Fraction(2, 100)  # a rate this close to 1 is 1
MAX_OFF_MEDIAN = Fraction(25, 100)
MAX_DENOMINATOR = 10**6  # a rate given as float stands for a fraction of frame counts below this


def segments_at_rate(labels: Sequence[str], starts: Sequence[int | Fraction], ends: Sequence[int | Fraction], *,
                     num_frames: int, rate: Fraction | float) -> list[Action]:
    """Convert half-open segments to feature frames; a frame belongs to the segment that contains its center.

    With ``r`` the rate, a segment ``[s, e)`` becomes ``ceil(s r - 1/2)`` to ``ceil(e r - 1/2) - 1``, both inclusive.
    Computed with fractions: centers often fall on boundaries, and floats would put them on either side.

    Args:
        labels: of the segments, background included.
        starts: first annotation frame of each segment.
        ends: annotation frame after each segment's last one.
        num_frames: T, feature frames of the recording.
        rate: feature frames per annotation frame, > 0.

    Returns:
        The segments in feature frames, within [0, T - 1]; those that contain no frame's center are dropped.

    Raises:
        ValueError: ``rate`` is not positive and finite.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f'rate is {rate}, expected a positive number of feature frames per annotation frame')
    exact = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(MAX_DENOMINATOR)
    half = Fraction(1, 2)
    segments = (Action(label, math.ceil(start * exact - half), min(math.ceil(end * exact - half), int(num_frames)) - 1)
                for label, start, end in zip(labels, starts, ends, strict=True))
    return [segment for segment in segments if segment.start <= segment.end]


def recording_rate(num_frames: int, last_end: int, time_scale: str | float) -> Fraction:
    """Return the feature frames per annotation frame of one recording.

    Args:
        num_frames: T, feature frames of the recording.
        last_end: its last annotated end, annotation frames; 0 where nothing is annotated.
        time_scale: 'auto' for ``T / last_end``, or 1 where that is within 2 % of 1 or nothing is annotated; a number
            of annotation frames per feature frame for its inverse.

    Raises:
        UserError: ``time_scale`` is neither.
    """
    if time_scale != 'auto':
        return 1 / scale_number(time_scale)
    return _as_it_is(Fraction(int(num_frames), int(last_end))) if last_end else Fraction(1)


def _as_it_is(rate: Fraction) -> Fraction:
    """Take a rate that hardly differs from 1 for 1: last ends are T or T - 1."""
    return Fraction(1) if abs(rate - 1) <= AS_IT_IS else rate


def scale_number(time_scale: str | float) -> Fraction:
    """Return a numeric TIME_SCALE as the decimal the user wrote."""
    number = isinstance(time_scale, int | float) and not isinstance(time_scale, bool)
    if not number or not 0 < time_scale < math.inf:
        raise UserError(f"TIME_SCALE is {short(time_scale)}, expected 'auto', 'median' or a number above 0 of "
                        'annotation frames per feature frame (30 for 30 a second beside features at 1 a second)')
    return Fraction(str(time_scale))


def parse_rate(text: str) -> Fraction:
    """Read a number above 0, exactly as it is written; also '30000/1001'.

    Raises:
        UserError: it is not one.
    """
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if number <= 0:
        raise UserError(f'{text}: expected a number above 0')
    return number


def task_rates(annotated: TaskAnnotations, num_frames: Sequence[int], time_scale: str | float) -> list[Fraction]:
    """Return the rate of each recording, after a warning on those far from the task's median."""
    if time_scale not in ('auto', 'median'):
        return [recording_rate(0, 0, time_scale)] * len(num_frames)
    last_ends = [max(ends, default=0) for ends in annotated.ends]
    ratios = {handle: Fraction(int(frames), last_end)
              for handle, frames, last_end in zip(annotated.handles, num_frames, last_ends, strict=True) if last_end}
    if not ratios:
        raise UserError(f'task {annotated.task!r}: no recording has a segment that ends after frame 0, so '
                        f"TIME_SCALE '{time_scale}' finds no rate; annotate a recording or set TIME_SCALE to a number")
    median = statistics.median(ratios.values())
    _warn_off_median(annotated.task, ratios, median, time_scale)
    if time_scale == 'median':
        return [_as_it_is(median)] * len(num_frames)
    return [recording_rate(*pair, 'auto') for pair in zip(num_frames, last_ends, strict=True)]


def _warn_off_median(task: str, ratios: Mapping[str, Fraction], median: Fraction, time_scale: str) -> None:
    far = [f'{handle} ({float(ratio):.4g})' for handle, ratio in ratios.items()
           if abs(ratio / median - 1) > MAX_OFF_MEDIAN]
    if far:
        advice = ("set TIME_SCALE to 'median' or a number if they have an unlabelled tail" if time_scale == 'auto'
                  else "their times are taken at the median: set TIME_SCALE to 'auto' if they have a rate of their own")
        LOGGER.warning('task %s: length / last annotated end is more than 25 %% off the median of the task (%.4g) in '
                       '%s; %s', task, float(median), name_some(far), advice)
