"""The filters of a task, and the sensor that infers the task of a recording if it is unknown."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.heads.base import EmbeddedRecording
from models.heads.durations import Completed
from models.heads.filter.cells import CausalFeatures, Cells
from models.heads.filter.segmented import LAGS, SegmentedFilter, Start, TrainingRecording
from models.heads.filter.unsegmented import UnsegmentedFilter
from utils.tensorops import Action

TASK_BINS = 8  # parts of a recording that a task's appearance is learned in
TASK_WEIGHT = 0.1  # of a frame's evidence for a task: frames are strongly correlated


class TaskFilter(nn.Module):
    """Both filters of a task, for given and for unknown boundaries.

    Args:
        labels: the K labels of the task, sorted.
        embedding_dim: D, the dimension of the embeddings.

    Attributes:
        has_background: buffer (), True if training recordings have frames outside of actions; it determines the sizes
            of the buffers of ``unsegmented``, which is rebuilt if a state with a different value is loaded.
    """

    def __init__(self, labels: Sequence[str], embedding_dim: int) -> None:
        super().__init__()
        self.labels, self.embedding_dim = list(labels), embedding_dim
        self.segmented = SegmentedFilter(len(self.labels), embedding_dim)
        self.unsegmented = UnsegmentedFilter(self.labels, embedding_dim, has_background=True)
        self.register_buffer('has_background', torch.tensor(True))

    def replace_(self, segmented: SegmentedFilter, unsegmented: UnsegmentedFilter) -> None:
        """Load the state of fitted filters, in place."""
        state = {f'{name}.{key}': value for name, fitted in (('segmented', segmented), ('unsegmented', unsegmented))
                 for key, value in fitted.state_dict().items()}
        # As a state dict, so that the hooks for loading run: they derive tables again and drop traces.
        self.load_state_dict({'has_background': torch.tensor(unsegmented.has_background), **state})

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *more: object) -> None:
        stored = state_dict.get(f'{prefix}has_background')
        if stored is not None and bool(stored) != self.unsegmented.has_background:
            rebuilt = UnsegmentedFilter(self.labels, self.embedding_dim, has_background=bool(stored))
            self.unsegmented = rebuilt.to(self.has_background.device)
        super()._load_from_state_dict(state_dict, prefix, *more)

    def code(self, recording: EmbeddedRecording) -> TrainingRecording:
        """Return a recording of the task with integer labels; -1 is a label unknown to the task."""
        # Annotations may extend past the features.
        actions = [action for action in recording.actions if action.start < len(recording.embeddings)]
        last = len(recording.embeddings) - 1
        return TrainingRecording(recording.embeddings.float(), [self._number(action.name) for action in actions],
                                 [action.start for action in actions], [min(action.end, last) for action in actions],
                                 recording.group or recording.handle)

    def start(self, completed: Sequence[Action], label: str | None) -> Start:
        """Return what is known about an action at its start: the actions before it, and its label unless None."""
        return self.segmented.start([Completed(self._number(action.name), action.length) for action in completed],
                                    None if label is None else self._number(label))

    def _number(self, label: str | None) -> int:
        return self.labels.index(label) if label in self.labels else -1


class TaskState(NamedTuple):
    """State of :meth:`TaskSensor.step` between frames."""

    recent: Tensor  # (reach, D), the last frames
    log_evidence: Tensor  # (tasks,), float64, weighted, summed over the frames so far


class TaskSensor(nn.Module):
    """Infers the probability of several tasks from the frames so far, with a uniform prior.

    Args:
        num_tasks: number of tasks.
        embedding_dim: D, the dimension of the embeddings.
    """

    def __init__(self, num_tasks: int, embedding_dim: int) -> None:
        super().__init__()
        self.features = CausalFeatures(LAGS)
        self.cells = Cells(num_tasks, self.features.dim(embedding_dim), bins=TASK_BINS)

    def fit(self, recordings: Sequence[Tensor], tasks: Sequence[int]) -> None:
        """Fit to the embeddings (T_i, D) of training recordings and the indices of their tasks, in place."""
        lengths = torch.tensor([len(embeddings) for embeddings in recordings])
        phases = torch.cat([(torch.arange(length) + 0.5) / length for length in lengths.tolist()])
        device = recordings[0].device
        self.cells.fit(torch.cat([self.features(embeddings) for embeddings in recordings]),
                       torch.tensor(tasks).repeat_interleave(lengths).to(device), phases.to(device))

    def probabilities(self, embeddings: Tensor) -> Tensor:
        """Return the probability of each task at every frame, (n, tasks), given the frames (n, D) up to it."""
        by_task, _ = self.cells.log_evidence(self.features(embeddings))
        # Evidence of all frames so far, on a uniform prior. In float64: it grows with every frame, and only its
        # differences between tasks matter, which float32 would lose in a recording of some thousand frames.
        return (TASK_WEIGHT * by_task).cumsum(0, dtype=torch.float64).softmax(1).to(by_task)

    def step(self, embedding: Tensor, state: TaskState | None) -> tuple[Tensor, TaskState]:
        """Return the probability of each task, (tasks,), at the next frame (D,), and the state for the next call."""
        before = self.features.start(embedding) if state is None else state.recent
        features, recent = self.features.step(embedding, before)
        log_evidence = (TASK_WEIGHT * self.cells.log_evidence(features)[0]).double()
        if state is not None:
            log_evidence = log_evidence + state.log_evidence
        return log_evidence.softmax(0).to(embedding), TaskState(recent, log_evidence)
