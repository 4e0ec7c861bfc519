"""Temporal convolutions over features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder, EncoderStream
from models.encoders.layers import encoder_gain, initialize_, require_positive

STACKED_CONVOLUTIONS = 7


class TemporalConvolution(nn.Conv1d):
    """Convolution (1, into, T) -> (1, out, T), padded by zeros to keep the length, without bias.

    An even kernel sees one frame more ahead than behind. Padded here because torch warns of a copy in that case.

    Args:
        into: channels in.
        out: channels out.
        kernel: frames.
        causal: see the current frame and those behind it only.
    """

    def __init__(self, into: int, out: int, kernel: int, *, causal: bool = False) -> None:
        super().__init__(into, out, kernel, bias=False)
        self.ahead = 0 if causal else kernel // 2
        self.behind = kernel - 1 - self.ahead

    def forward(self, frames: Tensor) -> Tensor:
        """Convolve frames (1, into, T)."""
        return super().forward(F.pad(frames, (self.behind, self.ahead)))


class StackingEncoder(Encoder):
    """Seven temporal convolutions over features.

    Args:
        temporal_depth: kernel of the first convolution, frames; the others have 3.
        conv_num_channels: channels of the first convolution; halved from layer to layer down to E.
        output_dimensions: E.
        input_dimensions: D.
        dropping: whether there is a drop network.
        drop_layers: widths of its hidden layers.
        causal: no convolution sees a frame ahead; otherwise the last layer sees 7 in all with the usual kernels.

    Raises:
        ValueError: a size below 1.
    """

    has_causal_form = True

    def __init__(self, temporal_depth: int, conv_num_channels: int, output_dimensions: int = 128,
                 input_dimensions: int = 2048, dropping: bool = False,
                 drop_layers: Sequence[int] = DROP_LAYERS, *, causal: bool = False) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        require_positive(temporal_depth=temporal_depth, conv_num_channels=conv_num_channels)
        channels = [max(output_dimensions, conv_num_channels // 2**layer) for layer in range(STACKED_CONVOLUTIONS)]
        channels[-1] = output_dimensions
        kernels = [temporal_depth, *[3] * (STACKED_CONVOLUTIONS - 1)]
        layers: list[nn.Module] = []
        for into, out, kernel in zip([input_dimensions, *channels[:-1]], channels, kernels, strict=True):
            layers += [nn.ReLU()] * bool(layers) + [TemporalConvolution(into, out, kernel, causal=causal)]
        self.convolutional_layers = nn.Sequential(*layers)
        initialize_(self.convolutional_layers, encoder_gain(output_dimensions))
        self.lookahead = 0 if causal else sum(kernel // 2 for kernel in kernels)

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D), each recording padded by zeros of its own."""
        # One padded call for the whole batch, masked after each layer, was measured to be no faster.
        return [self.convolutional_layers(video.T.unsqueeze(0)).squeeze(0).T for video in videos]

    def stream(self) -> 'StackingStream':
        """Return the encoder over a stream; unless causal, it answers ``lookahead`` frames late."""
        return StackingStream(self)


class _ConvolutionLayer:
    """One temporal convolution over a stream, with the zeros that pad a recording at its start and end."""

    def __init__(self, convolution: TemporalConvolution) -> None:
        self._convolution = convolution
        weight = convolution.weight
        self._held = weight.new_zeros(1, weight.shape[1], convolution.behind)

    def push(self, frames: Tensor) -> Tensor:
        """Convolve the next frames (1, into, n) -> (1, out, m), m < n until the first output has all it sees."""
        window = torch.cat([self._held, frames], dim=-1)
        kernel = self._convolution.kernel_size[0]
        # Frames that later outputs see; sliced from the front, as [-0:] would keep all for a kernel of one frame.
        self._held = window[..., max(0, window.shape[-1] - kernel + 1):]
        if window.shape[-1] < kernel:
            return frames.new_zeros(1, self._convolution.out_channels, 0)
        return F.conv1d(window, self._convolution.weight)

    def finish(self) -> Tensor:
        """Return the zeros after a recording's last frame, (1, into, ahead)."""
        return self._held.new_zeros(1, self._held.shape[1], self._convolution.ahead)


class StackingStream(EncoderStream):
    """A StackingEncoder over a stream: each convolution holds the last ``kernel - 1`` of its own inputs.

    Holding the features alone would not do: every layer pads a recording with zeros of its own.

    Args:
        encoder: causal or not; one that sees ahead answers ``encoder.lookahead`` frames late.
    """

    def __init__(self, encoder: StackingEncoder) -> None:
        self._layers = [_ConvolutionLayer(layer) if isinstance(layer, TemporalConvolution) else layer
                        for layer in encoder.convolutional_layers]

    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (m, E) that the next frames (n, D) determine."""
        return self._through(self._layers, frames.T.unsqueeze(0))

    def finish(self) -> Tensor | None:
        """Return the embeddings (lookahead, E) at the recording's end; None if it does not look ahead."""
        parts = []
        for depth, layer in enumerate(self._layers):
            if isinstance(layer, _ConvolutionLayer):  # the layers before have been ended, so this one is ended now
                parts.append(self._through(self._layers[depth:], layer.finish()))
        ended = torch.cat(parts)
        return ended if len(ended) else None

    @staticmethod
    def _through(layers: list, frames: Tensor) -> Tensor:
        for layer in layers:
            frames = layer.push(frames) if isinstance(layer, _ConvolutionLayer) else layer(frames)
        return frames.squeeze(0).T
