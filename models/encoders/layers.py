"""Building blocks of networks over frames: layers, their initial weights, and the drop network."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMBEDDING_NORM = 3.0  # norm of a new encoder's embeddings: 30 times the softmax temperature of TCC and GTCC


def linear_stack(sizes: Sequence[int], activation: type[nn.Module]) -> list[nn.Module]:
    """Return linear layers from each size to the next, with an activation between every two layers."""
    layers: list[nn.Module] = []
    for into, out in zip(sizes[:-1], sizes[1:], strict=True):
        if layers:
            layers.append(activation())
        layers.append(nn.Linear(into, out))
    return layers


def split_like(frames: Tensor, videos: Sequence) -> list[Tensor]:
    """Split the concatenated frames of a batch, (sum of T_i, ...), into recordings, [(T_i, ...)]."""
    return list(frames.split([len(video) for video in videos]))


def require_positive(**sizes: int) -> None:
    """Raise a ValueError that names the first size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f'{name} is {size}, expected at least 1')


def initialize_(network: nn.Module, output_gain: float) -> None:
    """Initialize the weights of a network of convolutions, linear layers and ReLUs in place; biases become zero.

    Every layer except the last preserves the mean square of its inputs. With PyTorch's default initialization it
    shrinks by a factor of about 3 per layer: the embeddings of a deep encoder would start so close together, compared
    with the temperature of the losses, that the nearest frame of another recording would be arbitrary.

    Args:
        network: network whose layers with weights, in the order of its modules, are applied in sequence.
        output_gain: ratio of the root mean square of the network's outputs to that of its inputs.

    Reference:
        He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv1d | nn.Conv3d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    fan_in = layers[-1].weight[0].numel()
    nn.init.normal_(layers[-1].weight, std=output_gain / math.sqrt(fan_in))


def encoder_gain(output_dimensions: int) -> float:
    """Return the gain that turns features of mean square 1 into embeddings of norm :data:`EMBEDDING_NORM`."""
    return EMBEDDING_NORM / math.sqrt(output_dimensions)


class DropNetwork(nn.Sequential):
    """Drop vector of a recording: (T, E) -> (E + 1,), the mean over frames of a multi-layer perceptron.

    Args:
        embedding_dim: E.
        layers: sizes of the hidden layers.

    Reference:
        Donahue & Elhamifar, CVPR 2024.
    """

    def __init__(self, embedding_dim: int, layers: Sequence[int]) -> None:
        super().__init__(*linear_stack([embedding_dim, *layers, embedding_dim + 1], nn.ReLU))

    def forward(self, embeddings: Sequence[Tensor]) -> list[Tensor]:
        """Return the drop vectors [(E + 1,)] of recordings with embeddings [(T_i, E)]."""
        per_frame = super().forward(torch.cat(list(embeddings)))  # (sum of T_i, E) -> (sum of T_i, E + 1)
        return [frames.mean(dim=0) for frames in split_like(per_frame, embeddings)]  # (T_i, E + 1) -> (E + 1,)
