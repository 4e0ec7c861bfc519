"""Spatio-temporal convolutions over windows of convolutional features."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.encoders.base import DROP_LAYERS, Encoder, EncoderStream
from models.encoders.layers import encoder_gain, initialize_, linear_stack, require_positive, split_like

FRAME_CHANNELS = 512  # channels of a frame after the convolutions


class Resnet50Encoder(Encoder):
    """Two spatio-temporal convolutions over windows of convolutional features, each ending with its frame.

    The windows are treated in chunks which the backward pass computes again, so that memory is bounded by a chunk
    whatever the length of a recording.

    Args:
        temporal_depth: frames in a window; zeros stand before the first frame.
        dropping: whether there is a drop network.
        in_size: C.
        output_dimensions: E.
        drop_layers: widths of the drop network's hidden layers.
        chunk_frames: windows computed at once.

    Raises:
        ValueError: a size below 1.
    """

    input_axes = 'TCHW'

    def __init__(self, temporal_depth: int, dropping: bool = False, in_size: int = 1024, output_dimensions: int = 128,
                 *, drop_layers: Sequence[int] = DROP_LAYERS, chunk_frames: int = 32) -> None:
        super().__init__(output_dimensions, in_size, dropping=dropping, drop_layers=drop_layers)
        require_positive(temporal_depth=temporal_depth, chunk_frames=chunk_frames)
        self.temporal_depth, self.chunk_frames = temporal_depth, chunk_frames
        self.convolutional_layers = nn.Sequential(
            nn.Conv3d(in_size, in_size, 3, padding='same'), nn.ReLU(),
            nn.Conv3d(in_size, FRAME_CHANNELS, 3, padding='same'), nn.ReLU())
        self.fc_layers = nn.Sequential(*linear_stack([FRAME_CHANNELS] * 3 + [output_dimensions], nn.ReLU))
        initialize_(nn.Sequential(self.convolutional_layers, self.fc_layers), encoder_gain(output_dimensions))

    def embed(self, videos: Sequence[Tensor | np.ndarray]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of frames (T_i, C, H, W), tensors or memory-mapped arrays."""
        pooled = [torch.cat([checkpoint(self.pool_chunk, video, start, use_reentrant=False,
                                        preserve_rng_state=False)
                             for start in range(0, len(video), self.chunk_frames)]) for video in videos]
        return split_like(self.fc_layers(torch.cat(pooled)), videos)

    def stream(self) -> 'WindowStream':
        """Return the encoder over a stream: it remembers the frames of its window."""
        return WindowStream(self)

    def pool_chunk(self, video: Tensor | np.ndarray, start: int) -> Tensor:
        """Convolve the windows that end with the n frames from ``start`` on and take the maximum over time and space.

        Returns:
            (n, 512); n is at most ``chunk_frames``.
        """
        before = self.temporal_depth - 1
        end = min(start + self.chunk_frames, len(video))
        frames = self._read(video, max(0, start - before), end)
        frames = F.pad(frames, (0, 0, 0, 0, 0, 0, max(0, before - start), 0))
        windows = frames.unfold(0, self.temporal_depth, 1).permute(0, 1, 4, 2, 3)  # (n, C, depth, H, W)
        # On the CPU torch 2.13 gives a padded Conv3d over fewer frames than its kernel wrong weight gradients in bf16.
        with torch.autocast('cpu', enabled=False):
            return self.convolutional_layers(windows).amax(dim=(2, 3, 4))

    def _read(self, video: Tensor | np.ndarray, start: int, end: int) -> Tensor:
        """Bring frames to the network's device and precision, and nothing but them into memory."""
        weight = self.convolutional_layers[0].weight
        frames = video[start:end]
        frames = frames if isinstance(frames, Tensor) else torch.from_numpy(np.array(frames))
        return frames.to(weight.device, weight.dtype)


class WindowStream(EncoderStream):
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
