"""Predict the progress of a whole recording as in evaluation."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from models.action_progress import predict_actions, predict_intervals
from prediction.frame_progress import (
    Clock,
    FrameProgress,
    Source,
    rows_of_action,
    rows_of_background,
    rows_of_estimates,
)
from prediction.prediction import GIVEN, INFERRED, WHOLE_RECORDING, Prediction
from prediction.segments import GivenSegment, Segment, check_segments
from prediction.trained_run import TrainedRun
from recordings.background import BACKGROUND
from recordings.batches import to_device
from recordings.feature_files import FRAME_NDIM, RecordingFile, check_finite
from recordings.kept_frames import follow_frames, kept_frames, select_frames
from utils.action import Action
from utils.logging import get_logger

LOGGER = get_logger(__name__)


@torch.no_grad()
def predict(run: TrainedRun, features: np.ndarray | Tensor | RecordingFile,
            segments: Sequence[GivenSegment] | None = None, task: str | None = None, *,
            fps: Fraction | float | None = None, name: str = 'features') -> Prediction:
    """Predict progress at each frame of a recording.

    Args:
        run: from ``load_run``.
        features: (T, D), or (T, C, H, W) for a run that reads frames.
        segments: (start, end) or (start, end, label) of each action, in frames of the features, ``end`` being the
            frame after the last frame; segments with a background label are not actions. If None, the head infers
            the actions, or the whole recording is a single action if the head cannot infer them.
        task: task of the recording; required if the head knows the steps of several tasks.
        fps: feature frames per second, for the seconds in the result; None if unknown.
        name: name of the recording, for messages.

    Returns:
        The same values as in evaluation. The prediction at a frame depends on the frames so far and on the future
        frames that the encoder sees; with segments, it depends on the frames of its own action and the durations of
        the actions completed before it.

    Raises:
        UserError: features, segments, labels or task do not fit the run, or the run predicts NaN or infinity.
    """
    task = run.check_task(task)
    if isinstance(features, Tensor):
        features = features.detach().float().cpu().numpy()
    elif not isinstance(features, RecordingFile):
        features = np.asarray(features)
    run.check_shape(features.shape, name)
    check_finite(features, name)
    used = kept_frames(len(features), run.skip_rate, run.max_frames)
    source = Source(name, Clock(None if fps is None else Fraction(fps), _spacing(used)))
    boundaries = _boundaries(run, segments)
    if boundaries == INFERRED:
        estimates = run.head.filter(embed_recording(run, features, used), task)
        rows = list(rows_of_estimates(used, estimates, source))
        return Prediction(boundaries, _steps(rows), rows)
    actions = _given_actions(run, segments, len(features), used, name)
    for label in dict.fromkeys(action.name for action in actions):
        run.check_label(task, label, name)
    rows = _rows_within(run, embed_recording(run, features, used), actions, task, used, source)
    return Prediction(boundaries, actions, rows)


def _boundaries(run: TrainedRun, segments: Sequence[GivenSegment] | None) -> str:
    if segments is not None:
        return GIVEN
    return INFERRED if run.head.offers_filter else WHOLE_RECORDING


def _spacing(used: Sequence[int]) -> float:
    """Return the mean number of frames between consecutive used frames."""
    if isinstance(used, range):  # SKIP_RATE: equal distances
        return used.step
    # MAX_FRAMES: distances differ by rounding, and heads count used frames, so the mean converts them to seconds.
    return (used[-1] - used[0]) / max(1, len(used) - 1)


@torch.no_grad()
def embed_recording(run: TrainedRun, features: np.ndarray | RecordingFile, used: Sequence[int]) -> Tensor:
    """Return the embeddings (n, E) of the used frames.

    Args:
        run: from ``load_run``.
        features: (T, D), or (T, C, H, W) for a run that reads frames.
        used: indices of the used frames, from :func:`recordings.kept_frames.kept_frames`.
    """
    kept = select_frames(features, used)
    # A copy in float32: files may be float16. Frames stay in their file: the encoder reads them in chunks.
    video = kept if run.ndim == FRAME_NDIM else torch.from_numpy(np.array(kept, dtype=np.float32))
    embeddings: Tensor = run.model(to_device([video], run.device))['outputs'][0]
    return embeddings.float()


def _rows_within(run: TrainedRun, embedding: Tensor, actions: Sequence[Action], task: str | None,
                 used: Sequence[int], source: Source) -> list[FrameProgress]:
    """Return the rows of a recording whose actions are given."""
    rows: list[FrameProgress] = []
    next_frame = 0
    curves = zip(actions, predict_actions(run.model, embedding, actions, task),
                 predict_intervals(run.model, embedding, actions, task), strict=True)
    for action, progress, bounds in curves:
        values = torch.cat([progress.unsqueeze(1), bounds], dim=1)  # (n, 3)
        # Frames between two actions are background.
        rows += rows_of_background(used[next_frame:action.start], source)
        rows += rows_of_action(used[action.start:action.end + 1], action.name, values, source)
        next_frame = action.end + 1
    return [*rows, *rows_of_background(used[next_frame:], source)]


def _steps(rows: Sequence[FrameProgress]) -> list[Action]:
    """Return the inferred actions: runs of frames with the same step."""
    actions, start = [], 0
    for step, members in groupby(rows, key=lambda row: row.step):
        end = start + len(list(members))
        if step != BACKGROUND:
            actions.append(Action(step, start, end - 1))
        start = end
    return actions


def _given_actions(run: TrainedRun, segments: Sequence[GivenSegment] | None, num_frames: int, used: Sequence[int],
                   name: str) -> list[Action]:
    """Return the actions of a recording, in the frames that the run uses."""
    given = [Segment(0, num_frames)] if segments is None else [Segment(*segment) for segment in segments]
    check_segments(given, num_frames, name)
    # From feature frames to positions among the used frames; segments without a used frame are left out.
    followed = follow_frames([Action(label, start, end - 1) for start, end, label in given], used)
    actions = [segment for segment in followed if not run.is_background(segment.name)]
    if not actions:
        LOGGER.warning('%s: none of its %d segments is an action that contains a frame; nothing to predict', name,
                       len(given))
    return actions
