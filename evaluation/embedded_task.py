"""Input of the metrics: embedded recordings of a task with their actions and progress."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from torch import Tensor

from evaluation.phase_metrics import frame_labels
from recordings.json_dataset import Recording
from utils.action import Action


@dataclass(frozen=True)
class EmbeddedTask:
    """Recordings of a part of a task, with embeddings, actions, and progress in the same order.

    Attributes:
        recordings: the recordings.
        embeddings: (T, E) of each recording, on the CPU.
        actions: actions of each recording, in order of time.
        progress: (T,) of each recording, the true progress of the whole recording.
    """

    recordings: list[Recording]
    embeddings: list[Tensor]
    actions: list[Sequence[Action]]
    progress: list[Tensor]

    @property
    def labels(self) -> list[np.ndarray]:
        """Steps at the frames (T,) of each recording."""
        return [frame_labels(actions, len(embedding))
                for actions, embedding in zip(self.actions, self.embeddings, strict=True)]

    @property
    def groups(self) -> list[str] | None:
        """Who performs each recording, see :func:`groups_of`."""
        return groups_of(self.recordings)

    def take(self, indices: Sequence[int]) -> 'EmbeddedTask':
        """Return a subset of the recordings."""
        return EmbeddedTask(*([values[index] for index in indices] for values in (
            self.recordings, self.embeddings, self.actions, self.progress)))


def groups_of(recordings: Sequence[Recording]) -> list[str] | None:
    """Return who performs each recording, or its own handle if unknown; None if it is unknown for all recordings."""
    if not any(recording.group for recording in recordings):
        return None
    return [recording.group or recording.handle for recording in recordings]


def join(parts: Sequence[EmbeddedTask]) -> EmbeddedTask:
    """Return the recordings of several parts as one."""
    return EmbeddedTask(*([value for part in parts for value in getattr(part, field.name)]
                          for field in fields(EmbeddedTask)))
