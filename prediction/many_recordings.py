"""A stream of several recordings whose frames arrive interleaved, each recording with its own state."""

from contextlib import nullcontext
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from prediction.frame_progress import FrameProgress
from prediction.live import ProgressStream
from prediction.trackers import ActionMarker
from prediction.trained_run import TrainedRun
from utils.command_line import option
from utils.errors import UserError, name_some


class RecordingMarker(NamedTuple):
    """Marks that the next frames belong to this recording, which begins unless it is open already.

    Attributes:
        recording: name of the recording.
        task: task of the recording; None means the task of the stream.
    """

    recording: str
    task: str | None = None


class EndMarker(NamedTuple):
    """Marks the end of a recording.

    Attributes:
        recording: name of the recording.
    """

    recording: str


class FrameRate(NamedTuple):
    """Sets the frame rate of the current recording and of recordings that begin later.

    Attributes:
        fps: feature frames per second.
    """

    fps: Fraction


Item = np.ndarray | ActionMarker | RecordingMarker | EndMarker | FrameRate
NamedRow = tuple[str | None, FrameProgress]  # name of the recording, None in a stream of a single recording


class RecordingStreams:
    """The open recordings of a stream.

    A stream without recording markers is a single recording. Memory grows with the number of open recordings, not with
    their length. An item that raises a UserError other than NotFiniteError changes nothing.

    Args:
        run: from ``load_run``.
        task: task of recordings whose marker has no task; None if unknown.
        fps: feature frames per second, until an item changes it; None if unknown.
        name: name of the stream, for messages.

    Raises:
        UserError: the run does not know the task.
    """

    def __init__(self, run: TrainedRun, task: str | None = None, *, fps: Fraction | None = None,
                 name: str = 'stream') -> None:
        self._run, self._task, self._fps, self._name = run, task, fps, name
        self._open: dict[str | None, ProgressStream] = {}
        self._current: str | None = None
        self._named: bool | None = None  # the first item other than a frame rate decides

    def take(self, item: Item) -> list[NamedRow]:
        """Take the next item and return the rows that are now available.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
            UserError: the item does not fit the run or the previous items.
        """
        if isinstance(item, FrameRate):
            self._fps = item.fps
            if self._current in self._open:
                self._open[self._current].fps = item.fps
            return []
        if isinstance(item, RecordingMarker):
            self._switch(item)
            return []
        if isinstance(item, EndMarker):
            return self._end(item.recording)
        current = self._current_stream()
        if isinstance(item, ActionMarker):
            current.mark(item)
            return []
        return self._name_rows(self._current, current.push(item))

    def finish(self) -> list[NamedRow]:
        """End all open recordings, in the order in which they began, and return the remaining rows.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
            UserError: the stream is empty, or a recording has no frame.
        """
        # An empty stream counts as a recording without frames, which is an error.
        if not self._open and not self._named:
            self._current_stream()
        return [row for recording in list(self._open) for row in self._end(recording)]

    def _switch(self, item: RecordingMarker) -> None:
        if self._named is False:
            raise UserError(f'{self._name}: recording {item.recording!r} begins, but frames or markers without a '
                            'recording came before; expected its name before the first of them')
        stream = self._open.get(item.recording)
        if stream is None:
            stream = self._new_stream(item.recording, item.task)
        elif item.task not in (None, stream.task):
            raise UserError(f'{self._name}: recording {item.recording!r} is of task {stream.task!r} since it began, '
                            f'not of {item.task!r}; end it first, or leave the task out')
        # Assigned together, after everything that may raise: a bad marker changes nothing.
        self._named, self._current, self._open[item.recording] = True, item.recording, stream

    def _end(self, recording: str | None) -> list[NamedRow]:
        if recording not in self._open:
            names = name_some([name for name in self._open if name]) or 'none'
            raise UserError(f'{self._name}: recording {recording!r} ends, but is not open; expected one of: {names}')
        rows = self._open.pop(recording).finish()
        return self._name_rows(recording, rows)

    def _current_stream(self) -> ProgressStream:
        if not self._named:
            self._named = False
            if None not in self._open:
                self._open[None] = self._new_stream(None, None)
        elif self._current not in self._open:
            raise UserError(f'{self._name}: a frame or marker of no recording: {self._current!r} is over; expected '
                            '{"recording": "name"} before it')
        return self._open[self._current]

    def _new_stream(self, recording: str | None, task: str | None) -> ProgressStream:
        name = self._name if recording is None else f'{self._name}: recording {recording}'
        # The task of the command line has been checked, with the name of its option.
        with option(f'{name}: task') if task else nullcontext():
            return ProgressStream(self._run, task or self._task, fps=self._fps, name=name)

    @staticmethod
    def _name_rows(recording: str | None, rows: list[FrameProgress]) -> list[NamedRow]:
        return [(recording, row) for row in rows]
