"""Multi-layer perceptron applied to each frame."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.encoders.base import Encoder, FrameWiseStream
from models.encoders.layers import encoder_gain, initialize_, linear_stack, split_like


class NaiveEncoder(Encoder):
    """Multi-layer perceptron applied to each frame's features.

    Args:
        layers: sizes of the hidden layers.
        output_dimensions: E.
        input_dimensions: D.
        drop_layers: sizes of the drop network's hidden layers; None: no drop network.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(self, layers: Sequence[int], output_dimensions: int = 128, input_dimensions: int = 2048,
                 drop_layers: Sequence[int] | None = None) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=drop_layers is not None,
                         drop_layers=drop_layers or ())
        self.fc_layers = nn.Sequential(*linear_stack([input_dimensions, *layers, output_dimensions], nn.ReLU))
        initialize_(self.fc_layers, encoder_gain(output_dimensions))

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D)."""
        frames = torch.cat(list(videos))  # (sum of T_i, D)
        return split_like(self.fc_layers(frames), videos)

    def stream(self) -> FrameWiseStream:
        """Return a stream of this encoder, which reads each frame independently."""
        return FrameWiseStream(self.fc_layers)
