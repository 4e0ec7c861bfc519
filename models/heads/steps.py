"""A progress head that recognises the step, knows how long that step lasts, and reads content as far as it helps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.base import EmbeddedRecording, Penalty
from models.heads.recurrent import ProgressHead
from models.heads.step_durations import ActionContext, StepDurations
from utils.tensorops import Action, action_progress

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

    Attributes:
        content_weight: ``w``, in [0, 1]; None without a content head.
    """

    def __init__(self, input_dim: int = 128, hidden_dim: int = 64, *, steps: Sequence[tuple[str, str]],
                 normalize_embeddings: bool = True, projection_dim: int = 24, dropout: float = 0.2,
                 content_correction: bool = True, condition_on_step: bool = False,
                 content_head: bool = False) -> None:
        super().__init__(input_dim, hidden_dim, normalize_embeddings=normalize_embeddings)
        self.calibrates = content_head
        self.durations = StepDurations(steps)
        self.content_correction, self.condition_on_step = content_correction, condition_on_step
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

    @torch.no_grad()
    def calibrate(self, recordings: Sequence[EmbeddedRecording], penalty: Penalty = F.l1_loss) -> None:
        """Set ``content_weight`` to the candidate of the lowest error, the smallest of equal ones.

        Args:
            recordings: held out from training; their actions count equally. Without an action nothing changes.
            penalty: error of predictions against targets.
        """
        if self.content is None:
            return
        sums = dict.fromkeys(CONTENT_WEIGHTS, 0.0)
        was_training = self.training
        self.eval()
        for task, _, embeddings, actions, _ in (recording for recording in recordings if recording.actions):
            experts, _ = self.forward_experts([embeddings[action.start:action.end + 1] for action in actions],
                                              self.contexts(task, actions))
            truths = [action_progress(action, len(embeddings)).to(embeddings) for action in actions]
            for weight in sums:
                sums[weight] += sum(float(penalty(self.blend(expert, weight), truth))
                                    for expert, truth in zip(experts, truths, strict=True))
        self.train(was_training)
        if any(recording.actions for recording in recordings):
            self.content_weight.fill_(min(sums, key=sums.get))

    def context(self, task: str | None, actions: Sequence[Action], action: Action) -> ActionContext:
        """Describe one of a recording's actions by what is known when it begins."""
        return self.durations.context(task, actions, action)

    def forward(self, segments: Tensor | Sequence[Tensor], contexts: Sequence[ActionContext] | None = None, *,
                lengths: Tensor | None = None) -> Tensor:
        """Predict progress at the last frame; arguments as in :meth:`ProgressHead.forward`, contexts per segment."""
        if isinstance(segments, Tensor) and lengths is None:
            return self.forward([segments], contexts)[0]
        if lengths is None:
            segments, lengths = self._pad(segments)
        else:
            segments = self._blank_padding(segments, lengths)
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
        padded, lengths = self._pad(segments)
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
        if embedding.shape != (self.input_dim,):
            raise ValueError(f'embedding has shape {tuple(embedding.shape)}, expected ({self.input_dim},)')
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
