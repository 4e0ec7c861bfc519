"""Contrastive inverse difference moment: attracts frames close in time, repels frames far apart in time."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import check_positive, check_reduction
from losses.distances import squared_distances
from losses.pairs import sum_over_blocks

WINDOW = 0.1  # fraction of the recording on either side that counts as close in time
MARGIN = 2.0  # smallest squared distance that frames far apart in time should have
KEPT_ENTRIES = 2 ** 24  # if there are more entries, the backward pass recomputes the blocks


def contrastive_loss(sequence: Tensor, *, window: float = WINDOW, margin: float = MARGIN,
                     reduction: str = 'mean') -> Tensor:
    """Compute the contrastive term, which keeps an alignment loss from mapping all frames to one point.

    With ``D[i, j] = ||u_i - u_j||_2^2``, the entry of a pair of frames is ``D`` if ``|i - j| <= w`` and
    ``W relu(margin - D)`` otherwise. A ``window`` below 1 is a fraction of the recording,
    ``w = max(1, round(window N))``, so that the value does not depend on the frame rate; from 1 on it is w itself, in
    frames (published: 15). With 'mean', ``W = ((i - j) / N)^2 + 1`` and the loss is the mean over the N^2 entries; with
    'sum', ``W = (i - j)^2 + 1`` (time in frames) and the entries are summed.

    The paper measures time in frames, so the weights grow without bound with the length of a recording. A published
    implementation does not propagate a gradient through the entries within the window.

    Args:
        sequence: u, (N, E), float32 or float64.
        window: fraction of the recording, in (0, 1), or frames, >= 1.
        margin: squared distance, > 0.
        reduction: 'mean' or 'sum'.

    Returns:
        Loss, (), >= 0.

    Raises:
        ValueError: an argument is out of range.

    Reference:
        Haresh et al., Learning by Aligning Videos in Time, CVPR 2021, the Contrastive-IDM term.
    """
    check_positive(window=window, margin=margin)
    check_reduction(reduction)
    length = len(sequence)
    frames = max(1, round(window * length)) if window < 1 else window
    block_loss = partial(_block_loss, sequence=sequence, window=frames, margin=margin,
                         unit=length if reduction == 'mean' else 1)
    # Without a gradient nothing is kept, so there is nothing to recompute.
    recompute = torch.is_grad_enabled() and length ** 2 > KEPT_ENTRIES
    total = sum_over_blocks(block_loss, length, length, recompute=recompute)
    return total / length ** 2 if reduction == 'mean' else total


def _block_loss(start: int, stop: int, *, sequence: Tensor, window: float, margin: float, unit: int) -> Tensor:
    """Sum the entries of the rows ``start`` to ``stop - 1``, with time in units of ``unit`` frames."""
    squares = squared_distances(sequence[start:stop], sequence)  # (b, N), b rows of the block
    index = torch.arange(len(sequence), dtype=sequence.dtype, device=sequence.device)
    gap = index[start:stop].unsqueeze(1) - index  # (b, N)
    weights = (gap / unit).square() + 1
    return torch.where(gap.abs() <= window, squares, weights * F.relu(margin - squares)).sum()
