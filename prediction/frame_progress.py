"""What is predicted at one frame, the same in tables, streams and Python, and how it is written."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor

from models.heads.estimates import BACKGROUND, FrameEstimates
from utils.errors import UserError

DIGITS, SECOND_DIGITS = 6, 3  # decimals of what is written
Cell = str | float | bool | None


class FrameProgress(NamedTuple):
    """What is predicted at one frame; None for what the head does not offer, or what background does not have.

    Attributes:
        frame: number of the frame in the recording, from 0.
        time_s: seconds from frame 0; as everything in seconds, None if the frame rate is not known.
        step: label of the current action, 'background', or None if the action was given without a label.
        step_probability: of ``step``, in [0, 1].
        progress: within the current action, in [0, 1].
        progress_low: its 5 % quantile.
        progress_high: its 95 % quantile.
        remaining_s: seconds until the current action ends.
        overall: progress of the whole recording, in [0, 1].
        overall_low: its 5 % quantile.
        overall_high: its 95 % quantile.
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
        """Return the row of CSV, its columns being the fields; what is None is empty."""
        return ['' if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                for value in self.rounded().values()]

    def rounded(self) -> dict[str, Cell]:
        """Return field -> value as it is written: probabilities with 6 decimals, seconds with 3."""
        return {name: round(value, SECOND_DIGITS if name.endswith('_s') else DIGITS) if isinstance(value, float)
                else value for name, value in self._asdict().items()}


class NotFiniteError(UserError):
    """A run predicts NaN or infinity; whatever it would predict afterwards is worthless, too."""


class Clock(NamedTuple):
    """How frames turn into seconds.

    Attributes:
        fps: feature frames per second; None: not known.
        spacing: feature frames from one frame that the run looks at to the next one.
    """

    fps: Fraction | None = None
    spacing: float = 1

    def time(self, frame: int) -> float | None:
        """Return the seconds from frame 0 to a feature frame."""
        return None if self.fps is None else float(frame / self.fps)

    def seconds(self, count: float | None) -> float | None:
        """Return the duration of so many frames that the run looks at."""
        return None if self.fps is None or count is None else count * self.spacing / float(self.fps)


class Source(NamedTuple):
    """Which recording is predicted, for messages, and its clock."""

    name: str
    clock: Clock


def rows_of_background(frames: Sequence[int], source: Source) -> Iterator[FrameProgress]:
    """Yield the rows of frames that are given as background."""
    for frame in frames:
        yield FrameProgress(frame, source.clock.time(frame), BACKGROUND)


def rows_of_action(frames: Sequence[int], label: str | None, values: Tensor, source: Source, *,
                   first: int = 1) -> Iterator[FrameProgress]:
    """Yield the rows of frames of an action whose start is given.

    Args:
        frames: numbers of n frames that the run looks at.
        label: of the action, None if it has none.
        values: (n, 3), progress and its quantiles, NaN if the head offers none.
        source: recording.
        first: number of the first of these frames within the action, from 1.

    Raises:
        NotFiniteError: the progress is NaN or infinity.
    """
    for elapsed, (frame, (progress, low, high)) in enumerate(zip(frames, values.tolist(), strict=True), first):
        _check_finite({'progress': progress}, frame, source)
        knows_interval = not math.isnan(low)
        # Progress is linear in time: the head's belief in the action's length is its belief in the progress.
        remaining = elapsed / progress - elapsed if knows_interval and progress > 0 else None
        yield FrameProgress(frame, source.clock.time(frame), label, progress=progress,
                            progress_low=low if knows_interval else None,
                            progress_high=high if knows_interval else None,
                            remaining_s=source.clock.seconds(remaining))


def rows_of_estimates(frames: Sequence[int], estimates: FrameEstimates, source: Source) -> Iterator[FrameProgress]:
    """Yield the rows of frames at which a head infers the action.

    Args:
        frames: numbers of the T frames.
        estimates: of the head.
        source: recording.

    Raises:
        NotFiniteError: an estimate is NaN or infinity.
    """
    offered = {name: value.tolist() if isinstance(value, Tensor) else value
               for name, value in estimates._asdict().items() if value is not None}
    for index, frame in enumerate(frames):
        values = {name: column[index] for name, column in offered.items()}
        _check_finite(values, frame, source)
        yield _estimated_row(frame, values, source.clock)


def _estimated_row(frame: int, values: dict[str, Cell], clock: Clock) -> FrameProgress:
    # The step is numpy's text in some heads; the progress within background is a placeholder.
    step, get = str(values['step']), values.get
    within = {} if step == BACKGROUND else {
        **{name: get(name) for name in ('progress', 'progress_low', 'progress_high')},
        'remaining_s': clock.seconds(get('remaining'))}
    return FrameProgress(
        frame, clock.time(frame), step, get('step_probability'), **within, overall=get('overall'),
        overall_low=get('overall_low'), overall_high=get('overall_high'),
        overall_remaining_s=clock.seconds(get('overall_remaining')), next_step=get('next_step'),
        unknown=get('unknown'))


def _check_finite(values: dict[str, Cell], frame: int, source: Source) -> None:
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise NotFiniteError(f'{source.name}: the run predicts {name} {value} at frame {frame}, expected a finite '
                                 'number; choose another checkpoint (--checkpoint_type) or train the run again')
