"""The filter's step as a function of tensors alone, to run it without Python."""

from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.heads.estimates import END
from models.heads.filter.over_tasks import mean_over_tasks
from models.heads.filter.records import FilterOutput, FilterState
from models.heads.filter.task_filter import TaskFilter, TaskSensor, TaskState
from recordings.background import BACKGROUND

State = TypeVar('State', FilterState, TaskState)


class RecordingStep(nn.Module):
    """Step of the filter of a task, or of the filters of several tasks and the sensor that infers the task.

    The state between frames is a flat tuple of tensors. Zeros in all of them begin a recording.

    Args:
        filters: filters of the tasks that the recording may be of.
        sensor: infers the task; None if there is a single filter.

    Attributes:
        steps: labels that the output ``step`` is an index of; background is among them.
        next_steps: labels that the output ``next_step`` is an index of; the end is among them.
        outputs: names of the outputs: those of :class:`FilterOutput`, and the probability of each task if there are
            several.
        states: names of the states.
    """

    def __init__(self, filters: Sequence[TaskFilter], sensor: TaskSensor | None) -> None:
        super().__init__()
        self.filters, self.sensor = nn.ModuleList(filters), sensor
        self.steps = [label for known in filters for label in (*known.labels, BACKGROUND)]
        self.next_steps = [label for known in filters for label in (*known.labels, END)]
        self.outputs, self.states = list(FilterOutput._fields), list(FilterState._fields)
        if sensor is not None:
            self.outputs.append('task_probability')
            self.states = [f'{name}_{number}' for number in range(len(filters)) for name in self.states]
            self.states += [f'task_{name}' for name in TaskState._fields]

    def start(self) -> tuple[Tensor, ...]:
        """Return the state before the first frame: zeros."""
        example = self.filters[0].unsegmented.features.offset  # (D,)
        begun = [known.unsegmented.start(example.unsqueeze(0)) for known in self.filters]
        task_state = () if self.sensor is None else self.sensor.step(example, None)[1]
        return tuple(torch.zeros_like(part, memory_format=torch.contiguous_format)
                     for part in chain(*begun, task_state))

    def examples(self, count: int) -> Tensor:
        """Return random embeddings (count, D), the same at each call, as far apart as those of the first task."""
        features = self.filters[0].unsegmented.features
        reduced = torch.randn(count, features.reduced_dim, generator=torch.Generator().manual_seed(0))
        return features.offset + reduced @ torch.linalg.pinv(features.projection)  # (count, d) @ (d, D)

    def calibration(self) -> list[dict[str, object]]:
        """Return what was chosen for each filter on left-out recordings.

        That is: what is added to the 5, 50, and 95 % quantiles of progress, the offsets of low end, estimate, and high
        end of the recording's remaining frames in std of their log, and the distance above which frames are unknown.
        """
        return [{'progress_margins': known.unsegmented.margin.tolist(),
                 'remaining_std': known.unsegmented.rest.spread.tolist(),
                 'unknown_above': known.unsegmented.unknown_above.item()} for known in self.filters]

    @torch.no_grad()
    def forward(self, embedding: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs at the next frame (D,), in the order of ``outputs``, and then the next state.

        Each output is () or (3,), except the probability of the tasks, (tasks,).
        """
        frame, size = embedding.unsqueeze(0), len(FilterState._fields)
        outputs, after = [], []
        for number, known in enumerate(self.filters):
            kept = FilterState(*state[size * number:size * (number + 1)])
            first = kept.elapsed.squeeze() == 0  # ()
            begun = known.unsegmented.start(frame)
            output, later = known.unsegmented.step_of_tensors(frame, _chosen(first, begun, kept))
            outputs.append(FilterOutput(*(value.squeeze(0) for value in output)))
            after += later
        if self.sensor is None:
            return *outputs[0], *after
        kept = TaskState(*state[size * len(self.filters):])
        probability, task_state = self._infer_task(embedding, kept, first)
        return *self._merged(outputs, probability), probability, *after, *task_state

    def _infer_task(self, embedding: Tensor, kept: TaskState, first: Tensor) -> tuple[Tensor, TaskState]:
        """Return the probability of each task, (tasks,), and the sensor's next state."""
        # Both results are computed and one is taken: a graph of tensors has no branches.
        begun = self.sensor.step(embedding, None)
        later = self.sensor.step(embedding, kept)
        return torch.where(first, begun[0], later[0]), _chosen(first, begun[1], later[1])

    def _merged(self, outputs: Sequence[FilterOutput], probability: Tensor) -> list[Tensor]:
        """Return the outputs of several tasks as one: labels of the most probable task, means of the numbers."""
        best = probability.argmax().reshape(1)
        # The labels of all tasks are in one list; those of a task begin after those of the tasks before it.
        before = [sum(len(known.labels) + 1 for known in self.filters[:number]) for number in range(len(outputs))]
        merged = []
        for name in FilterOutput._fields:
            values = torch.stack([getattr(output, name) for output in outputs])  # (tasks,) or (tasks, 3)
            if name in ('step', 'next_step'):
                merged.append((values + values.new_tensor(before)).index_select(0, best).squeeze(0))
            elif name == 'step_probability':
                # p(task, step) = p(task) p(step | task)
                merged.append((values * probability).index_select(0, best).squeeze(0))
            elif name == 'unknown':
                merged.append(values.all())
            else:
                merged.append(mean_over_tasks(values.unbind(), probability))
        return merged


def _chosen(first: Tensor, begun: State, kept: State) -> State:
    """Return one of two states: ``begun`` if ``first`` is True, otherwise ``kept``."""
    return type(begun)(*(torch.where(first, *pair) for pair in zip(begun, kept, strict=True)))
