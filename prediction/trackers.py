"""State of a stream between frames: actions with given boundaries, or the filter of a head that infers boundaries."""

from typing import NamedTuple

from torch import Tensor

from prediction.frame_progress import (
    FrameProgress,
    Source,
    rows_of_action,
    rows_of_background,
    rows_of_estimates,
)
from prediction.trained_run import TrainedRun
from utils.action import Action


class ActionMarker(NamedTuple):
    """Marks the start or end of an action between two frames of a stream.

    Attributes:
        label: label of the action that begins with the next frame; None if unknown.
        begins: True if an action begins, False if background begins.
        ended: label of the action that has ended, if it was unknown at the start of the action.
    """

    label: str | None = None
    begins: bool = True
    ended: str | None = None


class GivenBoundaries:
    """The current action of a recording with given boundaries, and the head's state within the action.

    Args:
        run: from ``load_run``.
        task: task of the recording, if known.
        name: name of the recording, for messages.
    """

    def __init__(self, run: TrainedRun, task: str | None, name: str) -> None:
        self._run, self._task, self._name = run, task, name
        self._completed: list[Action] = []
        # Of the current action; the start is None in background.
        self._label: str | None = None
        self._start: int | None = None
        self._frames = 0  # frames that the run has used so far
        # Each head has its own.
        self._state: object = None
        self._context: object = None

    def check(self, marker: ActionMarker, frame: int) -> None:
        """Check the labels of a marker.

        Args:
            marker: marker before the frame.
            frame: number of the frame.

        Raises:
            UserError: the head requires a label, but the label is missing.
        """
        where = f'{self._name}: before frame {frame}'
        if marker.begins and not self._run.is_background(marker.label):
            self._run.check_label(self._task, marker.label, where)
        if marker.ended is not None:
            self._run.check_label(self._task, marker.ended, where)

    def apply(self, marker: ActionMarker) -> None:
        """End the current action, and begin one with the next frame unless it is background."""
        if self._start is not None:
            # A label that is told at the end wins: it was unknown at the start, or guessed.
            self._completed.append(Action(marker.ended or self._label, self._start, self._frames - 1))
        self._start = self._state = None
        if not marker.begins or self._run.is_background(marker.label):
            return
        self._label, self._start = marker.label, self._frames
        # The end of the action is unknown, but the context does not depend on it.
        begun = Action(self._label, self._frames, self._frames)
        self._context = self._run.head.context(self._task, self._completed, begun)

    def step(self, frame: int, embedding: Tensor, source: Source) -> FrameProgress:
        """Return the row of the next frame.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
        """
        # Counts background as well: starts and ends of actions index all frames that the run uses.
        self._frames += 1
        if self._start is None:
            return next(rows_of_background([frame], source))
        values, self._state = self._run.head.step_interval(embedding, self._state, self._context)
        # (3,) -> (1, 3)
        return next(rows_of_action([frame], self._label, values.unsqueeze(0), source, first=self._frames - self._start))


class InferredBoundaries:
    """State of a head that infers boundaries.

    Args:
        run: from ``load_run``; its head offers the filter.
        task: task of the recording, if known.
    """

    def __init__(self, run: TrainedRun, task: str | None) -> None:
        self._head, self._task = run.head, task
        self._state: object = None  # each head has its own

    def step(self, frame: int, embedding: Tensor, source: Source) -> FrameProgress:
        """Return the row of the next frame.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
        """
        estimates, self._state = self._head.filter_step(embedding, self._state, self._task)
        return next(rows_of_estimates([frame], estimates, source))
