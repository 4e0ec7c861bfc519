"""Gated recurrent unit over features: an embedding depends on the whole recording so far."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder, EncoderStream
from models.encoders.layers import encoder_gain, require_positive


class RecurrentEncoder(Encoder):
    """Linear layer, gated recurrent unit (GRU), layer normalization without parameters, and a linear layer.

    It never looks ahead, but it has no limit on how far it looks back. So it can also count frames, which an alignment
    loss rewards if recordings begin at the same moment of an activity.

    Args:
        hidden_dim: H, dimension of the first layer's output and of the GRU's state.
        output_dimensions: E.
        input_dimensions: D.
        dropping: True to have a drop network.
        drop_layers: sizes of the drop network's hidden layers.

    Raises:
        ValueError: a size is below 1.

    Reference:
        Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014, the unit.
    """

    def __init__(self, hidden_dim: int = 128, output_dimensions: int = 128, input_dimensions: int = 2048,
                 dropping: bool = False, drop_layers: Sequence[int] = DROP_LAYERS) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        require_positive(hidden_dim=hidden_dim)
        self.input_layer = nn.Linear(input_dimensions, hidden_dim)
        self.gru = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.output_layer = nn.Linear(hidden_dim, output_dimensions)
        nn.init.kaiming_normal_(self.input_layer.weight, nonlinearity='relu')
        # Normalized states have mean square 1, so the gain alone decides the norm of a new encoder's embeddings.
        nn.init.normal_(self.output_layer.weight, std=encoder_gain(output_dimensions) / math.sqrt(hidden_dim))
        for layer in (self.input_layer, self.output_layer):
            nn.init.zeros_(layer.bias)

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D)."""
        # Padding follows the frames, and the GRU runs forward, so it changes no embedding.
        padded = nn.utils.rnn.pad_sequence(list(videos), batch_first=True)  # (B, longest T_i, D)
        embeddings, _ = self.advance(padded)  # (B, longest T_i, E)
        return [embeddings[index, :len(video)] for index, video in enumerate(videos)]

    def advance(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embed the next frames of recordings.

        Args:
            frames: (B, n, D).
            state: state of the GRU after the frames before, (1, B, H); None at the start.

        Returns:
            Embeddings (B, n, E) and the state after the last frame, (1, B, H).
        """
        states, state = self.gru(F.relu(self.input_layer(frames)), state)  # (B, n, H)
        return self.output_layer(F.layer_norm(states, states.shape[-1:])), state

    def stream(self) -> 'RecurrentStream':
        """Return a stream of this encoder; it keeps one state, whatever the length of the recording."""
        return RecurrentStream(self)


class RecurrentStream(EncoderStream):
    """Stream of a :class:`RecurrentEncoder`.

    Args:
        encoder: encoder to run as a stream.
    """

    def __init__(self, encoder: RecurrentEncoder) -> None:
        self._encoder = encoder
        self._state: Tensor | None = None

    @torch.no_grad()
    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (n, E) of the next frames (n, D)."""
        embeddings, self._state = self._encoder.advance(frames.unsqueeze(0), self._state)
        return embeddings.squeeze(0)
