"""What networks over frames are built from: layers, their initial weights, and the drop network."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMBEDDING_NORM = 3.0  # of a new encoder's embeddings: 30 of the softmax temperatures of TCC and GTCC


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


def initialize_(network: nn.Module, output_gain: float) -> None:
    """Set the weights of a network of convolutions, linear layers and ReLUs; in place, biases to zero.

    Every layer but the last keeps the mean square of what passes through it. torch's own initial weights let it shrink
    by about 3 from layer to layer: the embeddings of a deep encoder would start so close to one point, compared with
    the temperature of the losses, that the nearest frame of another recording could not be told from any other.

    Args:
        network: its layers of weights, in the order of its modules, are applied one after the other.
        output_gain: root mean square of the network's outputs over that of its inputs.

    Reference:
        He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv1d | nn.Conv3d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=output_gain / math.sqrt(layers[-1].weight[0].numel()))


def encoder_gain(output_dimensions: int) -> float:
    """Return the gain with which features of mean square 1 become embeddings of norm :data:`EMBEDDING_NORM`."""
    return EMBEDDING_NORM / math.sqrt(output_dimensions)


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
