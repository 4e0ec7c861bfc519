"""How much a frame of one recording is kept when it is aligned with another, from that one's drop vector."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.arguments import at_least_float32


def check_drop_vectors(dropouts: Sequence[Tensor] | None, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Check that there is one drop vector per sequence, and give them the sequences' precision.

    Args:
        dropouts: drop vectors, one (E + 1,) per sequence: E weights and a bias.
        sequences: embeddings, each (T_i, E).

    Returns:
        The drop vectors, of the sequences' dtype.

    Raises:
        ValueError: no vectors, another number of them, or one of another width.
    """
    if dropouts is None:
        raise ValueError('dropouts is None, expected one drop vector per sequence: gamma < 1 weighs frames by them '
                         '(gamma = 1 needs none)')
    if len(dropouts) != len(sequences):
        raise ValueError(f'dropouts holds {len(dropouts)} vectors, expected {len(sequences)}, one per sequence')
    width = sequences[0].shape[1] + 1
    for index, vector in enumerate(dropouts):
        if tuple(vector.shape) != (width,):
            raise ValueError(f'dropouts[{index}] has shape {tuple(vector.shape)}, expected ({width},): a weight per '
                             'dimension and a bias')
    return [at_least_float32(vector).to(sequences[0].dtype) for vector in dropouts]


def drop_weights(sequence: Tensor, drop_vector: Tensor, floor: float) -> Tensor:
    """Compute how much each frame is kept rather than dropped.

    Args:
        sequence: (N, E).
        drop_vector: (E + 1,) of the other sequence: E weights and a bias.
        floor: f in [0, 1].

    Returns:
        (N,), in [f, 1]: ``f + (1 - f) sigmoid(z)``, z standardised over the sequence.
    """
    # The bias moves all scores alike, so it is gone once they are standardised; added, it would cost them digits.
    scores = sequence @ drop_vector[:-1]
    centred = scores - scores.mean()
    variance = centred.square().mean()
    # Equal scores differ by their rounding: to standardise that would blow noise up to a spread of one.
    rounding = 8 * torch.finfo(scores.dtype).eps * scores.detach().abs().max()
    spread_out = variance > rounding.square()
    standardised = torch.where(spread_out, centred / torch.where(spread_out, variance, 1).sqrt(), 0)
    return floor + (1 - floor) * torch.sigmoid(standardised)
