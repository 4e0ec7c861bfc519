"""Features plus dilated convolutions over the last few frames: an encoder that starts as the features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder, EncoderStream
from models.encoders.layers import initialize_, require_positive

KERNEL = 3
# Norm of a new encoder's embeddings. That of other encoders is EMBEDDING_NORM, but their ReLUs give all frames a common
# part, which is in no distance. Here nothing is common, so the same distances belong to a smaller norm. With the larger
# one, the losses of squared distances start at 2.5 to 5 instead of near 1.
START_NORM = 1.8
START = 0.1  # of the norm of a new encoder's embeddings is due to the convolutions


class ShortMemoryEncoder(Encoder):
    """Linear map of the features, plus causal convolutions over the current and the ``reach`` frames before it.

    The map starts with orthogonal columns (rows if D > E), and the convolutions start small. So distances between the
    embeddings of a new encoder are those between the features, up to a factor, and training changes what it improves.
    Features of mean square 1 give embeddings of norm :data:`START_NORM`.
    It cannot count further than it remembers, so it aligns by what it sees, even if recordings begin at the same
    moment of an activity.

    Args:
        hidden_dim: H, channels of the convolutions.
        layers: number of convolutions; the dilation doubles from each to the next.
        output_dimensions: E.
        input_dimensions: D.
        dropping: True to have a drop network.
        drop_layers: sizes of the drop network's hidden layers.

    Attributes:
        reach: number of frames before the current frame that its embedding depends on, 14 with 3 layers.

    Raises:
        ValueError: a size is below 1.

    Reference:
        Saxe et al., Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural Networks, ICLR 2014,
        orthogonal start; van den Oord et al., WaveNet, 2016, dilated causal convolutions.
    """

    def __init__(self, hidden_dim: int = 128, layers: int = 3, output_dimensions: int = 128,
                 input_dimensions: int = 2048, dropping: bool = False,
                 drop_layers: Sequence[int] = DROP_LAYERS) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        require_positive(hidden_dim=hidden_dim, layers=layers)
        self.feature_map = nn.Linear(input_dimensions, output_dimensions, bias=False)
        self.input_layer = nn.Linear(input_dimensions, hidden_dim)
        self.convolutions = nn.ModuleList(nn.Conv1d(hidden_dim, hidden_dim, KERNEL, dilation=2**layer)
                                          for layer in range(layers))
        self.output_layer = nn.Linear(hidden_dim, output_dimensions)
        self.reach = sum((KERNEL - 1) * convolution.dilation[0] for convolution in self.convolutions)
        nn.init.orthogonal_(self.feature_map.weight, gain=START_NORM / min(input_dimensions, output_dimensions) ** 0.5)
        initialize_(nn.Sequential(self.input_layer, *self.convolutions, self.output_layer),
                    START * START_NORM / output_dimensions ** 0.5)

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D)."""
        # Before a recording, features are 0. Padding follows the frames, and nothing looks ahead, so it changes no
        # embedding.
        padded = nn.utils.rnn.pad_sequence([F.pad(video, (0, 0, self.reach, 0)) for video in videos], batch_first=True)
        embeddings = self.advance(padded)  # (B, reach + longest T_i, D) -> (B, longest T_i, E)
        return [embeddings[index, :len(video)] for index, video in enumerate(videos)]

    def advance(self, frames: Tensor) -> Tensor:
        """Return the embeddings (B, n, E) of the last n of reach + n frames (B, reach + n, D)."""
        hidden = F.relu(self.input_layer(frames)).transpose(1, 2)  # (B, H, reach + n)
        for convolution in self.convolutions:
            # Each convolution has 2 * dilation fewer outputs than inputs, the first ones.
            hidden = hidden[..., (KERNEL - 1) * convolution.dilation[0]:] + F.relu(convolution(hidden))
        hidden = hidden.transpose(1, 2)  # (B, n, H)
        # Normalized as in the recurrent encoder: the sum of the layers grows with their number.
        changes = self.output_layer(F.layer_norm(hidden, hidden.shape[-1:]))
        return self.feature_map(frames[:, self.reach:]) + changes

    def stream(self) -> 'ShortMemoryStream':
        """Return a stream of this encoder; it keeps the last ``reach`` frames."""
        return ShortMemoryStream(self)


class ShortMemoryStream(EncoderStream):
    """Stream of a :class:`ShortMemoryEncoder`.

    Args:
        encoder: encoder to run as a stream.
    """

    def __init__(self, encoder: ShortMemoryEncoder) -> None:
        self._encoder = encoder
        self._held = encoder.feature_map.weight.new_zeros(encoder.reach, encoder.input_width)

    @torch.no_grad()
    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (n, E) of the next frames (n, D)."""
        window = torch.cat([self._held, frames])  # (reach + n, D)
        self._held = window[-self._encoder.reach:]
        return self._encoder.advance(window.unsqueeze(0)).squeeze(0)

    def state(self) -> tuple[Tensor, ...]:
        """Return the last frames, (reach, D)."""
        return (self._held,)

    def resume(self, state: tuple[Tensor, ...]) -> None:
        """Continue from a state, see :meth:`EncoderStream.resume`."""
        self._held, = state
