"""Progress as the frames arrive, at constant cost per frame."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.streaming import EmbeddingStream
from prediction.frame_progress import FrameProgress
from prediction.trained_run import TrainedRun
from utils.errors import UserError
from utils.tensorops import Action


class ActionMarker(NamedTuple):
    """What stands between two frames of a stream where an action begins or ends.

    Attributes:
        label: of the action that begins with the next frame; None where it is not known.
        begins: False: no action begins, what follows is background.
        ended: label of the action that is over, where it was not known when it began.
    """

    label: str | None = None
    begins: bool = True
    ended: str | None = None


class ProgressStream:
    """Progress of one recording, frame by frame.

    Carried from frame to frame are the inputs that the encoder's convolutions still see, the state of the head, and the
    completed actions, which tell the pace. The progress of a frame is there ``run.delay`` frames later, and equals what
    ``predict`` says of the same actions. Unless a marker stands before it, the first frame begins an action.

    Args:
        run: from ``load_run``.
        task: what is done in the recording; needed where the head knows the steps of several tasks.
        name: of the stream, for messages.

    Raises:
        UserError: the run does not know the task, or its network needs whole recordings.
    """

    def __init__(self, run: TrainedRun, task: str | None = None, *, name: str = 'stream') -> None:
        self._run, self._name = run, name
        self._tracker = _ActionTracker(run, run.check_task(task), name)
        try:
            self._embeddings = EmbeddingStream(run.model)
        except ValueError as error:
            raise UserError(f'{name}: the run {run.name} cannot read one ({error}); predict whole recordings'
                            ) from error
        if run.max_frames:
            run.warn_once('max_frames', f'{name}: the run looks at {run.max_frames} frames of a recording at most, '
                                        'evenly chosen, but in a stream at every one: from a longer recording they '
                                        'come faster here than in training')
        self._marker: ActionMarker | None = ActionMarker()
        self._waiting: deque[tuple[int, ActionMarker | None]] = deque()  # frames whose embedding is still to come
        self._seen = self._marked_at = 0  # frames, and of those the ones before the last marker

    def mark(self, marker: ActionMarker) -> None:
        """Begin or end an action before the next frame; of several markers between two frames the last one rules.

        Where frames that do not count (SKIP_RATE) have come since the marker before, what ended since is an action of
        no frame: its label is not that of the action before.
        """
        if self._marker is not None:
            told_late = marker.ended if self._seen == self._marked_at else None
            marker = marker._replace(ended=told_late or self._marker.ended)
        self._marker, self._marked_at = marker, self._seen

    @torch.no_grad()
    def push(self, frame: np.ndarray | Tensor) -> list[FrameProgress]:
        """Take the next frame, (D,) or (C, H, W), and return what is known by it: one frame's progress or none.

        Raises:
            UserError: the frame has another shape than those of the training, or holds NaN or infinity; or an action
                begins without a label, and the head has to be told it.
        """
        frame = self._checked(frame)
        number, self._seen = self._seen, self._seen + 1
        if number % self._run.skip_rate:
            return []
        if self._marker is not None:
            self._tracker.check(self._marker, number)
        self._waiting.append((number, self._marker))
        self._marker = None
        return [self._progress(embedding) for embedding in self._embeddings.push(frame)]

    @torch.no_grad()
    def finish(self) -> list[FrameProgress]:
        """End the recording and return the progress of the frames that were waiting for frames ahead.

        Raises:
            UserError: there was no frame.
        """
        if not self._seen:
            raise UserError(f'{self._name}: ended before the first frame, expected at least one; pipe frames into it')
        return [self._progress(embedding) for embedding in self._embeddings.finish()]

    def _progress(self, embedding: Tensor) -> FrameProgress:
        number, marker = self._waiting.popleft()
        if marker is not None:
            self._tracker.apply(marker)
        return self._tracker.step(number, embedding)

    def _checked(self, frame: np.ndarray | Tensor) -> Tensor:
        where = f'{self._name}: frame {self._seen}'
        tensor = torch.as_tensor(frame.copy() if isinstance(frame, np.ndarray) else frame)  # it may be read-only
        self._run.check_shape((1, *tensor.shape), where)
        tensor = tensor.float()
        if not torch.isfinite(tensor).all():
            raise UserError(f'{where} holds NaN or infinity (as float32), expected finite values; leave it out or '
                            'extract it anew')
        return tensor


class _ActionTracker:
    """Which action a frame belongs to, and the head's state within it."""

    def __init__(self, run: TrainedRun, task: str | None, name: str) -> None:
        self._run, self._task, self._name = run, task, name
        self._completed: list[Action] = []
        self._number, self._label, self._start = -1, None, None  # of the current action; no start: background
        self._frames = 0  # that the run has looked at
        self._state = self._context = None

    def check(self, marker: ActionMarker, frame: int) -> None:
        """Look whether the head can do with the labels of a marker."""
        where = f'{self._name}: before frame {frame}'
        if marker.begins and not self._run.is_background(marker.label):
            self._run.check_label(self._task, marker.label, where)
        if marker.ended is not None:
            self._run.check_label(self._task, marker.ended, where)

    def apply(self, marker: ActionMarker) -> None:
        """End the current action, and begin one with the next frame unless it is background."""
        if self._start is not None:
            self._completed.append(Action(marker.ended or self._label, self._start, self._frames - 1))
        self._start = self._state = None
        if not marker.begins or self._run.is_background(marker.label):
            return
        self._number, self._label, self._start = self._number + 1, marker.label, self._frames
        # Its end is not known yet, and no context depends on it.
        begun = Action(self._label, self._start, self._start)
        self._context = self._run.head.context(self._task, self._completed, begun)

    def step(self, frame: int, embedding: Tensor) -> FrameProgress:
        """Return the progress at the next frame."""
        self._frames += 1
        if self._start is None:
            return FrameProgress(frame, None, None, None)
        progress, self._state = self._run.head.step(embedding, self._state, self._context)
        return FrameProgress(frame, self._number, self._label, float(progress))


def stream(run: TrainedRun, frames: Iterable[np.ndarray | Tensor | ActionMarker], task: str | None = None, *,
           name: str = 'stream') -> Iterator[FrameProgress]:
    """Predict progress frame by frame, as the frames arrive.

    Args:
        run: from ``load_run``.
        frames: features (D,) or frames (C, H, W) of one recording, and an :class:`ActionMarker` before the first frame
            of each action; without any, the whole stream is one action.
        task: see :class:`ProgressStream`.
        name: of the stream, for messages.

    Returns:
        An iterator over the frames' progress, each of which comes ``run.delay`` frames after its frame.

    Raises:
        UserError: see :class:`ProgressStream`.
    """
    return _advance(ProgressStream(run, task, name=name), frames)


def _advance(progress: ProgressStream, frames: Iterable) -> Iterator[FrameProgress]:
    for item in frames:
        if isinstance(item, ActionMarker):
            progress.mark(item)
        else:
            yield from progress.push(item)
    yield from progress.finish()
