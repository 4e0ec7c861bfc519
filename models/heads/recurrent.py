"""Progress head with a GRU, or mean pooling, over the embeddings of an action so far."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads.base import ProgressHeadBase
from models.heads.padding import blank_padding, pad_segments

READOUT_DIM = 32


class ProgressHead(ProgressHeadBase):
    """Predicts progress in [0, 1] at a segment's last frame from the embeddings up to it.

    Contexts are ignored.

    Args:
        input_dim: D, the dimension of the embeddings.
        hidden_dim: dimension of the hidden state.
        use_gru: read the segment with a GRU if True, otherwise average its embeddings.
        normalize_embeddings: apply LayerNorm without parameters to the embeddings first.
    """

    OPTIONS = ('hidden_dim', 'use_gru', 'normalize_embeddings')

    def __init__(self, input_dim: int = 128, hidden_dim: int = 64, use_gru: bool = True, *,
                 normalize_embeddings: bool = True) -> None:
        super().__init__(input_dim, normalize_embeddings=normalize_embeddings)
        self.use_gru = use_gru
        readout = [nn.Linear(hidden_dim, READOUT_DIM), nn.ReLU(), nn.Linear(READOUT_DIM, 1), nn.Sigmoid()]
        if use_gru:
            self.gru = nn.GRU(input_dim, hidden_dim, batch_first=True)
            self.fc = nn.Sequential(*readout)
        else:
            self.fc = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.ReLU(), *readout)

    def forward(self, segments: Tensor | Sequence[Tensor], contexts: Sequence | None = None, *,
                lengths: Tensor | None = None) -> Tensor:
        """Predict progress at the last frame, see :meth:`ProgressHeadBase.forward`."""
        if isinstance(segments, Tensor) and lengths is None:
            return self.forward([segments])[0]  # a batch of one
        if lengths is None:
            segments, lengths = pad_segments(segments, self.input_dim)
        else:
            segments = blank_padding(segments, lengths, self.input_dim)
        states = self._states(segments)  # (B, n, H)
        last = (lengths.to(states.device) - 1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])  # (B, 1, H)
        return self.fc(states.gather(1, last).squeeze(1)).squeeze(-1)  # (B,)

    def forward_dense(self, segments: Tensor | Sequence[Tensor],
                      contexts: Sequence | None = None) -> Tensor | list[Tensor]:
        """Predict progress at every frame, see :meth:`ProgressHeadBase.forward_dense`."""
        if isinstance(segments, Tensor):
            return self.forward_dense([segments])[0]
        # Padding is at the end and the states are causal, so it does not affect the frames before it.
        padded, lengths = pad_segments(segments, self.input_dim)
        progress = self.forward_padded(padded)
        return [row[:length] for row, length in zip(progress, lengths.tolist(), strict=True)]

    def forward_padded(self, padded: Tensor) -> Tensor:
        """Predict progress (B, n) at every frame of a padded batch (B, n, D); meaningless past a segment's end."""
        return self.fc(self._states(padded)).squeeze(-1)  # (B, n)

    def step(self, embedding: Tensor, state: Tensor | None = None,
             context: object = None) -> tuple[Tensor, Tensor]:
        """Predict progress one frame at a time, see :meth:`ProgressHeadBase.step`."""
        self._check_frame(embedding)
        frame = self._normalize(embedding)
        if self.use_gru:
            output, state = self.gru(frame.view(1, 1, -1), state)  # (1, 1, H)
            return self.fc(output.flatten()).squeeze(), state
        # The state (D + 1,) is the sum of the frames, followed by their number.
        counted = torch.cat([frame, frame.new_ones(1)]).to(self._sum_dtype(frame))
        state = counted if state is None else state + counted
        return self.fc((state[:-1] / state[-1]).to(frame.dtype)).squeeze(), state

    def _states(self, padded: Tensor) -> Tensor:
        """Return the readout's input at every frame, (B, n, H): GRU outputs (H is hidden_dim) or running means (D)."""
        frames = self._normalize(padded)
        if self.use_gru:
            return self.gru(frames)[0]
        sums = frames.cumsum(dim=1, dtype=self._sum_dtype(frames))  # (B, n, D)
        counts = torch.arange(1, frames.shape[1] + 1, device=sums.device, dtype=sums.dtype)
        return (sums / counts.view(1, -1, 1)).to(frames.dtype)

    @staticmethod
    def _sum_dtype(frames: Tensor) -> torch.dtype:
        """Return the dtype of running sums: half precision cannot count past a few hundred frames."""
        return torch.promote_types(frames.dtype, torch.float32)
