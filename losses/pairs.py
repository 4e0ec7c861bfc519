"""What the alignment losses share: distances, moments over frame indices, blocks of rows, sums over pairs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.arguments import widen

NEAR = 0.05  # vectors are near below this share of the largest one's norm
MOST_NEAR = 0.1  # share of near pairs up to which their gradient is a sparse product
BLOCK_ENTRIES = 2 ** 22  # entries of the matrices that one block of frames works on


def attached_zero(sequences: Sequence[Tensor]) -> Tensor:
    """Return a zero, (), that hangs on the graph of every sequence, so that its backward pass runs."""
    return torch.stack([(sequence * 0).sum() for sequence in sequences]).sum()


def euclidean_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Compute ``||rows[i] - columns[j]||_2``, exact and differentiable also where two rows coincide.

    Never builds an (n, m, E) tensor. The gradient at distance 0 is the subgradient 0.

    Args:
        rows: (n, E), float32 or float64.
        columns: (m, E), same dtype.

    Returns:
        (n, m), same dtype.
    """
    if rows.dtype == torch.float32 and rows.device.type != 'mps':
        return _Distances.apply(rows, columns)
    # Nothing is wider than float64, so differences are taken entry by entry: slower, but free of cancellation.
    return torch.cdist(rows, columns, compute_mode='donot_use_mm_for_euclid_dist')


def squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Compute ``||rows[i] - columns[j]||_2^2``: (n, E), (m, E) -> (n, m), without cancellation between near rows."""
    return euclidean_distances(rows, columns).square()


class _Distances(torch.autograd.Function):
    """Distances of float32 rows by matrix products, several times faster than ``torch.cdist``, and exact.

    Between near vectors ``|u|^2 + |v|^2 - 2 u v`` cancels: in float32 it is wrong from distances of 3e-4 |u| down, in
    float64 from 1e-8 |u|, which is below the rounding of the inputs. So does the gradient ``sum_j p_j (u - v_j)`` as
    the difference of two sums, but only in the terms of near vectors: the others are summed in float32.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, columns: Tensor) -> Tensor:
        wide_rows, wide_columns = rows.double(), columns.double()
        squares = torch.addmm(wide_columns.square().sum(1), wide_rows, wide_columns.T, alpha=-2)
        squares += wide_rows.square().sum(1, keepdim=True)
        distances = squares.to(rows.dtype).clamp_(min=0).sqrt_()
        ctx.save_for_backward(rows, columns, distances)
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, distances = ctx.saved_tensors
        centre = columns.mean(0)  # the differences do not depend on it, their rounding does
        largest = torch.maximum(*((side - centre).square().sum(1).max() for side in (rows, columns))).sqrt()
        near = (distances <= NEAR * largest).nonzero().unbind(1)
        pull = gradient / distances  # coincident vectors have no direction to pull in: infinite there, and set to 0
        if len(near[0]) > MOST_NEAR * pull.numel():
            gradients = _pull_together(pull.masked_fill_(distances == 0, 0).double(), rows.double(), columns.double())
        else:
            divisors = distances[near]
            quotients = torch.where(divisors == 0, 0, gradient[near] / divisors).double()
            few = torch.sparse_coo_tensor(torch.stack(near), quotients, pull.shape, check_invariants=False)
            pull[near] = 0
            gradients = [far + close for far, close in zip(
                _pull_together(pull, rows - centre, columns - centre),
                _pull_together(few, rows.double(), columns.double()), strict=True)]
        return tuple(gradient.to(rows.dtype) for gradient in gradients)


def _pull_together(pull: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``sum_j p_ij (u_i - v_j)``, (n, E), and ``sum_i p_ij (v_j - u_i)``, (m, E), of p (n, m), maybe sparse."""
    row_sums, column_sums = (sums.to_dense() if sums.is_sparse else sums for sums in (pull.sum(1), pull.sum(0)))
    return row_sums.unsqueeze(1) * rows - pull @ columns, column_sums.unsqueeze(1) * columns - pull.T @ rows


def index_moments(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and variance of the frame index under weights over frames.

    Args:
        weights: (..., N), >= 0, each row of positive sum; rows need not sum to exactly 1.

    Returns:
        Mean in [0, N - 1] and variance >= 0, each (...), float64 where the device has it: the second moment minus
        the squared mean cancels, in float32 by more than a squared frame from some thousand frames on.
    """
    weights = widen(weights)
    index = torch.arange(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    moments = weights @ torch.stack([torch.ones_like(index), index, index.square()], dim=1)
    mean, second = (moments[..., 1:] / moments[..., :1]).unbind(-1)
    return mean, (second - mean.square()).clamp(min=0)


def sum_over_blocks(block_loss: Callable[[int, int], Tensor], length: int, entries_per_row: int, *,
                    recompute: bool) -> Tensor:
    """Sum a loss over blocks of consecutive frames, none of which works on a large matrix.

    Args:
        block_loss: ``(start, stop) -> ()``, the sum over the frames from ``start`` up to ``stop``.
        length: number of frames.
        entries_per_row: entries of the matrices that one frame takes.
        recompute: whether a block is computed again in the backward pass instead of being kept until then.

    Returns:
        (), with the graph of all blocks.
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
    """Reduce ``pair(u, v) + weight * (single(u) + single(v))`` over ordered pairs, from each term computed once.

    Args:
        pair_terms: the n (n - 1) / 2 terms of unordered pairs, each (), the same for both orders.
        sequence_terms: the n >= 2 terms of single sequences, each ().
        weight: of the single terms.
        reduction: 'mean' or 'sum'.

    Returns:
        ().
    """
    pairs, singles = torch.stack(list(pair_terms)), torch.stack(list(sequence_terms))
    if reduction == 'mean':
        return pairs.mean() + 2 * weight * singles.mean()
    return 2 * (pairs.sum() + weight * (len(singles) - 1) * singles.sum())
