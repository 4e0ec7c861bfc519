"""Temporal convolutions over features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder, EncoderStream
from models.encoders.layers import encoder_gain, initialize_, require_positive

STACKED_CONVOLUTIONS = 7


class TemporalConvolution(nn.Conv1d):
    """Convolution (1, into, T) -> (1, out, T) without bias, padded with zeros to keep the length.

    An even kernel sees one more frame after the current frame than before it. Frames are padded here because
    ``nn.Conv1d`` warns about a copy in that case.

    Args:
        into: number of input channels.
        out: number of output channels.
        kernel: kernel size in frames.
        causal: True to see only the current and earlier frames.
    """

    def __init__(self, into: int, out: int, kernel: int, *, causal: bool = False) -> None:
        super().__init__(into, out, kernel, bias=False)
        self.ahead = 0 if causal else kernel // 2
        self.behind = kernel - 1 - self.ahead

    def forward(self, frames: Tensor) -> Tensor:
        """Convolve frames (1, into, T) -> (1, out, T)."""
        padded = F.pad(frames, (self.behind, self.ahead))  # (1, into, T + kernel - 1)
        return super().forward(padded)


class StackingEncoder(Encoder):
    """Seven temporal convolutions over features.

    Args:
        temporal_depth: kernel size of the first convolution in frames; the other kernels have size 3.
        conv_num_channels: channels of the first convolution; halved in each further layer, down to E.
        output_dimensions: E.
        input_dimensions: D.
        dropping: True to have a drop network.
        drop_layers: sizes of the drop network's hidden layers.
        causal: True if embeddings depend only on the current and earlier frames; otherwise each embedding depends on
            :attr:`lookahead` later frames, 7 with kernels of size 2 or 3.

    Raises:
        ValueError: a size is below 1.
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
            if layers:
                layers.append(nn.ReLU())
            layers.append(TemporalConvolution(into, out, kernel, causal=causal))
        self.convolutional_layers = nn.Sequential(*layers)
        initialize_(self.convolutional_layers, encoder_gain(output_dimensions))
        self.lookahead = 0 if causal else sum(kernel // 2 for kernel in kernels)

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D); each recording is padded with zeros separately."""
        # One padded call for the whole batch, masked after each layer, was measured to be no faster.
        # (T_i, D) -> (1, D, T_i) -> (1, E, T_i) -> (T_i, E)
        return [self.convolutional_layers(video.T.unsqueeze(0)).squeeze(0).T for video in videos]

    def stream(self) -> 'StackingStream':
        """Return a stream of this encoder; unless causal, its output is ``lookahead`` frames late."""
        return StackingStream(self)


class _ConvolutionLayer:
    """One temporal convolution over a stream, padded with zeros at the start and end of the recording.

    Attributes:
        held: inputs (1, into, n) that later outputs see.
    """

    def __init__(self, convolution: TemporalConvolution) -> None:
        self._convolution = convolution
        weight = convolution.weight
        self.held = weight.new_zeros(1, weight.shape[1], convolution.behind)

    def push(self, frames: Tensor) -> Tensor:
        """Convolve the next frames (1, into, n) -> (1, out, m); m < n until the first output has its whole window."""
        window = torch.cat([self.held, frames], dim=-1)  # (1, into, held + n)
        kernel = self._convolution.kernel_size[0]
        # Keep the frames that later outputs see. With a kernel of one frame, [-0:] would keep all of them.
        self.held = window[..., max(0, window.shape[-1] - kernel + 1):]
        if window.shape[-1] < kernel:
            return frames.new_zeros(1, self._convolution.out_channels, 0)
        return F.conv1d(window, self._convolution.weight)  # (1, out, held + n - kernel + 1)

    def finish(self) -> Tensor:
        """Return the zeros (1, into, ahead) that follow the last frame of a recording."""
        return self.held.new_zeros(1, self.held.shape[1], self._convolution.ahead)


class StackingStream(EncoderStream):
    """Stream of a :class:`StackingEncoder`; each convolution keeps the last ``kernel - 1`` of its own inputs.

    Keeping only the features would not be enough, because every layer pads its own input with zeros.

    Args:
        encoder: encoder to run as a stream; the output is ``encoder.lookahead`` frames late.
    """

    def __init__(self, encoder: StackingEncoder) -> None:
        self._layers = [_ConvolutionLayer(layer) if isinstance(layer, TemporalConvolution) else layer
                        for layer in encoder.convolutional_layers]
        self._convolutions = [layer for layer in self._layers if isinstance(layer, _ConvolutionLayer)]

    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (m, E) that the next frames (n, D) determine."""
        return self._through(self._layers, frames.T.unsqueeze(0))

    def finish(self) -> Tensor | None:
        """Return the last embeddings (lookahead, E) of the recording; None if the encoder does not look ahead."""
        parts = []
        for depth, layer in enumerate(self._layers):
            # The earlier layers have already received their padding, so this layer's input is complete.
            if isinstance(layer, _ConvolutionLayer):
                parts.append(self._through(self._layers[depth:], layer.finish()))
        ended = torch.cat(parts)
        return ended if len(ended) else None

    def state(self) -> tuple[Tensor, ...]:
        """Return the inputs (1, into, n) that each convolution keeps; n is constant if the encoder is causal."""
        return tuple(layer.held for layer in self._convolutions)

    def resume(self, state: tuple[Tensor, ...]) -> None:
        """Continue from a state, see :meth:`EncoderStream.resume`."""
        for layer, held in zip(self._convolutions, state, strict=True):
            layer.held = held

    @staticmethod
    def _through(layers: list, frames: Tensor) -> Tensor:
        for layer in layers:
            frames = layer.push(frames) if isinstance(layer, _ConvolutionLayer) else layer(frames)
        return frames.squeeze(0).T  # (1, E, m) -> (m, E)
