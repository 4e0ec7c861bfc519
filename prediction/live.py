"""Progress as the frames arrive, at constant cost per frame."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from models.streaming import EmbeddingStream
from prediction.frame_progress import Clock, FrameProgress, Source
from prediction.trackers import ActionMarker, GivenBoundaries, InferredBoundaries
from prediction.trained_run import TrainedRun
from utils.errors import UserError


class ProgressStream:
    """Progress of one recording, frame by frame.

    Carried from frame to frame are the inputs that the encoder's convolutions still see, the state of the head, and,
    with boundaries given, the completed actions, which tell the pace. The row of a frame is known ``run.delay`` frames
    later, and equals what ``predict`` returns for the same recording.

    If the head infers boundaries, it does so unless a marker comes before the first frame; then all boundaries of the
    recording are given by markers. With another head and no marker before it, the first frame begins an action.

    Args:
        run: from ``load_run``.
        task: what is done in the recording; needed if the head knows the steps of several tasks.
        fps: feature frames per second, for the seconds in the rows; None: not known.
        name: of the stream, for messages.

    Attributes:
        fps: as above; may be set at any time, and holds for the rows after it.
        task: the task, filled in if the run has a single one.

    Raises:
        UserError: the run does not know the task, or its network needs whole recordings.
    """

    def __init__(self, run: TrainedRun, task: str | None = None, *, fps: Fraction | float | None = None,
                 name: str = 'stream') -> None:
        self._run, self._name, self.fps = run, name, fps
        self.task = run.check_task(task)
        try:
            self._embeddings = EmbeddingStream(run.model)
        except ValueError as error:
            raise UserError(f'{name}: the run {run.name} cannot read one ({error}); predict whole recordings'
                            ) from error
        if run.max_frames:
            run.warn_once('max_frames', f'{name}: the run looks at {run.max_frames} frames of a recording at most, '
                                        'evenly chosen, but in a stream at every one: from a longer recording they '
                                        'come faster here than in training')
        self._marker = None if run.head.offers_filter else ActionMarker()
        self._tracker: GivenBoundaries | InferredBoundaries | None = None  # the first frame decides which
        self._waiting: deque[tuple[int, ActionMarker | None]] = deque()  # frames whose embedding is still to come
        self._seen = self._marked_at = 0  # frames, and of those the ones before the last marker

    def mark(self, marker: ActionMarker) -> None:
        """Begin or end an action before the next frame; of several markers between two frames the last one counts.

        If frames that do not count (SKIP_RATE) have come since the marker before, what ended since is an action
        without a frame: its label is not that of the action before.

        Raises:
            UserError: the boundaries have been inferred since the first frame.
        """
        if isinstance(self._tracker, InferredBoundaries):
            raise UserError(f'{self._name}: a marker before frame {self._seen}, but boundaries have been inferred '
                            'since frame 0; expected markers from the start or none: put one before the first frame '
                            '("action": false if it is background)')
        if self._marker is not None:
            told_late = marker.ended if self._seen == self._marked_at else None
            marker = marker._replace(ended=told_late or self._marker.ended)
        self._marker, self._marked_at = marker, self._seen

    @torch.inference_mode()
    def push(self, frame: np.ndarray | Tensor) -> list[FrameProgress]:
        """Take the next frame, (D,) or (C, H, W), and return the rows known by it: of one frame or none.

        A frame that is refused does not count: the next one has its number.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
            UserError: the frame has another shape than those of the training, or holds NaN or infinity; or an action
                begins without a label, and the head needs it.
        """
        frame, number = self._checked(frame), self._seen
        counts = number % self._run.skip_rate == 0
        if self._tracker is None:
            self._tracker = self._choose_tracker()
        if counts and self._marker is not None:
            self._tracker.check(self._marker, number)
        self._seen += 1
        if not counts:
            return []
        self._waiting.append((number, self._marker))
        self._marker = None
        return [self._row(embedding) for embedding in self._embeddings.push(frame)]

    @torch.inference_mode()
    def finish(self) -> list[FrameProgress]:
        """End the recording and return the rows of the frames that were waiting for frames ahead.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
            UserError: there was no frame.
        """
        if not self._seen:
            raise UserError(f'{self._name}: ended before the first frame, expected at least one; pipe frames into it')
        return [self._row(embedding) for embedding in self._embeddings.finish()]

    def _choose_tracker(self) -> GivenBoundaries | InferredBoundaries:
        if self._marker is None:
            return InferredBoundaries(self._run, self.task)
        return GivenBoundaries(self._run, self.task, self._name)

    def _row(self, embedding: Tensor) -> FrameProgress:
        number, marker = self._waiting.popleft()
        if marker is not None:
            self._tracker.apply(marker)
        fps = None if self.fps is None else Fraction(self.fps)
        return self._tracker.step(number, embedding, Source(self._name, Clock(fps, self._run.skip_rate)))

    def _checked(self, frame: np.ndarray | Tensor) -> Tensor:
        where = f'{self._name}: frame {self._seen}'
        tensor = torch.as_tensor(frame.copy() if isinstance(frame, np.ndarray) else frame)  # it may be read-only
        self._run.check_shape((1, *tensor.shape), where)
        tensor = tensor.float()
        if not torch.isfinite(tensor).all():
            raise UserError(f'{where} holds NaN or infinity (as float32), expected finite values; leave it out or '
                            're-extract it')
        return tensor


def stream(run: TrainedRun, frames: Iterable[np.ndarray | Tensor | ActionMarker], task: str | None = None, *,
           fps: Fraction | float | None = None, name: str = 'stream') -> Iterator[FrameProgress]:
    """Predict progress frame by frame, as the frames arrive.

    Args:
        run: from ``load_run``.
        frames: features (D,) or frames (C, H, W) of one recording. With boundaries given, an :class:`ActionMarker`
            comes before the first frame of each action, and one before the first frame of the recording; without any,
            boundaries are inferred, or, if the head does not do that, the whole stream is one action.
        task: see :class:`ProgressStream`.
        fps: feature frames per second; None: not known.
        name: of the stream, for messages.

    Returns:
        An iterator over the rows, each of which comes ``run.delay`` frames after its frame.

    Raises:
        UserError: see :class:`ProgressStream`.
    """
    return _advance(ProgressStream(run, task, fps=fps, name=name), frames)


def _advance(progress: ProgressStream, frames: Iterable) -> Iterator[FrameProgress]:
    for item in frames:
        if isinstance(item, ActionMarker):
            progress.mark(item)
        else:
            yield from progress.push(item)
    yield from progress.finish()
