"""Prediction for a whole recording, as rows and as arrays."""

from collections.abc import Sequence

import numpy as np

from prediction.frame_progress import FrameProgress
from utils.action import Action

DTYPES = {'frame': int, 'step': object, 'next_step': object, 'unknown': bool}  # other columns are float
GIVEN, INFERRED, WHOLE_RECORDING = 'given', 'inferred', 'whole recording'


class Prediction:
    """Prediction for a recording.

    Every field of :class:`FrameProgress` is also an attribute, an array (n,) with an entry per row. If a row has no
    value, the entry is NaN or None, or False for ``unknown``.

    Args:
        boundaries: see the attributes.
        actions: see the attributes.
        rows: see the attributes.

    Attributes:
        boundaries: 'given', 'inferred', or 'whole recording' if the recording counts as a single action.
        actions: given or inferred actions in order of time; both ends are row indices, inclusive; the name is None if
            no label was given.
        rows: n rows, one for each frame that the run uses: all frames, or the frames selected by ``SKIP_RATE`` and
            ``MAX_FRAMES``.
    """

    def __init__(self, boundaries: str, actions: Sequence[Action], rows: Sequence[FrameProgress]) -> None:
        self.boundaries, self.actions, self.rows = boundaries, actions, rows
        # As a float, None is NaN.
        columns: dict[str, np.ndarray] = {
            name: np.array(values, DTYPES.get(name, float))
            for name, values in zip(FrameProgress._fields, zip(*rows, strict=True), strict=True)}
        self.frame, self.time_s = columns['frame'], columns['time_s']
        self.step, self.step_probability = columns['step'], columns['step_probability']
        self.progress = columns['progress']
        self.progress_low, self.progress_high = columns['progress_low'], columns['progress_high']
        self.remaining_s = columns['remaining_s']
        self.overall = columns['overall']
        self.overall_low, self.overall_high = columns['overall_low'], columns['overall_high']
        self.overall_remaining_s = columns['overall_remaining_s']
        self.next_step, self.unknown = columns['next_step'], columns['unknown']
