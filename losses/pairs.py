"""Functions shared by the alignment losses: distances, moments of frame indices, sums over blocks and pairs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.arguments import widen

NEAR = 0.05  # a pair is near if its distance is at most this fraction of the largest norm of a centered vector
MOST_NEAR = 0.1  # up to this fraction of near pairs, their gradient is computed by a sparse product
SMALL_ENTRIES = 2 ** 18  # a matrix of distances with at most as many has a cheaper gradient in float64
BLOCK_ENTRIES = 2 ** 22  # matrix entries per block of frames


def attached_zero(sequences: Sequence[Tensor]) -> Tensor:
    """Return a zero, (), attached to the graph of every sequence, so that the backward pass runs."""
    return torch.stack([(sequence * 0).sum() for sequence in sequences]).sum()


def euclidean_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Compute ``||rows[i] - columns[j]||_2``, accurate and differentiable even if two vectors coincide.

    It never builds an (n, m, E) tensor. The gradient at distance 0 is the subgradient 0.

    Args:
        rows: (n, E), float32 or float64.
        columns: (m, E), same dtype.

    Returns:
        Distances, (n, m), same dtype.
    """
    if rows.dtype == torch.float32 and rows.device.type != 'mps':
        return _Distances.apply(rows, columns)
    # No wider dtype is available here, so subtract entry by entry: slower, but without cancellation.
    return torch.cdist(rows, columns, compute_mode='donot_use_mm_for_euclid_dist')


def squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Compute ``||rows[i] - columns[j]||_2^2``, (n, E), (m, E) -> (n, m), without cancellation between near vectors."""
    return euclidean_distances(rows, columns).square()


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """Return the tensor; its gradient is multiplied by the factor on the way back."""
    return _ScaledGradient.apply(tensor, factor)


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class _Distances(torch.autograd.Function):
    """Accurate distances of float32 vectors by matrix products, several times faster than ``torch.cdist``.

    ``|u|^2 + |v|^2 - 2 u v`` cancels between near vectors. In float32 it is wrong for distances below 3e-4 |u|; in
    float64 only for distances below 1e-8 |u|, less than the rounding error of the inputs. The gradient
    ``sum_j p_j (u - v_j)``, computed as the difference of two sums, cancels too, but only in the terms of near vectors:
    these are summed in float64, the others in float32.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, columns: Tensor) -> Tensor:
        wide_rows, wide_columns = rows.double(), columns.double()
        squares = torch.addmm(wide_columns.square().sum(1), wide_rows, wide_columns.T, alpha=-2)  # (n, m)
        squares += wide_rows.square().sum(1, keepdim=True)
        distances = squares.to(rows.dtype).clamp_(min=0).sqrt_()
        ctx.save_for_backward(rows, columns, distances)
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, distances = ctx.saved_tensors
        if distances.numel() <= SMALL_ENTRIES:  # everything in float64, without a search for near pairs
            pull = (gradient / distances).masked_fill_(distances == 0, 0).double()
            return tuple(part.to(rows.dtype) for part in _pull_together(pull, rows.double(), columns.double()))
        center = columns.mean(0)  # subtracting it does not change the differences, but reduces rounding errors
        largest = torch.maximum(*((side - center).square().sum(1).max() for side in (rows, columns))).sqrt()
        near = (distances <= NEAR * largest).nonzero().unbind(1)  # row and column indices of the near pairs
        pull = gradient / distances  # (n, m), infinite for coincident vectors; these entries are set to 0 below
        if len(near[0]) > MOST_NEAR * pull.numel():
            gradients = _pull_together(pull.masked_fill_(distances == 0, 0).double(), rows.double(), columns.double())
        else:
            divisors = distances[near]
            quotients = torch.where(divisors == 0, 0, gradient[near] / divisors).double()
            # (n, m), with the near pairs only
            few = torch.sparse_coo_tensor(torch.stack(near), quotients, pull.shape, check_invariants=False)
            pull[near] = 0
            gradients = [far + close for far, close in zip(
                _pull_together(pull, rows - center, columns - center),
                _pull_together(few, rows.double(), columns.double()), strict=True)]
        return tuple(gradient.to(rows.dtype) for gradient in gradients)


def _pull_together(pull: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``sum_j p_ij (u_i - v_j)``, (n, E), and ``sum_i p_ij (v_j - u_i)``, (m, E); p, (n, m), may be sparse."""
    # (n,) and (m,); sums of a sparse tensor are sparse.
    row_sums, column_sums = (sums.to_dense() if sums.is_sparse else sums for sums in (pull.sum(1), pull.sum(0)))
    return row_sums.unsqueeze(1) * rows - pull @ columns, column_sums.unsqueeze(1) * columns - pull.T @ rows


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
