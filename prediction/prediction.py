"""What is predicted of a whole recording, as rows and as arrays."""

from collections.abc import Sequence

import numpy as np

from prediction.frame_progress import FrameProgress
from utils.tensorops import Action

GIVEN, INFERRED, WHOLE_RECORDING = 'given', 'inferred', 'whole recording'


class Prediction:
    """What is predicted of a recording.

    Every field of :class:`FrameProgress` is an attribute, too, an array (n,) with an entry per row: NaN or None if a
    row has no value, False for ``unknown``.

    Args:
        boundaries: see the attributes.
        actions: see the attributes.
        rows: see the attributes.

    Attributes:
        boundaries: 'given', 'inferred', or 'whole recording': the recording counts as one action.
        actions: given or inferred, in order; both ends inclusive, in rows; their name is None if it was not given.
        rows: n rows, one for each frame that the run looks at: all, or what ``SKIP_RATE`` and ``MAX_FRAMES`` leave.
    """

    def __init__(self, boundaries: str, actions: Sequence[Action], rows: Sequence[FrameProgress]) -> None:
        self.boundaries, self.actions, self.rows = boundaries, actions, rows
        self.frame = self._column('frame', int)
        self.time_s = self._column('time_s')
        self.step = self._column('step', object)
        self.step_probability = self._column('step_probability')
        self.progress = self._column('progress')
        self.progress_low, self.progress_high = self._column('progress_low'), self._column('progress_high')
        self.remaining_s = self._column('remaining_s')
        self.overall = self._column('overall')
        self.overall_low, self.overall_high = self._column('overall_low'), self._column('overall_high')
        self.overall_remaining_s = self._column('overall_remaining_s')
        self.next_step = self._column('next_step', object)
        self.unknown = self._column('unknown', bool)

    def _column(self, name: str, dtype: type = float) -> np.ndarray:
        return np.array([getattr(row, name) for row in self.rows], dtype)  # as a float, None is NaN
