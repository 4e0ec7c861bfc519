"""The learnable progress head: embeddings of an action so far -> how far it has progressed."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from models.heads.base import ProgressHeadBase
from utils.tensorops import Action

READOUT_WIDTH = 32


class ProgressHead(ProgressHeadBase):
    """Predicts progress in [0, 1] at a segment's last frame from the embeddings up to it.

    Args:
        input_dim: D of the embeddings.
        hidden_dim: width of the hidden state.
        use_gru: read the segment with a GRU (True), or pool its mean (False).
        normalize_embeddings: LayerNorm without parameters before either. Alignment losses let the scale of
            embeddings grow, until it saturates the gates.
    """

    def __init__(self, input_dim: int = 128, hidden_dim: int = 64, use_gru: bool = True, *,
                 normalize_embeddings: bool = True) -> None:
        super().__init__(input_dim, normalize_embeddings=normalize_embeddings)
        self.use_gru = use_gru
        readout = [nn.Linear(hidden_dim, READOUT_WIDTH), nn.ReLU(), nn.Linear(READOUT_WIDTH, 1), nn.Sigmoid()]
        if use_gru:
            self.gru = nn.GRU(input_dim, hidden_dim, batch_first=True)
            self.fc = nn.Sequential(*readout)
        else:
            self.fc = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.ReLU(), *readout)

    def forward(self, segments: Tensor | Sequence[Tensor], *, lengths: Tensor | None = None) -> Tensor:
        """Predict progress at the last frame.

        Args:
            segments: one segment (n, D), a list of segments (n_i, D), or with ``lengths`` a padded batch (B, n, D).
            lengths: (B,), frames of each segment of a padded batch; what lies past them has no influence.

        Returns:
            () for one segment, else (B,), in [0, 1].

        Raises:
            ValueError: a wrong shape, or a segment without frames.
        """
        if isinstance(segments, Tensor) and lengths is None:
            return self.forward([segments])[0]
        if lengths is None:
            segments, lengths = self._pad(segments)
        else:
            segments = self._blank_padding(segments, lengths)
        states = self._states(segments)
        last = (lengths.to(states.device) - 1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return self.fc(states.gather(1, last).squeeze(1)).squeeze(-1)

    def context(self, task: str | None, actions: Sequence[Action], action: Action) -> object | None:
        """Return what else this head wants to know of one of a recording's actions when it begins: nothing."""
        return None

    def contexts(self, task: str | None, actions: Sequence[Action]) -> list:
        """Return the :meth:`context` of each of a recording's actions."""
        return [self.context(task, actions, action) for action in actions]

    def forward_dense(self, segments: Tensor | Sequence[Tensor],
                      contexts: Sequence | None = None) -> Tensor | list[Tensor]:
        """Predict progress at every frame from the frames up to it.

        Args:
            segments: one segment (n, D) or a list of them.
            contexts: from :meth:`contexts`, one per segment; without influence here.

        Returns:
            (n,) in [0, 1]; element t equals ``forward(segment[:t + 1])``. A list of such for a list.

        Raises:
            ValueError: a wrong shape, or a segment without frames.
        """
        if isinstance(segments, Tensor):
            return self.forward_dense([segments])[0]
        padded, lengths = self._pad(segments)
        progress = self.forward_padded(padded)
        return [row[:length] for row, length in zip(progress, lengths.tolist(), strict=True)]

    def forward_padded(self, padded: Tensor) -> Tensor:
        """Predict progress (B, n) at every frame of a padded batch (B, n, D); past a segment's end it means nothing."""
        return self.fc(self._states(padded)).squeeze(-1)

    def step(self, embedding: Tensor, state: Tensor | None = None,
             context: object | None = None) -> tuple[Tensor, Tensor]:
        """Predict progress one frame at a time, at constant cost.

        Args:
            embedding: (D,), the next frame.
            state: what the call before returned; None at the first frame.
            context: from :meth:`context`; without influence here.

        Returns:
            Progress () of the frames so far, and the state for the next call.

        Raises:
            ValueError: a wrong shape.
        """
        if embedding.shape != (self.input_dim,):
            raise ValueError(f'embedding has shape {tuple(embedding.shape)}, expected ({self.input_dim},)')
        frame = self._normalize(embedding)
        if self.use_gru:
            output, state = self.gru(frame.view(1, 1, -1), state)
            return self.fc(output.flatten()).squeeze(), state
        # The state is the sum of the frames and, behind it, their number.
        counted = torch.cat([frame, frame.new_ones(1)]).to(self._sum_dtype(frame))
        state = counted if state is None else state + counted
        return self.fc((state[:-1] / state[-1]).to(frame.dtype)).squeeze(), state

    def _states(self, padded: Tensor) -> Tensor:
        """Return what the readout sees at every frame: GRU outputs or running means, (B, n, width)."""
        frames = self._normalize(padded)
        if self.use_gru:
            return self.gru(frames)[0]
        sums = frames.cumsum(dim=1, dtype=self._sum_dtype(frames))
        counts = torch.arange(1, frames.shape[1] + 1, device=sums.device, dtype=sums.dtype)
        return (sums / counts.view(1, -1, 1)).to(frames.dtype)

    @staticmethod
    def _sum_dtype(frames: Tensor) -> torch.dtype:
        """Return the precision of running sums: half precision cannot count past a few hundred frames."""
        return torch.promote_types(frames.dtype, torch.float32)

    def _normalize(self, embeddings: Tensor) -> Tensor:
        return F.layer_norm(embeddings, embeddings.shape[-1:]) if self.normalize_embeddings else embeddings

    def _pad(self, segments: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        if len(segments) == 0:
            raise ValueError('segments is empty, expected at least one segment')
        for index, segment in enumerate(segments):
            if segment.ndim != 2 or segment.shape[1] != self.input_dim or len(segment) == 0:
                raise ValueError(f'segment {index} has shape {tuple(segment.shape)}, expected (n, {self.input_dim}) '
                                 'with n >= 1')
        return pad_sequence(list(segments), batch_first=True), torch.tensor([len(segment) for segment in segments])

    def _blank_padding(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Check a padded batch and put zeros past each length, as NaN there would reach the weights' gradients."""
        if not isinstance(padded, Tensor):
            raise ValueError('segments are a list beside lengths, expected one padded tensor (B, n, D)')
        if padded.ndim != 3 or padded.shape[2] != self.input_dim or not 0 < len(lengths) == len(padded):
            raise ValueError(f'segments have shape {tuple(padded.shape)} beside {len(lengths)} lengths, expected '
                             f'(B, n, {self.input_dim}) and B >= 1 lengths')
        shortest, longest = torch.stack(lengths.aminmax()).tolist()
        if shortest < 1 or longest > padded.shape[1]:
            raise ValueError(f'lengths run from {shortest} to {longest}, expected 1 to {padded.shape[1]}')
        frames = torch.arange(padded.shape[1], device=padded.device)
        is_padding = frames >= lengths.to(padded.device).unsqueeze(1)
        return padded.masked_fill(is_padding.unsqueeze(-1), 0)
