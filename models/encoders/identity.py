"""The features themselves as embeddings."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder, FrameWiseStream


class IdentityEncoder(Encoder):
    """The features themselves as embeddings: what a progress head makes of them without an encoder.

    Args:
        input_dimensions: D.
        output_dimensions: E, which has to be D.
        dropping: whether there is a drop network.
        drop_layers: widths of its hidden layers.

    Raises:
        ValueError: E is not D, or a size below 1.
    """

    keeps_features = True

    def __init__(self, input_dimensions: int, output_dimensions: int, dropping: bool = False,
                 drop_layers: Sequence[int] = DROP_LAYERS) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        if output_dimensions != input_dimensions:
            raise ValueError(f'output_dimensions is {output_dimensions}, expected {input_dimensions} as the features')

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the features (T_i, D)."""
        return list(videos)

    def stream(self) -> FrameWiseStream:
        """Return the encoder over a stream: it reads each frame by itself."""
        return FrameWiseStream(nn.Identity())
