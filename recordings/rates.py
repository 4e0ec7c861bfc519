"""Convert segments from annotation frames to feature frames, at the rate of each recording."""

import math
import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from sys import intern

from recordings.annotations import TaskAnnotations, short
from utils.action import Action
from utils.errors import UserError, name_some
from utils.logging import get_logger
from utils.text import short_text

LOGGER = get_logger(__name__)
FRAMES, SECONDS = 'frames', 'seconds'  # units of annotated times
AS_IT_IS = Fraction(2, 100)  # a rate this close to 1 is taken as 1
MAX_OFF_MEDIAN = Fraction(25, 100)  # relative distance from the median at which a recording is reported
MAX_DIGITS = 400  # of a number that is read exactly
LARGEST_RATE = Fraction(10**6)
MAX_DENOMINATOR = 10**6  # a rate given as float is taken as a fraction of frame counts below this


def segments_at_rate(labels: Sequence[str], starts: Sequence[int | Fraction], ends: Sequence[int | Fraction], *,
                     num_frames: int, rate: Fraction | float) -> list[Action]:
    """Convert half-open segments to feature frames; a frame belongs to the segment that contains its center.

    With rate ``r``, a segment ``[s, e)`` becomes ``ceil(s * r - 1/2)`` to ``ceil(e * r - 1/2) - 1``, both inclusive.
    Exact fractions are used because centers often fall on boundaries, where floats would round either way.

    Args:
        labels: labels of the segments, including background.
        starts: first annotation frame of each segment.
        ends: annotation frame after each segment's last one.
        num_frames: T, feature frames of the recording.
        rate: feature frames per annotation frame, > 0.

    Returns:
        The segments in feature frames, within [0, T - 1]; segments that contain no frame's center are dropped.

    Raises:
        ValueError: ``rate`` is not positive and finite.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f'rate is {rate}, expected a positive number of feature frames per annotation frame')
    exact = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(MAX_DENOMINATOR)
    top, bottom = exact.as_integer_ratio()

    def first_center(time: int | Fraction) -> int:
        # Frame i has its center at i + 1/2: it is inside if s r <= i + 1/2 < e r. With r = top / bottom, this is
        # ceil(time r - 1/2) in integers, several times faster than sums of fractions.
        return int(-((bottom - 2 * time * top) // (2 * bottom)))

    # A label is one string for all its segments; the JSON parser makes one for each.
    segments = (Action(intern(label), first_center(start), min(first_center(end), int(num_frames)) - 1)
                for label, start, end in zip(labels, starts, ends, strict=True))
    return [segment for segment in segments if segment.start <= segment.end]


def recording_rate(num_frames: int, last_end: int, time_scale: str | float) -> Fraction:
    """Return the feature frames per annotation frame of one recording.

    Args:
        num_frames: T, feature frames of the recording.
        last_end: last annotated end in annotation frames; 0 if there is no annotation.
        time_scale: 'auto' for ``T / last_end``, or 1 if that is within 2 % of 1 or there is no annotation; a number of
            annotation frames per feature frame for its inverse.

    Raises:
        UserError: ``time_scale`` is neither.
    """
    if time_scale != 'auto':
        return 1 / scale_number(time_scale)
    return _as_it_is(Fraction(int(num_frames), int(last_end))) if last_end else Fraction(1)


def _as_it_is(rate: Fraction) -> Fraction:
    """Return 1 for a rate close to 1, since last ends may be T or T - 1; else the rate."""
    return Fraction(1) if abs(rate - 1) <= AS_IT_IS else rate


def scale_number(time_scale: str | float) -> Fraction:
    """Return a numeric TIME_SCALE as the exact decimal that the user wrote."""
    number = isinstance(time_scale, int | float) and not isinstance(time_scale, bool)
    if not number or not 0 < time_scale < math.inf:
        raise UserError(f"TIME_SCALE is {short(time_scale)}, expected 'auto', 'median' or a number above 0 of "
                        'annotation frames per feature frame (30 if times count 30 frames per second and there is 1 '
                        'feature frame per second)')
    return Fraction(str(time_scale))  # of the text: Fraction(0.1) would be the nearest binary number


def parse_rate(text: str) -> Fraction:
    """Parse a number above 0 exactly, also a fraction such as '30000/1001'.

    Raises:
        UserError: the text is not a number from 1e-6 to 1e6.
    """
    number = exact_number(text)
    if number is None or not 1 / LARGEST_RATE <= number <= LARGEST_RATE:
        raise UserError(f'{short_text(text)}: expected a number above 0, from 1e-6 to 1e6')
    return number


def exact_number(text: str) -> Fraction | None:
    """Return the exact value of a number or fraction in a text, None if it is neither.

    A text that is long, or whose exponent is, is refused: the exact value of 1e999999999 has a billion digits.
    """
    _, _, exponent = text.lower().partition('e')
    if len(text) > MAX_DIGITS or len(exponent.strip().lstrip('+-0')) > 3:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def task_rates(annotated: TaskAnnotations, num_frames: Sequence[int], time_scale: str | float) -> list[Fraction]:
    """Return the rate of each recording; warn about recordings far from the task's median."""
    if time_scale not in ('auto', 'median'):
        return [recording_rate(0, 0, time_scale)] * len(num_frames)
    last_ends = [max(ends, default=0) for ends in annotated.ends]
    ratios = {handle: Fraction(int(frames), last_end)
              for handle, frames, last_end in zip(annotated.handles, num_frames, last_ends, strict=True) if last_end}
    if not ratios:
        raise UserError(f'task {annotated.task!r}: no recording has a segment that ends after frame 0, so '
                        f"TIME_SCALE '{time_scale}' gives no rate; annotate a recording or set TIME_SCALE to a number")
    median = statistics.median(ratios.values())
    _warn_off_median(annotated.task, ratios, median, time_scale)
    if time_scale == 'median':
        return [_as_it_is(median)] * len(num_frames)
    return [recording_rate(*pair, 'auto') for pair in zip(num_frames, last_ends, strict=True)]


def _warn_off_median(task: str, ratios: Mapping[str, Fraction], median: Fraction, time_scale: str) -> None:
    far = [f'{handle} ({float(ratio):.4g})' for handle, ratio in ratios.items()
           if abs(ratio / median - 1) > MAX_OFF_MEDIAN]
    if far:
        advice = ("set TIME_SCALE to 'median' or a number if they have an unlabeled tail" if time_scale == 'auto'
                  else "the median rate is used for them: set TIME_SCALE to 'auto' if their rates really differ")
        LOGGER.warning('task %s: length / last annotated end is more than 25 %% off the median of the task (%.4g) in '
                       '%s; %s', task, float(median), name_some(far), advice)
