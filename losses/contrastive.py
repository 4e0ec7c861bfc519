"""Contrastive inverse difference moment: frames near in time come together, frames far apart in time keep a margin."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import check_counts, check_positive, check_reduction
from losses.pairs import squared_distances, sum_over_blocks

WINDOW = 15  # frames to either side that count as near
MARGIN = 2.0  # squared distance that frames far apart in time should have at least
KEPT_ENTRIES = 2 ** 24  # beyond these the blocks are recomputed in the backward pass


def contrastive_loss(sequence: Tensor, *, window: int = WINDOW, margin: float = MARGIN,
                     reduction: str = 'mean') -> Tensor:
    """Keep a recording's frames apart unless they are near in time, against the collapse of an alignment.

    With ``D[i, j] = ||u_i - u_j||_2^2`` an entry is ``D`` where ``|i - j| <= window`` and ``W relu(margin - D)``
    elsewhere, ``W = ((i - j) / N)^2 + 1`` under 'mean' (mean over the N^2 entries) and ``W = (i - j)^2 + 1`` under
    'sum' (time in frames, entries summed).

    The paper weighs in frames, which gives the last frame of a long recording any weight; a published implementation
    leaves the entries within the window without gradient.

    Args:
        sequence: u, (N, E), float32 or float64.
        window: frames, >= 1.
        margin: squared distance, > 0.
        reduction: 'mean' or 'sum'.

    Returns:
        (), >= 0.

    Raises:
        ValueError: an argument out of its range.

    Reference:
        Haresh et al., Learning by Aligning Videos in Time, CVPR 2021, the Contrastive-IDM term.
    """
    check_counts(window=window)
    check_positive(margin=margin)
    check_reduction(reduction)
    length = len(sequence)
    block_loss = partial(_block_loss, sequence=sequence, window=window, margin=margin,
                         unit=length if reduction == 'mean' else 1)
    recompute = torch.is_grad_enabled() and length ** 2 > KEPT_ENTRIES
    total = sum_over_blocks(block_loss, length, length, recompute=recompute)
    return total / length ** 2 if reduction == 'mean' else total


def _block_loss(start: int, stop: int, *, sequence: Tensor, window: int, margin: float, unit: int) -> Tensor:
    """Sum the entries of the rows from ``start`` up to ``stop``, times in units of ``unit`` frames."""
    squares = squared_distances(sequence[start:stop], sequence)
    index = torch.arange(len(sequence), dtype=sequence.dtype, device=sequence.device)
    gap = index[start:stop].unsqueeze(1) - index
    weights = (gap / unit).square() + 1
    return torch.where(gap.abs() <= window, squares, weights * F.relu(margin - squares)).sum()
