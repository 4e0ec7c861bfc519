"""Progress head with a Bayesian filter over steps and their durations; boundaries may be given or unknown."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.base import ActionsByTask, EmbeddedRecording, Penalty, ProgressHeadBase
from models.heads.estimates import FrameEstimates
from models.heads.filter.over_tasks import combine_estimates, mean_over_tasks
from models.heads.filter.recording_step import RecordingStep
from models.heads.filter.records import FilterOutput
from models.heads.filter.selection import fit_filters
from models.heads.filter.task_filter import TaskFilter, TaskSensor, TaskState
from models.heads.filter.unsegmented_fit import fit_filter
from models.heads.padding import blank_padding, pad_segments
from utils.action import Action, actions_before
from utils.errors import UserError
from utils.logging import get_logger
from utils.tensorops import SampledSegment

LOGGER = get_logger(__name__)
# Names of what is chosen, in the order of the filters' buffers.
SENSORS_GIVEN = ('step cells (boundaries given)', 'phase cells (boundaries given)')
CHOSEN_UNKNOWN = tuple(f'{name} (boundaries unknown)' for name in (
    'step classifier', 'step cells', 'phase cells', 'short-term phase cells', 'caution', 'handicap of background',
    'reading of the frame'))


class ActionContext(NamedTuple):
    """What is known about an action at its start.

    Attributes:
        task: task of the recording; None if unknown.
        completed: actions of the recording before this action.
        label: label of this action; None if unknown. Read only with ``condition_on_step``.
    """

    task: str | None = None
    completed: tuple[Action, ...] = ()
    label: str | None = None


class HeadState(NamedTuple):
    """State of :meth:`HSMMHead.step` and :meth:`HSMMHead.filter_step` between frames, of constant size."""

    filters: tuple  # states of the filters that run
    task: TaskState | None  # state of the task sensor, if several filters run


class HSMMHead(ProgressHeadBase):
    """Bayesian filter over steps, durations, and phases (a hidden semi-Markov model), fitted in closed form.

    Its prior is the order of steps and their durations at the recording's pace; Gaussian cells of the embeddings are
    its sensors, whose weights are chosen on groups (people, or recordings) left out of the training recordings.
    The head is not trained by gradient descent and sends no gradient to the encoder. If the task is unknown, the
    filters of all tasks run, and their answers are weighted by the evidence for each task.

    Args:
        input_dim: D, the dimension of the embeddings.
        steps: (task, label) of every step, without duplicates.
        condition_on_step: pass the label of the current action to the filter if the action's boundaries are given.
    """

    OPTIONS = ('steps', 'condition_on_step')
    SAMPLINGS = ('dense',)
    NEEDS_ACTIONS = True
    offers_filter = offers_intervals = True

    def __init__(self, input_dim: int, *, steps: Sequence[tuple[str, str]], condition_on_step: bool = False) -> None:
        super().__init__(input_dim, normalize_embeddings=False)
        known = sorted({(task, label) for task, label in steps})
        if not known or len(known) < len(steps):
            raise ValueError(f'steps is {list(steps)}, expected at least one (task, label), each once')
        self.condition_on_step = condition_on_step
        self._tasks = sorted({task for task, _ in known})
        self.filters = nn.ModuleList(TaskFilter([label for name, label in known if name == task], input_dim)
                                     for task in self._tasks)
        self.task_sensor = TaskSensor(len(self._tasks), input_dim)

    @classmethod
    def fill_in(cls, settings: dict[str, object], training: ActionsByTask) -> None:
        """Write the steps of the training recordings into the settings."""
        settings['steps'] = sorted({(task, action.name) for task, recordings in training.items()
                                    for recording in recordings for action in recording})
        if settings['enabled'] and not settings['steps']:
            raise UserError('PROGRESS_LOSS.head: the training recordings contain no action, but this head needs at '
                            'least one to learn steps from; check the annotations and BACKGROUND_LABELS, or leave '
                            '--progress out')

    # --- learning ---

    def loss(self, segments: Sequence[SampledSegment], penalty: Penalty = F.l1_loss) -> dict[str, Tensor]:
        """Return the loss of the predicted progress in validation, and zero in training.

        Returns:
            'progress', see :meth:`ProgressHeadBase.loss`. In training, the filter has no gradient and may not be fitted
            yet, so the loss is a zero that depends on the embeddings.
        """
        if self.training:
            # Attached to the graph, so that the backward pass runs if the encoder is trained by alignment at the same
            # time.
            return {'progress': torch.stack([segment.embeddings.sum() * 0 for segment in segments]).sum()}
        return super().loss(segments, penalty)

    @torch.no_grad()
    def fit(self, recordings: Sequence[EmbeddedRecording]) -> None:
        """Fit order, durations, and sensors; select weights and calibrate intervals on left-out groups; in place."""
        by_task = {task: [recording for recording in recordings if recording.task == task] for task in self._tasks}
        filters = dict(zip(self._tasks, self.filters, strict=True))
        segmented = fit_filters({task: [filters[task].code(recording) for recording in members]
                                 for task, members in by_task.items()},
                                {task: len(known.labels) for task, known in filters.items()}, self.input_dim)
        for task, members in by_task.items():
            filters[task].replace_(segmented[task], fit_filter(members, filters[task].labels))
        # A single task is never in doubt.
        if len(self._tasks) > 1:
            self.task_sensor.fit([recording.embeddings for members in by_task.values() for recording in members],
                                 [number for number, members in enumerate(by_task.values()) for _ in members])
        self._log_intervals()

    def _log_intervals(self) -> None:
        """Log the margins of the intervals, chosen on left-out groups."""
        # Margins are in the order estimate, low, high here, but low, estimate, high below.
        LOGGER.info('boundaries given: 90 %% interval from the 5 %% quantile %+.3f to the 95 %% quantile %+.3f',
                    *self.filters[0].segmented.margin[1:].tolist())
        for task, known in zip(self._tasks, self.filters, strict=True):
            LOGGER.info('task %s, boundaries unknown: 90 %% interval from the 5 %% quantile %+.3f '
                        'to the 95 %% quantile %+.3f', task, *known.unsegmented.margin[::2].tolist())

    def chosen(self) -> dict[str, float]:
        """Return the weights of the sensors and of the rule that shows steps, see :meth:`ProgressHeadBase.chosen`."""
        weights = dict(zip(SENSORS_GIVEN, self.filters[0].segmented.weights.tolist(), strict=True))  # same for all
        for task, known in zip(self._tasks, self.filters, strict=True):
            of_task = f'{task} ' if len(self._tasks) > 1 else ''
            values = [*known.unsegmented.weights.tolist(), *known.unsegmented.rule.tolist()]
            weights |= {f'{of_task}{name}': value for name, value in zip(CHOSEN_UNKNOWN, values, strict=True)}
        return weights

    # --- tasks and labels known to the head ---

    @property
    def tasks(self) -> list[str]:
        """Tasks whose steps the head knows, sorted."""
        return self._tasks

    def labels(self, task: str | None) -> list[str]:
        """Return the labels of a task's steps, or of all tasks for None."""
        return [label for name, known in zip(self._tasks, self.filters, strict=True) if task in (None, name)
                for label in known.labels]

    def check_task(self, task: str | None) -> str | None:
        """Check the task of a recording, see :meth:`ProgressHeadBase.check_task`."""
        if task is not None:
            return None
        if self.condition_on_step:
            raise UserError('the head requires the step (condition_on_step), which belongs to a task; '
                            f'give one of {", ".join(self.tasks)}')
        return f'the head infers it from the frames; known tasks are {", ".join(self.tasks)}'

    def check_label(self, task: str | None, label: str | None) -> str | None:
        """Check the label of an action, see :meth:`ProgressHeadBase.check_label`."""
        known = self.labels(task)
        if label is None and self.condition_on_step:
            raise UserError('an action has no label, but the head requires the step (condition_on_step); give each '
                            f'action one of {", ".join(known)}')
        if label is None or label in known:
            return None
        return (f'the head does not know the label {label!r}: its action does not affect the pace; known labels are '
                f'{", ".join(known)}')

    # --- actions whose start is given ---

    def context(self, task: str | None, actions: Sequence[Action], action: Action) -> ActionContext:
        """Return what is known about an action of a recording at its start."""
        label = action.name if self.condition_on_step else None
        return ActionContext(task, tuple(actions_before(actions, action)), label)

    def forward(self, segments: Tensor | Sequence[Tensor], contexts: Sequence[ActionContext] | None = None, *,
                lengths: Tensor | None = None) -> Tensor:
        """Predict progress at the last frame, see :meth:`ProgressHeadBase.forward`."""
        if isinstance(segments, Tensor) and lengths is None:
            return self.forward([segments], contexts)[0]
        if lengths is not None:
            padded = blank_padding(segments, lengths, self.input_dim)
            segments = [row[:length] for row, length in zip(padded, lengths.tolist(), strict=True)]
        return torch.stack([curve[-1] for curve in self.forward_dense(segments, contexts)])

    def forward_dense(self, segments: Tensor | Sequence[Tensor],
                      contexts: Sequence[ActionContext] | None = None) -> Tensor | list[Tensor]:
        """Predict progress at every frame, see :meth:`ProgressHeadBase.forward_dense`."""
        if isinstance(segments, Tensor):
            return self.forward_dense([segments], contexts)[0]
        return [quantiles[:, 0] for quantiles in self._quantiles(segments, contexts)]  # (n, 3) -> (n,)

    def forward_intervals(self, segments: Sequence[Tensor],
                          contexts: Sequence[ActionContext] | None = None) -> list[Tensor]:
        """Predict the ends of 90 % intervals of progress, see :meth:`ProgressHeadBase.forward_intervals`."""
        # (n, 3) -> (n, 2), without the estimate
        return [quantiles[:, 1:] for quantiles in self._quantiles(segments, contexts)]

    @torch.no_grad()
    def _quantiles(self, segments: Sequence[Tensor], contexts: Sequence[ActionContext] | None) -> list[Tensor]:
        """Return estimate, low end, and high end of progress, (n_i, 3), at every frame of each segment (n_i, D)."""
        pad_segments(segments, self.input_dim)  # checks shapes
        contexts = [ActionContext()] * len(segments) if contexts is None else list(contexts)
        if len(contexts) != len(segments):
            raise ValueError(f'{len(contexts)} contexts next to {len(segments)} segments, expected one each')
        segments = [segment.float() for segment in segments]
        running = [self._running(context.task) for context in contexts]
        answers: list[list[Tensor]] = [[] for _ in segments]
        # Filter by filter, so that each of them processes all of its segments as one batch.
        for number, known in enumerate(self.filters):
            which = [index for index, numbers in enumerate(running) if number in numbers]  # segments of this filter
            starts = [known.start(contexts[index].completed, contexts[index].label) for index in which]
            outputs = known.segmented.forward_dense([segments[index] for index in which], starts)
            for index, quantiles in zip(which, outputs, strict=True):
                answers[index].append(quantiles)
        # Task unknown: p(progress) is a mixture over tasks; as a simple approximation, average the quantiles.
        return [theirs[0] if len(theirs) == 1 else
                mean_over_tasks(theirs, self.task_sensor.probabilities(segment))
                for theirs, segment in zip(answers, segments, strict=True)]

    def _running(self, task: str | None) -> range:
        """Return the indices of the filters that run: the filter of the task, or all if it is None or unknown."""
        if task in self._tasks:
            return range(number := self._tasks.index(task), number + 1)
        return range(len(self._tasks))

    @torch.no_grad()
    def step(self, embedding: Tensor, state: HeadState | None = None,
             context: ActionContext | None = None) -> tuple[Tensor, HeadState]:
        """Predict progress one frame at a time, see :meth:`ProgressHeadBase.step`."""
        values, state = self.step_interval(embedding, state, context)
        return values[0], state

    @torch.no_grad()
    def step_interval(self, embedding: Tensor, state: HeadState | None = None,
                      context: ActionContext | None = None) -> tuple[Tensor, HeadState]:
        """Predict progress and its 90 % interval, see :meth:`ProgressHeadBase.step_interval`."""
        self._check_frame(embedding)
        embedding, context = embedding.float(), context or ActionContext()
        answers, states = [], []
        for position, number in enumerate(self._running(context.task)):
            known = self.filters[number]
            # The prior of the action, needed only at its first frame; later the state contains it.
            start = known.start(context.completed, context.label) if state is None else None
            progress, after = known.segmented.step(embedding, state and state.filters[position], start)
            answers.append(progress)  # (3,)
            states.append(after)
        if len(answers) == 1:
            return answers[0], HeadState(tuple(states), None)
        probability, task_state = self.task_sensor.step(embedding, state and state.task)
        return mean_over_tasks(answers, probability), HeadState(tuple(states), task_state)

    # --- recordings with unknown boundaries ---

    @torch.no_grad()
    def filter(self, embeddings: Tensor, task: str | None = None) -> FrameEstimates:
        """Infer steps and progress at every frame of a recording (T, D), see :meth:`ProgressHeadBase.filter`."""
        return self.filter_all([embeddings], task)[0]

    @torch.no_grad()
    def filter_all(self, recordings: Sequence[Tensor], task: str | None = None) -> list[FrameEstimates]:
        """Infer as :meth:`filter` does for recordings (T_i, D) of one task, in parallel."""
        pad_segments(recordings, self.input_dim)  # checks shapes
        recordings = [embeddings.float() for embeddings in recordings]
        running = self._running(task)
        # By filter, then by recording; zip(*by_filter) turns this around.
        by_filter = [self.filters[number].unsegmented.filter(recordings) for number in running]
        return [self._estimates(running, outputs,
                                self.task_sensor.probabilities(embeddings) if len(running) > 1 else None)
                for embeddings, *outputs in zip(recordings, *by_filter, strict=True)]

    @torch.no_grad()
    def filter_step(self, embedding: Tensor, state: HeadState | None = None,
                    task: str | None = None) -> tuple[FrameEstimates, HeadState]:
        """Infer as :meth:`filter` does, one frame (D,) at a time, see :meth:`ProgressHeadBase.filter_step`."""
        self._check_frame(embedding)
        embedding, running = embedding.float(), self._running(task)
        if state is None:
            state = HeadState((None,) * len(running), None)
        # (1, D): one frame of a recording
        stepped = [self.filters[number].unsegmented.filter_step(embedding[None], before)
                   for number, before in zip(running, state.filters, strict=True)]
        outputs, states = zip(*stepped, strict=True)
        if len(running) == 1:
            return self._estimates(running, outputs, None), HeadState(states, None)
        probability, task_state = self.task_sensor.step(embedding, state.task)
        # (tasks,) -> (1, tasks)
        return self._estimates(running, outputs, probability[None]), HeadState(states, task_state)

    def recording_step(self, task: str | None = None) -> RecordingStep:
        """Return the filter's step as a module of tensors, see :meth:`ProgressHeadBase.recording_step`."""
        running = self._running(task)
        return RecordingStep([self.filters[number] for number in running],
                             self.task_sensor if len(running) > 1 else None)

    def _estimates(self, running: Sequence[int], outputs: Sequence[FilterOutput],
                   probability: Tensor | None) -> FrameEstimates:
        return combine_estimates(outputs, [self.filters[number].labels for number in running], probability)
