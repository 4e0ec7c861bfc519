"""Small encoders and recordings for the tests of encoders."""

import torch

from models.encoders import NaiveEncoder, RecurrentEncoder, Resnet50Encoder, ShortMemoryEncoder, StackingEncoder


def stacking(**changes):
    return StackingEncoder(**{'temporal_depth': 2, 'conv_num_channels': 16, 'output_dimensions': 8,
                              'input_dimensions': 5, **changes})


def naive(**changes):
    return NaiveEncoder(**{'layers': [7, 6], 'output_dimensions': 8, 'input_dimensions': 5, **changes})


def recurrent(**changes):
    return RecurrentEncoder(**{'hidden_dim': 6, 'output_dimensions': 8, 'input_dimensions': 5, **changes})


def short_memory(**changes):
    return ShortMemoryEncoder(**{'hidden_dim': 6, 'layers': 2, 'output_dimensions': 8, 'input_dimensions': 5,
                                 **changes})


def resnet(**changes):
    return Resnet50Encoder(**{'temporal_depth': 2, 'in_size': 5, 'output_dimensions': 8, **changes})


def recordings(encoder, *lengths):
    rest = (3, 2) if encoder.input_axes == 'TCHW' else ()
    return [torch.randn(length, encoder.input_width, *rest) for length in lengths]


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
