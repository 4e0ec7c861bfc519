"""One frame's progress, and how it is written as a row of CSV."""

from typing import NamedTuple

DIGITS = 6  # of a progress that is written


class FrameProgress(NamedTuple):
    """Progress at one frame.

    Attributes:
        frame: number of the frame in the recording, from 0.
        action: number of the action in the recording, from 0; None in the background.
        label: of the action, None where it is not known.
        progress: of the action, in [0, 1]; None in the background.
    """

    frame: int
    action: int | None
    label: str | None
    progress: float | None

    def cells(self) -> list[str]:
        """Return the row of CSV, its columns being the fields; what is None stays empty."""
        rounded = None if self.progress is None else f'{self.progress:.{DIGITS}f}'
        return ['' if value is None else str(value) for value in (self.frame, self.action, self.label, rounded)]
