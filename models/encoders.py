"""Encoders: recordings -> one embedding per frame."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.initialisation import encoder_gain, initialise_

DROP_LAYERS = (256, 1024, 512, 256)
STACKED_CONVOLUTIONS = 7
FRAME_CHANNELS = 512  # width of the frame encoder after its convolutions


def linear_stack(widths: Sequence[int], activation: type[nn.Module]) -> list[nn.Module]:
    """Return linear layers along the widths, with an activation between each two."""
    layers: list[nn.Module] = []
    for into, out in zip(widths[:-1], widths[1:], strict=True):
        layers += [activation()] * bool(layers) + [nn.Linear(into, out)]
    return layers


def split_like(frames: Tensor, videos: Sequence) -> list[Tensor]:
    """Cut what was computed over all frames of a batch back into recordings."""
    return list(frames.split([len(video) for video in videos]))


def require_positive(**sizes: int) -> None:
    """Raise a ValueError that names the first size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f'{name} is {size}, expected at least 1')


class DropNetwork(nn.Sequential):
    """Drop vector of a recording: (T, E) -> (E + 1,), the mean over frames of a multi-layer perceptron.

    Args:
        width: E of the embeddings.
        layers: widths of the hidden layers.

    Reference:
        Donahue & Elhamifar, CVPR 2024.
    """

    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__(*linear_stack([width, *layers, width + 1], nn.ReLU))

    def forward(self, embeddings: Sequence[Tensor]) -> list[Tensor]:
        """Return the drop vectors [(E + 1,)] of recordings' embeddings [(T_i, E)], all frames in one call."""
        per_frame = super().forward(torch.cat(list(embeddings)))
        return [frames.mean(dim=0) for frames in split_like(per_frame, embeddings)]


class Encoder(nn.Module):
    """What the encoders share: outputs as a dict, and the optional drop network.

    Args:
        output_dimensions: E.
        input_width: D of the features or C of the frames.
        dropping: whether there is a drop network.
        drop_layers: widths of its hidden layers.

    Attributes:
        output_dimensions: E.
        lookahead: frames after the current one that its embedding depends on.

    Raises:
        ValueError: a size below 1.
    """

    lookahead = 0
    input_axes = 'TD'

    def __init__(self, output_dimensions: int, input_width: int, *, dropping: bool,
                 drop_layers: Sequence[int]) -> None:
        super().__init__()
        require_positive(output_dimensions=output_dimensions, input_width=input_width)
        self.output_dimensions, self.input_width, self.dropping = output_dimensions, input_width, dropping
        if dropping:
            self.dropout = DropNetwork(output_dimensions, drop_layers)

    def embed(self, videos: Sequence) -> list[Tensor]:
        """Return the embeddings (T_i, E) of videos (T_i, ...)."""
        raise NotImplementedError

    def forward(self, videos: Sequence) -> dict[str, list[Tensor]]:
        """Embed videos.

        Args:
            videos: recordings of one task, (T_i, D) or (T_i, C, H, W).

        Returns:
            'outputs': [(T_i, E)], and with ``dropping`` 'dropouts': [(E + 1,)].

        Raises:
            ValueError: no recording, or one of another rank or width, or without frames.
        """
        self._check(videos)
        result = {'outputs': self.embed(videos)}
        if self.dropping:
            result['dropouts'] = self.dropout(result['outputs'])
        return result

    def _check(self, videos: Sequence) -> None:
        if len(videos) == 0:
            raise ValueError('videos is empty, expected at least one recording')
        for index, video in enumerate(videos):
            if video.ndim != len(self.input_axes) or video.shape[1] != self.input_width or len(video) == 0:
                axes = ', '.join(self.input_axes)
                raise ValueError(f'video {index} has shape {tuple(video.shape)}, expected ({axes}) with T >= 1 and '
                                 f'{self.input_axes[1]} = {self.input_width}')


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
        initialise_(self.convolutional_layers, encoder_gain(output_dimensions))
        self.lookahead = 0 if causal else sum(kernel // 2 for kernel in kernels)

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D), each recording padded by zeros of its own."""
        # One padded call for the whole batch, masked after each layer, was measured to be no faster.
        return [self.convolutional_layers(video.T.unsqueeze(0)).squeeze(0).T for video in videos]


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
        initialise_(self.fc_layers, encoder_gain(output_dimensions))

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of features (T_i, D)."""
        return split_like(self.fc_layers(torch.cat(list(videos))), videos)


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

    def __init__(self, input_dimensions: int, output_dimensions: int, dropping: bool = False,
                 drop_layers: Sequence[int] = DROP_LAYERS) -> None:
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        if output_dimensions != input_dimensions:
            raise ValueError(f'output_dimensions is {output_dimensions}, expected {input_dimensions} as the features')

    def embed(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Return the features (T_i, D)."""
        return list(videos)


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
        initialise_(nn.Sequential(self.convolutional_layers, self.fc_layers), encoder_gain(output_dimensions))

    def embed(self, videos: Sequence[Tensor | np.ndarray]) -> list[Tensor]:
        """Return the embeddings (T_i, E) of frames (T_i, C, H, W), tensors or memory-mapped arrays."""
        pooled = [torch.cat([checkpoint(self.pool_chunk, video, start, use_reentrant=False,
                                        preserve_rng_state=False)
                             for start in range(0, len(video), self.chunk_frames)]) for video in videos]
        return split_like(self.fc_layers(torch.cat(pooled)), videos)

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
