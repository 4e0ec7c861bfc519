"""Embeddings one frame at a time: what each encoder has to remember of the frames before, and nothing else."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders import (
    Encoder,
    IdentityEncoder,
    NaiveEncoder,
    Resnet50Encoder,
    StackingEncoder,
    TemporalConvolution,
)
from models.model_multiprong import ProgressModel


class FrameWiseStream:
    """Encoder that reads each frame by itself: nothing to remember.

    Args:
        encode: frames (n, ...) -> (n, E).
    """

    def __init__(self, encode: Callable[[Tensor], Tensor]) -> None:
        self._encode = encode

    def push(self, frames: Tensor) -> Tensor:
        """Return what the next frames (n, ...) make known: (n, E)."""
        return self._encode(frames)

    def finish(self) -> Tensor | None:
        """Return what only the recording's end makes known, (m, E); None: nothing."""
        return None


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


class StackingStream:
    """A StackingEncoder over a stream: each convolution holds the last ``kernel - 1`` of its own inputs.

    Holding the features alone would not do: every layer pads a recording with zeros of its own.

    Args:
        encoder: causal or not; one that sees ahead answers ``encoder.lookahead`` frames late.
    """

    def __init__(self, encoder: StackingEncoder) -> None:
        self._layers = [_ConvolutionLayer(layer) if isinstance(layer, TemporalConvolution) else layer
                        for layer in encoder.convolutional_layers]

    def push(self, frames: Tensor) -> Tensor:
        """Return what the next frames (n, D) make known: (m, E)."""
        return self._through(self._layers, frames.T.unsqueeze(0))

    def finish(self) -> Tensor | None:
        """Return the embeddings (lookahead, E) at the recording's end; None where nothing was looked ahead for."""
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


class WindowStream:
    """A Resnet50Encoder over a stream: the last ``temporal_depth - 1`` frames are held.

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: Resnet50Encoder) -> None:
        self._encoder = encoder
        self._held: Tensor | None = None

    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (n, E) of the next frames (n, C, H, W)."""
        window = frames if self._held is None else torch.cat([self._held, frames])
        self._held = window[max(0, len(window) - self._encoder.temporal_depth + 1):]
        return self._encoder.fc_layers(self._encoder.pool_chunk(window, len(window) - len(frames)))

    def finish(self) -> None:
        """Return None: no frame is looked ahead for."""


def stream_encoder(encoder: Encoder) -> FrameWiseStream | StackingStream | WindowStream:
    """Return an encoder over a stream, at the start of a recording.

    Raises:
        ValueError: it is not known what the encoder has to remember.
    """
    if isinstance(encoder, NaiveEncoder):
        return FrameWiseStream(encoder.fc_layers)
    if isinstance(encoder, IdentityEncoder):
        return FrameWiseStream(nn.Identity())
    if isinstance(encoder, StackingEncoder):
        return StackingStream(encoder)
    if isinstance(encoder, Resnet50Encoder):
        return WindowStream(encoder)
    raise ValueError(f'encoder is a {type(encoder).__name__}, expected one that models/streaming.py knows')


class EmbeddingStream:
    """A model's embeddings of one recording, frame by frame, at constant cost.

    The embedding of a frame is there ``model.lookahead`` frames later: pushed one by one, the first ``lookahead`` calls
    return nothing, and :meth:`finish` returns the rest. Together they equal ``model([video])['outputs'][0]``.

    Args:
        model: in eval mode.

    Raises:
        ValueError: the model has an encoder without a stream, or frames that do not stand by themselves.
    """

    @torch.no_grad()
    def __init__(self, model: ProgressModel) -> None:
        self._model, self._encoder = model, stream_encoder(model.base_model)
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        model.refine(weight.new_zeros(1, model.base_model.output_dimensions))  # a model that cannot says so at once

    def push(self, frame: np.ndarray | Tensor) -> list[Tensor]:
        """Return the embeddings (E,) that the next frame, (D,) or (C, H, W), makes known: one or none."""
        return self._refine(self._encoder.push(torch.as_tensor(frame).to(self._device, self._dtype).unsqueeze(0)))

    def finish(self) -> list[Tensor]:
        """Return the embeddings (E,) that were waiting for frames after the recording's last one."""
        return self._refine(self._encoder.finish())

    def _refine(self, encoded: Tensor | None) -> list[Tensor]:
        if encoded is None or not len(encoded):
            return []
        return list(self._model.refine(encoded))
