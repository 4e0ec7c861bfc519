"""Progress of a whole recording, as evaluation computes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.action_progress import predict_actions
from prediction.frame_progress import FrameProgress
from prediction.segments import Segment, check_segments
from prediction.trained_run import TrainedRun
from recordings.feature_files import FRAME_NDIM, check_finite
from recordings.json_dataset import to_device
from recordings.kept_frames import follow_frames, kept_frames, select_frames
from utils.logging import get_logger
from utils.tensorops import Action

LOGGER = get_logger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Progress of a recording.

    Attributes:
        actions: the actions, in order; their frames count those that the run looks at, both ends inclusive, and their
            name is None where it was not given.
        frames: (n,), numbers of those frames in the recording: all of them, or what ``SKIP_RATE`` and ``MAX_FRAMES``
            leave.
        progress: (n,) in [0, 1], NaN in the background.
    """

    actions: list[Action]
    frames: np.ndarray
    progress: np.ndarray

    def rows(self) -> Iterator[FrameProgress]:
        """Yield the frames one by one, those of the background included."""
        numbers = np.full(len(self.frames), -1)
        for number, action in enumerate(self.actions):
            numbers[action.start:action.end + 1] = number
        for frame, number, progress in zip(self.frames.tolist(), numbers.tolist(), self.progress.tolist(), strict=True):
            known = number >= 0
            yield FrameProgress(frame, number if known else None, self.actions[number].name if known else None,
                                progress if known else None)


@torch.no_grad()
def predict(run: TrainedRun, features: np.ndarray | Tensor, segments: Sequence[Sequence] | None = None,
            task: str | None = None, *, name: str = 'features') -> Prediction:
    """Predict the progress of every action of a recording, at each of its frames.

    Args:
        run: from ``load_run``.
        features: (T, D), or (T, C, H, W) for a run that reads frames.
        segments: (start, end) or (start, end, label) of each action, in frames of the features, ``end`` being the
            frame after the last one; those with a label of the background are none. None: the whole recording is one
            action.
        task: what is done in the recording; needed where the head knows the steps of several tasks.
        name: of the recording, for messages.

    Returns:
        What evaluation computes for the same segments: each action's progress depends on its own frames, on as many
        frames ahead as the encoder sees, and on the durations of the actions that were completed before it.

    Raises:
        UserError: features, segments, labels or task do not fit the run.
    """
    task = run.check_task(task)
    features = features.detach().float().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    run.check_shape(features.shape, name)
    check_finite(features, name)
    used = kept_frames(len(features), run.skip_rate, run.max_frames)
    actions = _actions_of(run, segments, len(features), used, name)
    for label in dict.fromkeys(action.name for action in actions):
        run.check_label(task, label, name)
    kept = select_frames(features, used)
    # Frames stay memory-mapped: the encoder reads them in chunks.
    video = kept if run.rank == FRAME_NDIM else torch.from_numpy(np.array(kept, dtype=np.float32))
    embedding = run.model(to_device([video], run.device))['outputs'][0].float()
    progress = np.full(len(kept), np.nan)
    for action, curve in zip(actions, predict_actions(run.model, embedding, actions, task), strict=True):
        progress[action.start:action.end + 1] = curve.numpy()
    return Prediction(actions, np.asarray(used), progress)


def _actions_of(run: TrainedRun, segments: Sequence[Sequence] | None, num_frames: int, used: Sequence[int],
                name: str) -> list[Action]:
    """Return the actions of a recording in the frames that the run looks at."""
    segments = [Segment(0, num_frames)] if segments is None else [Segment(*segment) for segment in segments]
    check_segments(segments, num_frames, name)
    followed = follow_frames([Action(label, start, end - 1) for start, end, label in segments], used)
    actions = [segment for segment in followed if not run.is_background(segment.name)]
    if not actions:
        LOGGER.warning('%s: none of its %d segments is an action that holds a frame; nothing to predict', name,
                       len(segments))
    return actions
