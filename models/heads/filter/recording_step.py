"""The filter's step as a function of tensors alone, to run it without Python."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from models.heads.estimates import BACKGROUND, END
from models.heads.filter.task_filter import TaskFilter, TaskSensor, TaskState
from models.heads.filter.unsegmented import FilterOutput, FilterState

OUTPUTS = ('step', 'step_probability', 'progress', 'remaining', 'overall', 'overall_remaining', 'next_step', 'unknown')


class RecordingStep(nn.Module):
    """Step of the filter of a task, or of the filters of several tasks and the sensor that infers the task.

    The state between frames is a flat tuple of tensors. Zeros in all of them begin a recording.

    Args:
        filters: filters of the tasks that the recording may be of.
        sensor: infers the task; None if there is a single filter.

    Attributes:
        steps: labels that the output ``step`` is an index of; background is among them.
        next_steps: labels that the output ``next_step`` is an index of; the end is among them.
        outputs: names of the outputs: those of :class:`FilterOutput` in ``OUTPUTS``, and the probability of each task
            if there are several.
        states: names of the states.
    """

    def __init__(self, filters: Sequence[TaskFilter], sensor: TaskSensor | None) -> None:
        super().__init__()
        self.filters, self.sensor = nn.ModuleList(filters), sensor
        self.steps = [label for known in filters for label in (*known.labels, BACKGROUND)]
        self.next_steps = [label for known in filters for label in (*known.labels, END)]
        self.outputs, self.states = list(OUTPUTS), list(_names(self._starts(self._example())[0]))
        if sensor is not None:
            self.outputs.append('task_probability')
            self.states = [f'{name}_{number}' for number in range(len(filters)) for name in self.states]
            self.states += [f'task_{name}' for name in TaskState._fields]

    def start(self) -> tuple[Tensor, ...]:
        """Return the state before the first frame: zeros."""
        example = self._example()
        begun = [*self._starts(example), *([] if self.sensor is None else [self.sensor.step(example, None)[1]])]
        return tuple(torch.zeros_like(part, memory_format=torch.contiguous_format) for part in _flat(tuple(begun)))

    def calibration(self) -> list[dict[str, object]]:
        """Return what was chosen for each filter on left-out recordings.

        That is: the quantiles of the posterior that bound and estimate progress, the offsets of low end, estimate, and
        high end of the recording's remaining frames in std of their log, and the distance above which frames are
        unknown.
        """
        return [{'progress_quantiles': known.unsegmented.levels.tolist(),
                 'remaining_std': known.unsegmented.rest.spread.tolist(),
                 'unknown_above': known.unsegmented.unknown_above.item()} for known in self.filters]

    @torch.no_grad()
    def forward(self, embedding: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs at the next frame (D,), in the order of ``outputs``, and then the next state.

        Each output is () or (3,), except the probability of the tasks, (tasks,).
        """
        parts = iter(state)
        outputs, after = [], []
        for known, begun in zip(self.filters, self._starts(embedding), strict=True):
            kept = _like(begun, parts)
            first = kept.elapsed.sum() == 0  # the sum has no axes, whatever the axes of the single count are
            output, later = known.unsegmented.filter_step(embedding.unsqueeze(0), _chosen(first, begun, kept))
            outputs.append(FilterOutput(*(value.squeeze(0) for value in output)))
            after.append(later)
        if self.sensor is None:
            return *(getattr(outputs[0], name) for name in OUTPUTS), *_flat(tuple(after))
        probability, task_state = self._infer_task(embedding, TaskState(*parts), first)
        return *self._merged(outputs, probability), probability, *_flat((*after, task_state))

    def _infer_task(self, embedding: Tensor, kept: TaskState, first: Tensor) -> tuple[Tensor, TaskState]:
        """Return the probability of each task, (tasks,), and the sensor's next state."""
        begun = self.sensor.step(embedding, None)
        later = self.sensor.step(embedding, kept)
        return torch.where(first, begun[0], later[0]), _chosen(first, begun[1], later[1])

    def _merged(self, outputs: Sequence[FilterOutput], probability: Tensor) -> list[Tensor]:
        """Return the outputs of several tasks as one: labels of the most probable task, means of the numbers."""
        best = probability.argmax().reshape(1)
        before = [sum(len(known.labels) + 1 for known in self.filters[:number]) for number in range(len(outputs))]
        merged = []
        for name in OUTPUTS:
            values = torch.stack([getattr(output, name) for output in outputs])  # (tasks,) or (tasks, 3)
            if name in ('step', 'next_step'):
                merged.append((values + values.new_tensor(before)).index_select(0, best).squeeze(0))
            elif name == 'step_probability':
                merged.append((values * probability).index_select(0, best).squeeze(0))
            else:
                merged.append(values.all() if name == 'unknown' else probability @ values)
        return merged

    def _example(self) -> Tensor:
        return self.filters[0].unsegmented.features.offset  # (D,)

    def _starts(self, embedding: Tensor) -> list[FilterState]:
        """Return the state of each filter before a first frame (D,)."""
        return [known.unsegmented.start(embedding.unsqueeze(0)) for known in self.filters]


def _flat(state: tuple) -> Iterator[Tensor]:
    """Yield the tensors of a state, which may contain states."""
    for part in state:
        yield from _flat(part) if isinstance(part, tuple) else [part]


def _names(state: tuple) -> Iterator[str]:
    """Yield a name for each tensor of a state."""
    for name, part in zip(state._fields, state, strict=True):
        yield from (f'{name}_{inner}' for inner in _names(part)) if isinstance(part, tuple) else [name]


def _like(state: tuple, tensors: Iterator[Tensor]) -> tuple:
    """Return the next tensors in the form of a state."""
    return type(state)(*(_like(part, tensors) if isinstance(part, tuple) else next(tensors) for part in state))


def _chosen(first: Tensor, begun: tuple, kept: tuple) -> tuple:
    """Return one of two states: ``begun`` if ``first`` is True, otherwise ``kept``."""
    return _like(begun, (torch.where(first, *pair) for pair in zip(_flat(begun), _flat(kept), strict=True)))
