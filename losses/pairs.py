"""Functions shared by the alignment losses: distances, moments of frame indices, sums over blocks and pairs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.arguments import widen

MOST_CANCELLATION = 16  # largest rounding error of float32 gradients of distances, in units of that of the largest one
BLOCK_ENTRIES = 2 ** 22  # matrix entries per block of frames
SMALL_ENTRIES = 2 ** 18  # up to so many distances, float64 takes less time than to find out whether it is needed
GRADIENT_ENTRIES = 2 ** 20  # distances whose gradients are divided by them at once: 8 MiB in float64


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


class Vectors(NamedTuple):
    """Vectors minus a center that all vectors compared with them share; it changes no distance.

    Attributes:
        narrow: (..., n, E), in the dtype of the embeddings.
        wide: the same in float64, if the device supports it.
        squares: squared norms, (..., n), in float64.
    """

    narrow: Tensor
    wide: Tensor
    squares: Tensor

    @classmethod
    def of(cls, vectors: Tensor, center: Tensor | None = None, scale: float = 1.0) -> 'Vectors':
        """Return vectors, (..., n, E), minus a center, (E,), times a factor."""
        wide = widen(vectors)
        if center is None:
            return cls(vectors, wide, wide.square().sum(-1))
        wide = (wide - center) * scale
        return cls(wide.to(vectors.dtype), wide, wide.square().sum(-1))

    def part(self, index: slice | tuple[slice, slice]) -> 'Vectors':
        """Return some of the vectors."""
        return Vectors(self.narrow[index], self.wide[index], self.squares[index])

    def flat(self) -> 'Vectors':
        """Return the vectors of a batch, (r, n, E), one after the other, (r n, E)."""
        return Vectors(self.narrow.flatten(0, 1), self.wide.flatten(0, 1), self.squares.flatten())


class _Distances(torch.autograd.Function):
    """Distances of float32 vectors by matrix products, several times faster than ``torch.cdist``."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, columns: Tensor) -> Tensor:
        distances = distance_matrix(Vectors.of(rows), Vectors.of(columns))
        ctx.save_for_backward(rows, columns, distances)
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, distances = ctx.saved_tensors
        if distances.numel() <= SMALL_ENTRIES:
            pull = (gradient / F.threshold(distances, 0, torch.inf)).double()
            return tuple(part.to(rows.dtype) for part in _pull_together(pull, rows.double(), columns.double()))
        center = widen(columns).mean(0)
        rows, columns = Vectors.of(rows, center), Vectors.of(columns, center)
        radius = max(side.squares.max().item() for side in (rows, columns)) ** 0.5
        row_gradients, column_gradients = torch.empty_like(rows.wide), torch.zeros_like(columns.wide)
        size = max(1, GRADIENT_ENTRIES // distances.shape[1])
        for start in range(0, len(distances), size):
            block = slice(start, start + size)
            row_gradients[block], added = distance_gradients(
                gradient[block], distances[block], rows.part(block), columns, radius)
            column_gradients += added
        return row_gradients.to(gradient.dtype), column_gradients.to(gradient.dtype)


def distance_matrix(rows: Vectors, columns: Vectors) -> Tensor:
    """Compute Euclidean distances, (n, m), in the dtype of the embeddings, without a graph.

    ``|u|^2 + |v|^2 - 2 u v`` cancels between near vectors. In float32 it is wrong for distances below 3e-4 |u|; in
    float64 only for distances below 1e-8 |u|, less than the rounding error of float32 vectors.
    """
    if rows.narrow.dtype == rows.wide.dtype:  # no wider dtype: subtract entry by entry
        return torch.cdist(rows.wide, columns.wide, compute_mode='donot_use_mm_for_euclid_dist')
    add_product = torch.addmm if rows.wide.ndim == 2 else torch.baddbmm
    squares = add_product(columns.squares.unsqueeze(-2), rows.wide, columns.wide.mT, alpha=-2)  # (..., n, m)
    squares += rows.squares.unsqueeze(-1)
    return squares.to(rows.narrow.dtype).clamp_(min=0).sqrt_()


def distance_gradients(gradient: Tensor, distances: Tensor, rows: Vectors, columns: Vectors,
                       radius: float) -> tuple[Tensor, Tensor]:
    """Compute the gradients of vectors, given those of their distances.

    They are ``sum_j p_ij (u_i - v_j)`` and ``sum_i p_ij (v_j - u_i)``, where ``p`` is the gradient of a distance
    divided by the distance; at distance 0 it is 0. As differences of two sums they cancel in the terms of near vectors:
    the rounding error is that of ``p`` times the vectors' norms. If that is much more than the largest gradient, they
    are summed in float64.

    Args:
        gradient: of the distances, (..., n, m).
        distances: (..., n, m).
        rows: u, (..., n) vectors.
        columns: v, (..., m) vectors, with the same center.
        radius: largest norm of the vectors.

    Returns:
        Gradients of the rows, (..., n, E), and of the columns, (..., m, E).
    """
    pull = gradient / F.threshold(distances, 0, torch.inf)
    if pull.abs().amax().item() * radius <= MOST_CANCELLATION * gradient.abs().amax().item():
        return _pull_together(pull, rows.narrow, columns.narrow)
    return _pull_together(widen(pull), rows.wide, columns.wide)


def _pull_together(pull: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``sum_j p_ij (u_i - v_j)``, (..., n, E), and ``sum_i p_ij (v_j - u_i)``, (..., m, E), from p."""
    return ((pull.sum(-1, keepdim=True) * rows).sub_(pull @ columns),
            (pull.sum(-2).unsqueeze(-1) * columns).sub_(pull.mT @ rows))


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
