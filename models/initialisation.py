"""Initial weights of encoders and heads."""

import math

from torch import nn

EMBEDDING_NORM = 3.0  # 30 of the softmax temperatures of TCC and GTCC


def initialise_(network: nn.Module, output_gain: float) -> None:
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
