"""Spatio-temporal convolutions over windows of convolutional features."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.encoders.base import DROP_LAYERS, Encoder, EncoderStream
from models.encoders.layers import encoder_gain, initialize_, linear_stack, require_positive, split_like

FRAME_CHANNELS = 512  # of a frame after the convolutions


class Resnet50Encoder(Encoder):
    """Two spatio-temporal convolutions over windows of convolutional features; each window ends with its frame.

    Windows are processed in chunks, which the backward pass recomputes: peak memory depends on the size of a chunk, not
    on the length of a recording.

    Args:
        temporal_depth: frames in a window; windows are padded with zeros before the first frame.
        dropping: True to have a drop network.
        in_size: C.
        output_dimensions: E.
        drop_layers: sizes of the drop network's hidden layers.
        chunk_frames: number of windows in a chunk.

    Raises:
        ValueError: a size is below 1.
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
        """Return the embeddings (T_i, E) of frames (T_i, C, H, W), which are tensors or arrays in files."""
        # Per recording (T_i, 512). No layer draws random numbers, so no random state is kept for the second pass.
        pooled = [torch.cat([checkpoint(self.pool_chunk, video, start, use_reentrant=False,
                                        preserve_rng_state=False)
                             for start in range(0, len(video), self.chunk_frames)]) for video in videos]
        return split_like(self.fc_layers(torch.cat(pooled)), videos)

    def stream(self) -> 'WindowStream':
        """Return a stream of this encoder, which keeps the frames of the current window."""
        return WindowStream(self)

    def pool_chunk(self, video: Tensor | np.ndarray, start: int) -> Tensor:
        """Convolve the windows that end with frames ``start`` to ``start + n - 1``; max-pool over time and space.

        Returns:
            Pooled windows (n, 512); n is ``chunk_frames``, or less at the end of the recording.
        """
        before = self.temporal_depth - 1
        end = min(start + self.chunk_frames, len(video))
        frames = self._read(video, max(0, start - before), end)
        # Pad the first axis in front: (depth - 1 + n, C, H, W).
        frames = F.pad(frames, (0, 0, 0, 0, 0, 0, max(0, before - start), 0))
        windows = frames.unfold(0, self.temporal_depth, 1).permute(0, 1, 4, 2, 3)  # (n, C, depth, H, W)
        # On the CPU torch 2.13 gives a padded Conv3d over fewer frames than its kernel wrong weight gradients in bf16.
        with torch.autocast('cpu', enabled=False):
            return self.convolutional_layers(windows).amax(dim=(2, 3, 4))  # (n, 512, depth, H, W) -> (n, 512)

    def _read(self, video: Tensor | np.ndarray, start: int, end: int) -> Tensor:
        """Move frames to the network's device and dtype; read only these frames into memory."""
        weight = self.convolutional_layers[0].weight
        frames = video[start:end]
        # The copy is needed: an array of a file may be read-only, which torch warns about.
        frames = frames if isinstance(frames, Tensor) else torch.from_numpy(np.array(frames))
        return frames.to(weight.device, weight.dtype)


class WindowStream(EncoderStream):
    """Stream of a :class:`Resnet50Encoder`; keeps the last ``temporal_depth - 1`` frames.

    Args:
        encoder: encoder to run as a stream.
    """

    def __init__(self, encoder: Resnet50Encoder) -> None:
        self._encoder = encoder
        self._held: Tensor | None = None

    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (n, E) of the next frames (n, C, H, W)."""
        window = frames if self._held is None else torch.cat([self._held, frames])  # (held + n, C, H, W)
        self._held = window[max(0, len(window) - self._encoder.temporal_depth + 1):]
        pooled = self._encoder.pool_chunk(window, len(window) - len(frames))  # (n, 512)
        return self._encoder.fc_layers(pooled)

    def state(self) -> tuple[Tensor, ...]:
        """Return the last frames, (depth - 1, C, H, W), with zeros before the first frame."""
        missing = self._encoder.temporal_depth - 1 - len(self._held)
        return (F.pad(self._held, (0, 0, 0, 0, 0, 0, missing, 0)),)

    def resume(self, state: tuple[Tensor, ...]) -> None:
        """Continue from a state, see :meth:`EncoderStream.resume`."""
        self._held, = state
