"""What the metrics see of a task: embedded recordings and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from evaluation.phase_metrics import frame_labels
from recordings.json_dataset import Recording
from utils.action import Action


@dataclass(frozen=True)
class EmbeddedTask:
    """Recordings of one part of a task and, in the same order, what is known of them.

    Attributes:
        recordings: the recordings.
        embeddings: (T, E) of each, on the CPU.
        actions: of each, in order of time.
        progress: (T,) of each, the true progress of the whole recording.
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
        """Who performs each recording, by itself if that is not known; None if it is known of none."""
        if not any(recording.group for recording in self.recordings):
            return None
        return [recording.group or recording.handle for recording in self.recordings]

    def take(self, indices: Sequence[int]) -> 'EmbeddedTask':
        """Return some of the recordings."""
        return EmbeddedTask(*([values[index] for index in indices] for values in (
            self.recordings, self.embeddings, self.actions, self.progress)))
