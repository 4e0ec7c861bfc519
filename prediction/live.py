"""Predict progress while frames arrive, at constant cost per frame."""

import math
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

    The state between frames consists of the inputs that the encoder's convolutions still need, the state of the head,
    and, if boundaries are given, the completed actions, which determine the pace. The row of a frame is available
    ``run.delay`` frames later, and equals the row that ``predict`` returns for the same recording.

    A head that infers boundaries does so unless a marker comes before the first frame; in that case, markers give all
    boundaries of the recording. With other heads, the first frame begins an action if no marker comes before it.

    Args:
        run: from ``load_run``.
        task: task of the recording; required if the head knows the steps of several tasks.
        fps: feature frames per second, for the seconds in the rows; None if unknown.
        name: name of the stream, for messages.

    Attributes:
        fps: feature frames per second; may be set at any time, and applies to later rows.
        task: the task, filled in if the run has a single task.

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
            run.warn_once('max_frames', f'{name}: in training, the run uses at most {run.max_frames} evenly spaced '
                                        'frames of a recording, but in a stream it uses every frame: longer recordings '
                                        'have more frames here than in training')
        self._marker = None if run.head.offers_filter else ActionMarker()
        self._tracker: GivenBoundaries | InferredBoundaries | None = None  # chosen at the first frame
        self._waiting: deque[tuple[int, ActionMarker | None]] = deque()  # frames whose embedding is not available yet
        self._seen = self._marked_at = 0  # number of frames so far, and before the last marker
        self._shape: torch.Size | None = None  # of the last frame that was right

    def mark(self, marker: ActionMarker) -> None:
        """Begin or end an action before the next frame; if several markers come between two frames, the last counts.

        If only frames skipped by SKIP_RATE have come since the previous marker, the action that ended has no frame, so
        its label does not replace the label of the action before it.

        Raises:
            UserError: the boundaries have been inferred since the first frame.
        """
        if isinstance(self._tracker, InferredBoundaries):
            raise UserError(f'{self._name}: a marker before frame {self._seen}, but boundaries have been inferred '
                            'since frame 0; expected markers from the start or none: put one before the first frame '
                            '("action": false if it is background)')
        # The new marker replaces a pending one, after which no used frame has come. Both end the same action, unless
        # frames that are not used have come in between.
        if self._marker is not None:
            told_late = marker.ended if self._seen == self._marked_at else None
            marker = marker._replace(ended=told_late or self._marker.ended)
        self._marker, self._marked_at = marker, self._seen

    @torch.inference_mode()
    def push(self, frame: np.ndarray | Tensor) -> list[FrameProgress]:
        """Take the next frame, (D,) or (C, H, W), and return the rows that are now available: at most one.

        A frame that raises is not counted: the next frame gets its number.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
            UserError: the shape of the frame differs from training, or the frame contains NaN or infinity; or an
                action begins without a label although the head requires it.
        """
        frame, number = self._checked(frame), self._seen
        counts = number % self._run.skip_rate == 0
        tracker = self._tracker = self._tracker or self._choose_tracker()
        # Check first: a frame that raises must leave the stream unchanged.
        if counts and self._marker is not None and isinstance(tracker, GivenBoundaries):
            tracker.check(self._marker, number)
        self._seen += 1
        if not counts:
            return []
        # The marker waits with its frame: the frame's embedding comes only after the frames that the encoder sees
        # ahead.
        self._waiting.append((number, self._marker))
        self._marker = None
        return [self._row(tracker, embedding) for embedding in self._embeddings.push(frame)]

    @torch.inference_mode()
    def finish(self) -> list[FrameProgress]:
        """End the recording and return the rows of the frames that were waiting for later frames.

        Raises:
            NotFiniteError: the run predicts NaN or infinity.
            UserError: the stream has no frame.
        """
        if self._tracker is None or not self._seen:
            raise UserError(f'{self._name}: ended before the first frame, expected at least one; pipe frames into it')
        return [self._row(self._tracker, embedding) for embedding in self._embeddings.finish()]

    def _choose_tracker(self) -> GivenBoundaries | InferredBoundaries:
        if self._marker is None:
            return InferredBoundaries(self._run, self.task)
        return GivenBoundaries(self._run, self.task, self._name)

    def _row(self, tracker: GivenBoundaries | InferredBoundaries, embedding: Tensor) -> FrameProgress:
        number, marker = self._waiting.popleft()
        # There is no marker if boundaries are inferred.
        if marker is not None and isinstance(tracker, GivenBoundaries):
            tracker.apply(marker)
        # A stream uses every skip_rate-th frame; MAX_FRAMES does not apply, because the length is not known yet.
        fps = None if self.fps is None else Fraction(self.fps)
        return tracker.step(number, embedding, Source(self._name, Clock(fps, self._run.skip_rate)))

    def _checked(self, frame: np.ndarray | Tensor) -> Tensor:
        where = f'{self._name}: frame {self._seen}'
        tensor = torch.as_tensor(frame.copy() if isinstance(frame, np.ndarray) else frame)  # it may be read-only
        if tensor.shape != self._shape:
            self._run.check_shape((1, *tensor.shape), where)  # a recording of one frame
            self._shape = tensor.shape
        tensor = tensor.float()
        # A finite sum has finite terms only, and takes a third of the time of looking at each of them.
        if not (math.isfinite(tensor.sum().item()) or torch.isfinite(tensor).all()):
            raise UserError(f'{where} holds NaN or infinity (as float32), expected finite values; leave it out or '
                            're-extract it')
        return tensor


def stream(run: TrainedRun, frames: Iterable[np.ndarray | Tensor | ActionMarker], task: str | None = None, *,
           fps: Fraction | float | None = None, name: str = 'stream') -> Iterator[FrameProgress]:
    """Predict progress frame by frame, while the frames arrive.

    Args:
        run: from ``load_run``.
        frames: features (D,) or frames (C, H, W) of a recording. To give boundaries, put an :class:`ActionMarker`
            before the first frame of the recording, and another before the first frame of each action. Without
            markers, boundaries are inferred, or the whole stream is a single action if the head cannot infer them.
        task: see :class:`ProgressStream`.
        fps: feature frames per second; None if unknown.
        name: name of the stream, for messages.

    Returns:
        An iterator over the rows, each available ``run.delay`` frames after its frame.

    Raises:
        UserError: see :class:`ProgressStream`.
    """
    return _advance(ProgressStream(run, task, fps=fps, name=name), frames)


def _advance(progress: ProgressStream, frames: Iterable[np.ndarray | Tensor | ActionMarker]) -> Iterator[FrameProgress]:
    for item in frames:
        if isinstance(item, ActionMarker):
            progress.mark(item)
        else:
            yield from progress.push(item)
    yield from progress.finish()
