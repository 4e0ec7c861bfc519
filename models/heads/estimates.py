"""Estimates at every frame from a head that infers boundaries."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

END = 'end'  # follows the last step


class FrameEstimates(NamedTuple):
    """Estimates of ``head.filter`` at T frames, each from the frames up to it; None if the head does not offer them.

    Attributes:
        step: T labels, the most probable step at each frame, or :data:`recordings.background.BACKGROUND`.
        progress: (T,) in [0, 1], within the current action; if ``step`` is background, within the most probable action.
        progress_low: (T,), 5 % quantile of the progress.
        progress_high: (T,), 95 % quantile.
        remaining: (T,), frames until the current action ends, the current frame not counted.
        remaining_low: (T,), 5 % quantile.
        remaining_high: (T,), 95 % quantile.
        overall: (T,) in [0, 1], frames so far as a fraction of the whole recording.
        overall_low: (T,), 5 % quantile.
        overall_high: (T,), 95 % quantile.
        overall_remaining: (T,), frames until the recording ends, the current frame not counted.
        step_probability: (T,) in [0, 1], probability of ``step``.
        next_step: T labels, the most probable next step, or ``END``.
        unknown: (T,) bool, True if nothing that the head knows fits the frame.
    """

    step: Sequence[str]
    progress: Tensor
    progress_low: Tensor | None = None
    progress_high: Tensor | None = None
    remaining: Tensor | None = None
    remaining_low: Tensor | None = None
    remaining_high: Tensor | None = None
    overall: Tensor | None = None
    overall_low: Tensor | None = None
    overall_high: Tensor | None = None
    overall_remaining: Tensor | None = None
    step_probability: Tensor | None = None
    next_step: Sequence[str] | None = None
    unknown: Tensor | None = None
