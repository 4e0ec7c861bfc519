"""Functions shared by the alignment losses: moments of frame indices, sums over blocks and pairs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.arguments import widen

BLOCK_ENTRIES = 2 ** 22  # matrix entries per block of frames
# Products of small weights and small gradients would be subnormal float32 numbers, several times slower on a CPU, so
# functions that compute their own gradient scale it inside; a power of two changes no digit of it.
GRADIENT_SCALE = 2.0 ** 40


def attached_zero(sequences: Sequence[Tensor]) -> Tensor:
    """Return a zero, (), attached to the graph of every sequence, so that the backward pass runs."""
    return torch.stack([(sequence * 0).sum() for sequence in sequences]).sum()


def index_moments(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and variance of the frame index under weights over frames.

    Args:
        weights: (..., N), >= 0; each row has a positive sum, which need not be exactly 1.

    Returns:
        Mean in [0, N - 1] and variance >= 0, each (...), in float64 if the device supports it: the second moment minus
        the squared mean cancels, and in float32 its error exceeds a squared frame for a few thousand frames.
    """
    weights = widen(weights)
    index = torch.arange(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    moments = weights @ torch.stack([torch.ones_like(index), index, index.square()], dim=1)  # (..., N) -> (..., 3)
    mean, second = (moments[..., 1:] / moments[..., :1]).unbind(-1)
    return mean, (second - mean.square()).clamp(min=0)


def returned_index_gradients(betas: Tensor, means: Tensor, variances: Tensor, slopes: Tensor,
                             curvatures: Tensor) -> Tensor:
    """Compute the gradients of the distances from which frames are returned to.

    A softmax subtracts the mean of the gradient under its weights. With p and q the gradients of mean and variance, the
    gradient of the distance to frame k is ``-beta_k (p t + q (t^2 - sigma^2))`` with ``t = k - mu``.

    Args:
        betas: softmax of the negative distances, (..., N).
        means: mu, mean index under the weights, (...).
        variances: sigma^2, (...).
        slopes: p, (...).
        curvatures: q, (...).

    Returns:
        Gradients, (..., N), in the dtype of the weights.
    """
    means, slopes, curvatures, constants = torch.stack(
        [means, -slopes, -curvatures, -curvatures * variances]).to(betas.dtype).unsqueeze(-1)  # (..., 1) each
    offsets = torch.arange(betas.shape[-1], dtype=betas.dtype, device=betas.device) - means  # t, (..., N)
    return torch.addcmul(slopes, curvatures, offsets).mul_(offsets).sub_(constants).mul_(betas)


def sum_over_blocks(block_loss: Callable[[int, int], Tensor], length: int, entries_per_row: int, *,
                    recompute: bool) -> Tensor:
    """Sum a loss over blocks of consecutive frames, so that no large matrix is needed.

    Args:
        block_loss: ``(start, stop) -> ()``, the sum over the frames ``start`` to ``stop - 1``.
        length: number of frames.
        entries_per_row: matrix entries per frame.
        recompute: recompute each block in the backward pass instead of keeping it in memory.

    Returns:
        Sum, (), with the graph of all blocks.
    """
    rows = max(1, BLOCK_ENTRIES // entries_per_row)
    totals = []
    for start in range(0, length, rows):
        block = start, min(start + rows, length)
        totals.append(checkpoint(block_loss, *block, use_reentrant=False, preserve_rng_state=False) if recompute
                      else block_loss(*block))
    return torch.stack(totals).sum()


def reduce_symmetric(pair_terms: Sequence[Tensor], sequence_terms: Sequence[Tensor], weight: float,
                     reduction: str) -> Tensor:
    """Reduce ``pair(u, v) + weight * (single(u) + single(v))`` over ordered pairs; each term is computed only once.

    Args:
        pair_terms: n (n - 1) / 2 terms, each (), one per unordered pair; they are the same for both orders.
        sequence_terms: n >= 2 terms, each (), one per sequence.
        weight: weight of the terms of single sequences.
        reduction: 'mean' or 'sum'.

    Returns:
        Loss, ().
    """
    pairs, singles = torch.stack(list(pair_terms)), torch.stack(list(sequence_terms))
    if reduction == 'mean':
        return pairs.mean() + 2 * weight * singles.mean()
    # Each unordered pair counts twice; each sequence is in n - 1 of them.
    return 2 * (pairs.sum() + weight * (len(singles) - 1) * singles.sum())
