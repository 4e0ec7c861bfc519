"""Prediction at a frame, in the same form for tables, streams and Python, and its text format."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor

from models.heads.estimates import FrameEstimates
from recordings.background import BACKGROUND
from utils.errors import UserError

DIGITS, SECOND_DIGITS = 6, 3  # decimals in files: of numbers in general, and of seconds
Cell = str | float | bool | None


class FrameProgress(NamedTuple):
    """Prediction at a frame; a value is None if the head does not offer it, or if it is undefined for background.

    Attributes:
        frame: number of the frame in the recording, from 0.
        time_s: seconds from frame 0; like all values in seconds, None if the frame rate is unknown.
        step: label of the current action, 'background', or None if the action was given without a label.
        step_probability: probability of ``step``, in [0, 1].
        progress: progress within the current action, in [0, 1].
        progress_low: 5 % quantile of ``progress``.
        progress_high: 95 % quantile of ``progress``.
        remaining_s: seconds until the current action ends.
        overall: progress of the whole recording, in [0, 1].
        overall_low: 5 % quantile of ``overall``.
        overall_high: 95 % quantile of ``overall``.
        overall_remaining_s: seconds until the recording ends.
        next_step: label of the most probable next action.
        unknown: True if nothing that the head knows fits the frame.
    """

    frame: int
    time_s: float | None = None
    step: str | None = None
    step_probability: float | None = None
    progress: float | None = None
    progress_low: float | None = None
    progress_high: float | None = None
    remaining_s: float | None = None
    overall: float | None = None
    overall_low: float | None = None
    overall_high: float | None = None
    overall_remaining_s: float | None = None
    next_step: str | None = None
    unknown: bool | None = None

    def cells(self) -> list[str]:
        """Return the row of CSV, with the fields as columns; None is written as an empty cell."""
        # True is written as true, as in JSON.
        return ['' if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                for value in self.rounded().values()]

    def rounded(self) -> dict[str, Cell]:
        """Return field -> value as written to files: seconds with 3 decimals, other numbers with 6."""
        return {name: round(value, SECOND_DIGITS if name.endswith('_s') else DIGITS) if isinstance(value, float)
                else value for name, value in self._asdict().items()}


class NotFiniteError(UserError):
    """Raised if a run predicts NaN or infinity; later predictions of the stream would be invalid, too."""


class Clock(NamedTuple):
    """Conversion of frames to seconds.

    Attributes:
        fps: feature frames per second; None if unknown.
        spacing: feature frames between consecutive frames that the run uses.
    """

    fps: Fraction | None = None
    spacing: float = 1

    def time(self, frame: int) -> float | None:
        """Return the seconds from frame 0 to a feature frame."""
        return None if self.fps is None else float(frame / self.fps)

    def seconds(self, count: float | None) -> float | None:
        """Return the duration in seconds of a number of frames that the run uses."""
        # Heads count used frames, which are spacing feature frames apart.
        return None if self.fps is None or count is None else count * self.spacing / float(self.fps)


class Source(NamedTuple):
    """Name of a recording, for messages, and its clock."""

    name: str
    clock: Clock


def rows_of_background(frames: Sequence[int], source: Source) -> Iterator[FrameProgress]:
    """Yield the rows of frames given as background."""
    for frame in frames:
        yield FrameProgress(frame, source.clock.time(frame), BACKGROUND)


def rows_of_action(frames: Sequence[int], label: str | None, values: Tensor, source: Source, *,
                   first: int = 1) -> Iterator[FrameProgress]:
    """Yield the rows of frames of an action whose start is given.

    Args:
        frames: numbers of n frames that the run uses.
        label: label of the action; None if the action is unlabeled.
        values: (n, 3), progress and its quantiles; quantiles are NaN if the head predicts no intervals.
        source: the recording.
        first: number of the first of these frames within the action, from 1.

    Raises:
        NotFiniteError: the progress is NaN or infinity.
    """
    for elapsed, (frame, (progress, low, high)) in enumerate(zip(frames, values.tolist(), strict=True), first):
        _check_finite({'progress': progress}, frame, source)
        knows_interval = not math.isnan(low)
        # Progress is linear in time, so the predicted progress determines the predicted length of the action.
        remaining = elapsed / progress - elapsed if knows_interval and progress > 0 else None
        yield FrameProgress(frame, source.clock.time(frame), label, progress=progress,
                            progress_low=low if knows_interval else None,
                            progress_high=high if knows_interval else None,
                            remaining_s=source.clock.seconds(remaining))


def rows_of_estimates(frames: Sequence[int], estimates: FrameEstimates, source: Source) -> Iterator[FrameProgress]:
    """Yield the rows of frames at which a head infers the action.

    Args:
        frames: numbers of the T frames.
        estimates: estimates of the head.
        source: the recording.

    Raises:
        NotFiniteError: an estimate is NaN or infinity.
    """
    columns = {name: value.tolist() for name, value in estimates._asdict().items() if isinstance(value, Tensor)}
    for index, frame in enumerate(frames):
        numbers = {name: column[index] for name, column in columns.items()}
        _check_finite(numbers, frame, source)
        next_step = None if estimates.next_step is None else estimates.next_step[index]
        # Some heads return the step as a numpy string.
        yield _estimated_row(frame, str(estimates.step[index]), next_step, numbers, source.clock)


def _estimated_row(frame: int, step: str, next_step: str | None, numbers: Mapping[str, float],
                   clock: Clock) -> FrameProgress:
    get = numbers.get
    # Progress is a placeholder if the step is background.
    within = {} if step == BACKGROUND else {
        **{name: get(name) for name in ('progress', 'progress_low', 'progress_high')},
        'remaining_s': clock.seconds(get('remaining'))}
    return FrameProgress(
        frame, clock.time(frame), step, get('step_probability'), **within, overall=get('overall'),
        overall_low=get('overall_low'), overall_high=get('overall_high'),
        overall_remaining_s=clock.seconds(get('overall_remaining')), next_step=next_step,
        unknown=bool(numbers['unknown']) if 'unknown' in numbers else None)


def _check_finite(values: Mapping[str, float], frame: int, source: Source) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(f'{source.name}: the run predicts {name} {value} at frame {frame}, expected a finite '
                                 'number; check the scale of the features, choose another checkpoint '
                                 '(--checkpoint_type) or train the run again')
