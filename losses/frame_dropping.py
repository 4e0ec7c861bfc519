"""Weights for frames of one recording that have no counterpart in another, from the drop vector of the other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.arguments import at_least_float32


def check_drop_vectors(dropouts: Sequence[Tensor] | None, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Check that there is one drop vector per sequence, and convert them to the sequences' dtype.

    Args:
        dropouts: one drop vector (E + 1,) per sequence: E weights and a bias.
        sequences: embeddings, each (T_i, E).

    Returns:
        The drop vectors in the sequences' dtype.

    Raises:
        ValueError: ``dropouts`` is None, has the wrong length, or contains a vector of the wrong shape.
    """
    if dropouts is None:
        raise ValueError('dropouts is None, expected one drop vector per sequence: gamma < 1 weights frames by '
                         'them (gamma = 1 does not use them)')
    if len(dropouts) != len(sequences):
        raise ValueError(f'dropouts contains {len(dropouts)} vectors, expected {len(sequences)}, one per sequence')
    expected_shape = (sequences[0].shape[1] + 1,)
    for index, vector in enumerate(dropouts):
        if tuple(vector.shape) != expected_shape:
            raise ValueError(f'dropouts[{index}] has shape {tuple(vector.shape)}, expected {expected_shape}: a weight '
                             'per dimension and a bias')
    return [at_least_float32(vector).to(sequences[0].dtype) for vector in dropouts]


def drop_weights(sequence: Tensor, drop_vector: Tensor, floor: float) -> Tensor:
    """Compute the weight with which each frame is kept rather than dropped.

    Args:
        sequence: (N, E).
        drop_vector: drop vector of the other sequence, (E + 1,): E weights and a bias.
        floor: f, smallest weight, in [0, 1].

    Returns:
        Weights, (N,), in [f, 1]: ``f + (1 - f) sigmoid(z)`` with the scores z standardized over the sequence.
    """
    # The bias shifts all scores equally, so standardization cancels it; adding it would only lose precision.
    scores = sequence @ drop_vector[:-1]  # (N, E) @ (E,) -> (N,)
    centered = scores - scores.mean()
    variance = centered.square().mean()
    # Equal scores still differ by rounding errors; standardizing them would amplify that noise to a std of 1.
    rounding = 8 * torch.finfo(scores.dtype).eps * scores.detach().abs().max()
    spread_out = variance > rounding.square()
    standardized = torch.where(spread_out, centered / torch.where(spread_out, variance, 1).sqrt(), 0)
    return floor + (1 - floor) * torch.sigmoid(standardized)
