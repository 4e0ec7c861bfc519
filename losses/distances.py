"""Distances between vectors and their gradients, accurate even if vectors nearly coincide."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

MOST_CANCELLATION = 16  # largest rounding error of float32 gradients of distances, in units of that of the largest one
SMALL_ENTRIES = 2 ** 18  # up to so many distances, float64 takes less time than to find out whether it is needed
GRADIENT_ENTRIES = 2 ** 20  # distances whose gradients are divided by them at once: 8 MiB in float64


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
        if center is None:
            wide = widen(vectors)
            return cls(vectors, wide, wide.square().sum(-1))
        wide = (vectors - center).mul_(scale)
        return cls(wide.to(vectors.dtype), wide, wide.square().sum(-1))

    def part(self, index: slice | tuple[slice, slice] | Tensor) -> 'Vectors':
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
    return _squares_by_product(rows, columns).to(rows.narrow.dtype).clamp_(min=0).sqrt_()


def squared_distance_matrix(rows: Vectors, columns: Vectors) -> Tensor:
    """Compute squared Euclidean distances, (n, m), in float64 if the device supports it, without a graph."""
    if rows.narrow.dtype == rows.wide.dtype:
        return distance_matrix(rows, columns).square_()
    return _squares_by_product(rows, columns).clamp_(min=0)


def _squares_by_product(rows: Vectors, columns: Vectors) -> Tensor:
    """Compute ``|u|^2 + |v|^2 - 2 u v``, (..., n, m), in float64."""
    add_product = torch.addmm if rows.wide.ndim == 2 else torch.baddbmm
    squares = add_product(columns.squares.unsqueeze(-2), rows.wide, columns.wide.mT, alpha=-2)
    return squares.add_(rows.squares.unsqueeze(-1))


class GradientSum(NamedTuple):
    """Gradients of vectors, added up from blocks of distances without a pass over all vectors for each block.

    Attributes:
        products: sum of everything but the multiples of the vectors themselves, (n, E), in their dtype.
        factors: of the vectors, (n,).
    """

    products: Tensor
    factors: Tensor

    @classmethod
    def of(cls, vectors: Vectors) -> 'GradientSum':
        """Return a sum of 0."""
        return cls(torch.zeros_like(vectors.narrow), torch.zeros_like(vectors.squares))

    def part(self, index: slice) -> 'GradientSum':
        """Return the gradients of some of the vectors, in the same memory."""
        return GradientSum(self.products[index], self.factors[index])

    def total(self, vectors: Vectors) -> Tensor:
        """Return the gradients, (n, E)."""
        return torch.addcmul(self.products, self.factors.unsqueeze(-1).to(self.products.dtype), vectors.narrow)


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
    pull, cancels = _pulls(gradient, distances, radius)
    if cancels:
        return _pull_together(widen(pull), rows.wide, columns.wide)
    return _pull_together(pull, rows.narrow, columns.narrow)


def add_distance_gradients(gradient: Tensor, distances: Tensor, rows: Vectors, columns: Vectors, radius: float,
                           column_sum: GradientSum) -> Tensor:
    """Compute :func:`distance_gradients` of matrices, (n, m); return those of the rows, and add those of the columns.

    Args:
        gradient: of the distances, (n, m).
        distances: (n, m).
        rows: u, n vectors.
        columns: v, m vectors, with the same center.
        radius: largest norm of the vectors.
        column_sum: to which the gradients of the columns are added.

    Returns:
        Gradients of the rows, (n, E), in the dtype of the embeddings.
    """
    pull, cancels = _pulls(gradient, distances, radius)
    if cancels:
        row_gradients, column_gradients = _pull_together(widen(pull), rows.wide, columns.wide)
        column_sum.products.add_(column_gradients)
        return row_gradients.to(rows.narrow.dtype)
    column_sum.products.addmm_(pull.T, rows.narrow, alpha=-1)
    column_sum.factors.add_(pull.sum(0))
    return torch.addmm(pull.sum(1, keepdim=True) * rows.narrow, pull, columns.narrow, alpha=-1)


def _pulls(gradient: Tensor, distances: Tensor, radius: float) -> tuple[Tensor, bool]:
    """Return ``p`` of :func:`distance_gradients`, and whether the sums have to be computed in float64."""
    pull = gradient / F.threshold(distances, 0, torch.inf)
    return pull, not pull.abs().amax().item() * radius <= MOST_CANCELLATION * gradient.abs().amax().item()


def _pull_together(pull: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``sum_j p_ij (u_i - v_j)``, (..., n, E), and ``sum_i p_ij (v_j - u_i)``, (..., m, E), from p."""
    return ((pull.sum(-1, keepdim=True) * rows).sub_(pull @ columns),
            (pull.sum(-2).unsqueeze(-1) * columns).sub_(pull.mT @ rows))
