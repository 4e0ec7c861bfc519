"""Features used as embeddings, unchanged."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder, FrameWiseStream


class IdentityEncoder(Encoder):
    """Encoder that returns the features unchanged, to train a progress head on the features themselves.

    Args:
        input_dimensions: D.
        output_dimensions: E; must equal D.
        dropping: True to have a drop network.
        drop_layers: sizes of the drop network's hidden layers.

    Raises:
        ValueError: E is not D, or a size is below 1.
    """

    keeps_features = True

    def __init__(self, input_dimensions: int, output_dimensions: int, dropping: bool = False,
                 drop_layers: Sequence[int] = DROP_LAYERS) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        if output_dimensions != input_dimensions:
            raise ValueError(f'output_dimensions is {output_dimensions}, expected {input_dimensions}, the feature '
                             'dimension')

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the features (T_i, D)."""
        return list(videos)

    def stream(self) -> FrameWiseStream:
        """Return a stream of this encoder, which reads each frame independently."""
        return FrameWiseStream(nn.Identity())
