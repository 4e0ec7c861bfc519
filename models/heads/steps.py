"""A progress head that recognises the step, knows how long that step lasts, and reads content as far as it helps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.base import ActionsByTask, EmbeddedRecording, Penalty
from models.heads.padding import blank_padding, pad_segments
from models.heads.recurrent import ProgressHead
from models.heads.step_durations import ActionContext, StepDurations
from utils.errors import UserError
from utils.logging import get_logger
from utils.tensorops import Action, SampledSegment, action_progress

LOGGER = get_logger(__name__)
SMALLEST_PROGRESS = 1e-3  # of the curves, before their logit is taken
CONTENT_WEIGHTS = tuple(tenth / 10 for tenth in range(11))  # to choose from


class SteppedState(NamedTuple):
    """What :meth:`StepProgressHead.step` carries from frame to frame."""

    hidden: Tensor  # (1, 1, H), of the GRU
    first: Tensor  # (D,), the action's first frame, normalised
    elapsed: int  # frames so far
    content: Tensor | None  # state of the content head, where there is one


class StepProgressHead(ProgressHead):
    """Progress = mean of the steps' survival curves under the recognised step, corrected in the logit.

    A GRU reads the action so far: the embeddings, also relative to the action's first one, through a narrow projection,
    and the log of the frames elapsed at the recording's pace. From its state come the posterior ``p_k`` over steps and
    a correction ``c`` that starts at zero; with the curves ``s_k`` (:class:`models.heads.step_durations.StepDurations`)

        progress(t) = sigmoid(logit(sum_k p_k(t) s_k(t / pace)) + c(t)).

    With a content head, a plain :class:`ProgressHead` beside it reads the embeddings alone, ``z(t)``, and

        progress(t) = (1 - w) sigmoid(...) + w z(t).

    Both learn from the truth, each by itself; only recordings that neither has seen can tell ``w``: :meth:`calibrate`
    sets it. It starts at 0.

    A segment has to begin with its action's first frame.

    Args:
        input_dim: D of the embeddings.
        hidden_dim: width of the GRU.
        steps: (task, label) of every step of the training recordings.
        normalize_embeddings: LayerNorm without parameters before everything else.
        projection_dim: width of the projection.
        dropout: of the projection's inputs and the GRU's outputs, in [0, 1).
        content_correction: False leaves ``c`` out.
        condition_on_step: take the label of the context, where it is known, for the posterior.
        content_head: have a content head, too.
        step_coefficient: weight of the cross-entropy of the step in the training loss, >= 0.

    Attributes:
        content_weight: ``w``, in [0, 1]; None without a content head.
    """

    OPTIONS = ('hidden_dim', 'normalize_embeddings', 'steps', 'projection_dim', 'dropout', 'content_correction',
               'condition_on_step', 'content_head', 'step_coefficient')
    SAMPLINGS = ('dense',)  # it counts from an action's first frame
    NEEDS_ACTIONS = True

    def __init__(self, input_dim: int = 128, hidden_dim: int = 64, *, steps: Sequence[tuple[str, str]],
                 normalize_embeddings: bool = True, projection_dim: int = 24, dropout: float = 0.2,
                 content_correction: bool = True, condition_on_step: bool = False,
                 content_head: bool = False, step_coefficient: float = 0.5) -> None:
        super().__init__(input_dim, hidden_dim, normalize_embeddings=normalize_embeddings)
        self.durations = StepDurations(steps)
        self.content_correction, self.condition_on_step = content_correction, condition_on_step
        self.step_coefficient, self.calibrates = step_coefficient, content_head
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(2 * input_dim, projection_dim)
        self.gru = nn.GRU(projection_dim + 1, hidden_dim, batch_first=True)
        self.step_logits = nn.Linear(hidden_dim, len(steps))
        correction = self.fc[-2]
        nn.init.zeros_(correction.weight)
        nn.init.zeros_(correction.bias)
        self.content = (ProgressHead(input_dim, hidden_dim, normalize_embeddings=normalize_embeddings)
                        if content_head else None)
        self.register_buffer('content_weight', torch.zeros(()) if content_head else None)

    @classmethod
    def fill_in(cls, settings: dict[str, object], training: ActionsByTask, validation: ActionsByTask) -> None:
        """Write the steps of the training recordings, and leave out a content head that nothing can weigh."""
        settings['steps'] = sorted({(task, action.name) for task, recordings in training.items()
                                    for recording in recordings for action in recording})
        if not settings['enabled']:
            return
        if not settings['steps']:
            raise UserError('PROGRESS_LOSS.head: the training recordings contain no action, but this head needs at '
                            'least one to learn steps from; check the annotations and BACKGROUND_LABELS, or leave '
                            '--progress out')
        if settings['content_head'] and not any(map(any, validation.values())):
            LOGGER.info('no actions in validation recordings to weigh a content head by: PROGRESS_LOSS.content_head '
                        'is off')
            settings['content_head'] = False

    def fit_actions(self, actions: ActionsByTask) -> None:
        """Learn durations and pace from the annotations of the training recordings, in place."""
        self.durations.fit(actions)

    def loss(self, segments: Sequence[SampledSegment], penalty: Penalty = F.l1_loss) -> dict[str, Tensor]:
        """Compare the predicted progress with the truth at every frame.

        Args:
            segments: whole actions with a target at every frame.
            penalty: error of predictions against targets.

        Returns:
            'progress', the mean over segments, frames, and in training the experts: each learns by itself, since in a
            blend one could leave the work to the other. In training also 'recognition', ``step_coefficient`` times the
            cross-entropy of the step; in validation it would choose the checkpoint, although on people not seen in
            training it rises while the error of progress still falls.
        """
        contexts = [segment.context for segment in segments]
        experts, log_posteriors = self.forward_experts([segment.embeddings for segment in segments], contexts)
        if not self.training:
            return {'progress': self.mean_error([self.blend(expert) for expert in experts], segments, penalty)}
        errors = [self.mean_error(expert, segments, penalty)
                  for expert in zip(*(expert.unbind(-1) for expert in experts), strict=True)]
        recognition = _recognition_loss(log_posteriors, self.durations.positions(contexts))
        return {'progress': torch.stack(errors).mean(), 'recognition': self.step_coefficient * recognition}

    @torch.no_grad()
    def errors_by_weight(self, segments: Sequence[SampledSegment],
                         penalty: Penalty = F.l1_loss) -> dict[float, Tensor]:
        """Return the mean error of progress at each candidate for ``content_weight``; {} without a content head."""
        if self.content is None:
            return {}
        experts, _ = self.forward_experts([segment.embeddings for segment in segments],
                                          [segment.context for segment in segments])
        return {weight: self.mean_error([self.blend(expert, weight) for expert in experts], segments, penalty)
                for weight in CONTENT_WEIGHTS}

    def calibrate(self, recordings: Sequence[EmbeddedRecording], penalty: Penalty = F.l1_loss) -> None:
        """Set ``content_weight`` to the candidate of the lowest error, the smallest of equal ones.

        Args:
            recordings: held out from training; their actions count equally. Without an action nothing changes.
            penalty: error of predictions against targets.
        """
        sums: dict[float, float] = {}
        was_training = self.training
        self.eval()
        for segments in filter(None, map(self._segments_of, recordings)):
            for weight, error in self.errors_by_weight(segments, penalty).items():
                sums[weight] = sums.get(weight, 0.0) + float(error) * len(segments)
        self.train(was_training)
        if sums:
            self.content_weight.fill_(min(sums, key=sums.get))

    def _segments_of(self, recording: EmbeddedRecording) -> list[SampledSegment]:
        """Return the actions of a recording, whole, with the progress of every frame."""
        contexts = self.contexts(recording.task, recording.actions)
        return [SampledSegment(recording.embeddings[action.start:action.end + 1],
                                action_progress(action, len(recording.embeddings)).to(recording.embeddings), context)
                for action, context in zip(recording.actions, contexts, strict=True)]

    @property
    def tasks(self) -> list[str]:
        """Tasks whose steps the head knows, sorted."""
        return sorted({task for task, _ in self.durations.steps})

    def labels(self, task: str | None) -> list[str]:
        """Return the labels of a task's steps, or of all tasks for None."""
        return [label for name, label in self.durations.steps if task in (None, name)]

    def check_task(self, task: str | None) -> str | None:
        """Check the task of a recording, see :meth:`ProgressHeadBase.check_task`."""
        if task is not None:
            return None
        if self.condition_on_step:
            raise UserError('none given, but the head is told the step (condition_on_step), which belongs to a task; '
                            f'give one of {", ".join(self.tasks)}')
        return ('the head takes the steps of every task for possible, and the recording for one of average pace; '
                f'known are {", ".join(self.tasks)}')

    def check_label(self, task: str | None, label: str | None) -> str | None:
        """Check the label of an action, see :meth:`ProgressHeadBase.check_label`."""
        known = self.labels(task)
        if label is None and self.condition_on_step:
            raise UserError('an action without label, but the head is told the step (condition_on_step); give each '
                            f'action one of {", ".join(known)}')
        if label is None or label in known:
            return None
        return (f'the head does not know the label {label!r}: its action says nothing of the pace; known are '
                f'{", ".join(known)}')

    def context(self, task: str | None, actions: Sequence[Action], action: Action) -> ActionContext:
        """Describe one of a recording's actions by what is known when it begins."""
        return self.durations.context(task, actions, action)

    def forward(self, segments: Tensor | Sequence[Tensor], contexts: Sequence[ActionContext] | None = None, *,
                lengths: Tensor | None = None) -> Tensor:
        """Predict progress at the last frame; arguments as in :meth:`ProgressHead.forward`, contexts per segment."""
        if isinstance(segments, Tensor) and lengths is None:
            return self.forward([segments], contexts)[0]
        if lengths is None:
            segments, lengths = pad_segments(segments, self.input_dim)
        else:
            segments = blank_padding(segments, lengths, self.input_dim)
        experts, _ = self._read(segments, contexts)
        progress = self.blend(experts)
        return progress.gather(1, (lengths.to(progress.device) - 1).unsqueeze(1)).squeeze(1)

    def forward_dense(self, segments: Tensor | Sequence[Tensor],
                      contexts: Sequence[ActionContext] | None = None) -> Tensor | list[Tensor]:
        """Predict progress at every frame from the frames up to it; contexts per segment."""
        if isinstance(segments, Tensor):
            return self.forward_dense([segments], contexts)[0]
        return self.forward_steps(segments, contexts)[0]

    def forward_steps(self, segments: Sequence[Tensor], contexts: Sequence[ActionContext] | None = None,
                      ) -> tuple[list[Tensor], list[Tensor]]:
        """Predict progress at every frame, and recognise the step.

        Args:
            segments: segments (n_i, D), each from its action's first frame on.
            contexts: what is known of each action; None: nothing.

        Returns:
            Progress (n_i,) in [0, 1] and the log posterior over steps (n_i, steps) of each segment.

        Raises:
            ValueError: a wrong shape, a segment without frames, or another number of contexts.
        """
        experts, log_posteriors = self.forward_experts(segments, contexts)
        return [self.blend(expert) for expert in experts], log_posteriors

    def forward_experts(self, segments: Sequence[Tensor], contexts: Sequence[ActionContext] | None = None,
                        ) -> tuple[list[Tensor], list[Tensor]]:
        """Predict as :meth:`forward_steps` does, but leave what is blended apart.

        Returns:
            Progress (n_i, 1) by steps and durations, or (n_i, 2) with that of the content head behind it, and the log
            posterior over steps (n_i, steps) of each segment.
        """
        padded, lengths = pad_segments(segments, self.input_dim)
        experts, log_posterior = self._read(padded, contexts)
        cut = list(zip(experts, log_posterior, lengths.tolist(), strict=True))
        return [row[:length] for row, _, length in cut], [row[:length] for _, row, length in cut]

    def blend(self, experts: Tensor, weight: float | Tensor | None = None) -> Tensor:
        """Return the progress (...) of experts (..., 1 or 2), at ``content_weight`` unless another is given."""
        if self.content is None:
            return experts[..., 0]
        return torch.lerp(*experts.unbind(-1), (self.content_weight if weight is None else
                                                torch.as_tensor(weight)).to(experts))

    def step(self, embedding: Tensor, state: SteppedState | None = None,
             context: ActionContext | None = None) -> tuple[Tensor, SteppedState]:
        """Predict progress one frame at a time, at constant cost; ``context`` is the same at every frame."""
        self._check_frame(embedding)
        frame = self._normalize(embedding)
        first, elapsed, hidden, content = ((frame, 1, None, None) if state is None else
                                           (state.first, state.elapsed + 1, state.hidden, state.content))
        contexts = self._contexts_of(1, context and [context])
        log_elapsed = self._log_elapsed(frame.new_tensor([elapsed], dtype=self._sum_dtype(frame)), contexts)
        outputs, hidden = self.gru(self._gru_inputs(frame.view(1, 1, -1), first.view(1, 1, -1), log_elapsed), hidden)
        progress, _ = self._read_out(outputs, log_elapsed, contexts)
        experts = [progress.squeeze()]
        if self.content is not None:
            by_content, content = self.content.step(embedding, content)
            experts.append(by_content)
        return self.blend(torch.stack(experts, dim=-1)), SteppedState(hidden, first, elapsed, content)

    def _read(self, padded: Tensor, contexts: Sequence[ActionContext] | None) -> tuple[Tensor, Tensor]:
        """Return progress (B, n, experts) and log posterior (B, n, steps) at each frame of a padded batch (B, n, D)."""
        contexts = self._contexts_of(len(padded), contexts)
        frames = self._normalize(padded)
        counts = torch.arange(1, frames.shape[1] + 1, device=frames.device, dtype=self._sum_dtype(frames))
        log_elapsed = self._log_elapsed(counts, contexts)
        outputs, _ = self.gru(self._gru_inputs(frames, frames[:, :1], log_elapsed))
        progress, log_posterior = self._read_out(outputs, log_elapsed, contexts)
        experts = [progress] if self.content is None else [progress, self.content.forward_padded(padded)]
        return torch.stack(experts, dim=-1), log_posterior

    @staticmethod
    def _contexts_of(count: int, contexts: Sequence[ActionContext] | None) -> list[ActionContext]:
        contexts = [ActionContext()] * count if contexts is None else list(contexts)
        if len(contexts) != count:
            raise ValueError(f'{len(contexts)} contexts beside {count} segments, expected one each')
        return contexts

    @staticmethod
    def _log_elapsed(frames: Tensor, contexts: Sequence[ActionContext]) -> Tensor:
        """Return the log of the paced frames elapsed, (B, n), from their number (n,)."""
        paces = frames.new_tensor([context.log_pace for context in contexts])
        return frames.log() - paces.unsqueeze(1)

    def _gru_inputs(self, frames: Tensor, first: Tensor, log_elapsed: Tensor) -> Tensor:
        """Return what the GRU reads, (B, n, projection + 1), from frames (B, n, D) and the first one (B, 1, D)."""
        projected = self.projection(self.dropout(torch.cat([frames, frames - first], dim=-1)))
        return torch.cat([projected, log_elapsed.unsqueeze(-1).to(projected.dtype)], dim=-1)

    def _read_out(self, outputs: Tensor, log_elapsed: Tensor,
                  contexts: Sequence[ActionContext]) -> tuple[Tensor, Tensor]:
        """Return progress (B, n) and log posterior (B, n, steps) from the GRU's outputs (B, n, H).

        Computed in the precision of the times: half precision rounds progress to 1, whose logit is infinite.
        """
        outputs = self.dropout(outputs)
        logits = self.step_logits(outputs).to(log_elapsed) + self.durations.possible(contexts).unsqueeze(1)
        log_posterior = torch.log_softmax(logits, dim=-1)
        progress = (self._weights(log_posterior, contexts) * self.durations.progress(log_elapsed)).sum(-1)
        if self.content_correction:
            correction = self.fc[:-1](outputs).squeeze(-1)  # all but the sigmoid
            progress = torch.sigmoid(torch.logit(progress, eps=SMALLEST_PROGRESS) + correction)
        return progress.to(outputs.dtype), log_posterior

    def _weights(self, log_posterior: Tensor, contexts: Sequence[ActionContext]) -> Tensor:
        """Return the posterior (B, n, steps), or certainty where the step is given."""
        posterior = log_posterior.exp()
        if not self.condition_on_step:
            return posterior
        positions = self.durations.positions(contexts)
        given = F.one_hot(positions.clamp(min=0), posterior.shape[-1]).to(posterior.dtype).unsqueeze(1)
        return torch.where((positions >= 0).view(-1, 1, 1), given, posterior)


def _recognition_loss(log_posteriors: Sequence[Tensor], positions: Tensor) -> Tensor:
    """Return the cross-entropy of the true steps, mean over frames, then over the actions whose step is known."""
    entropies = [-posterior[:, position].mean() for posterior, position
                 in zip(log_posteriors, positions.tolist(), strict=True) if position >= 0]
    return torch.stack(entropies).mean() if entropies else log_posteriors[0].sum() * 0
