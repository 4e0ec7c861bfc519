"""A multi-layer perceptron over each frame."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.encoders.base import Encoder, FrameWiseStream
from models.encoders.layers import encoder_gain, initialize_, linear_stack, split_like


class NaiveEncoder(Encoder):
    """A multi-layer perceptron over each frame's features.

    Args:
        layers: widths of the hidden layers.
        output_dimensions: E.
        input_dimensions: D.
        drop_layers: widths of the drop network's hidden layers; None: no drop network.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, layers: Sequence[int], output_dimensions: int = 128, input_dimensions: int = 2048,
                 drop_layers: Sequence[int] | None = None) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=drop_layers is not None,
                         drop_layers=drop_layers or ())
        self.fc_layers = nn.Sequential(*linear_stack([input_dimensions, *layers, output_dimensions], nn.ReLU))
        initialize_(self.fc_layers, encoder_gain(output_dimensions))

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D)."""
        return split_like(self.fc_layers(torch.cat(list(videos))), videos)

    def stream(self) -> FrameWiseStream:
        """Return the encoder over a stream: it reads each frame by itself."""
        return FrameWiseStream(self.fc_layers)
