"""Alignment by order-preserving optimal transport; virtual frames take frames that have no counterpart."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import (
    check_counts,
    check_non_negative,
    check_positive,
    check_reduction,
    check_sequences,
    widen,
)
from losses.contrastive import MARGIN, WINDOW, contrastive_loss
from losses.distances import Vectors, squared_distance_matrix
from losses.pairs import attached_zero, reduce_symmetric
from losses.transport import Partners, evaluate_plan, transport_plan

PHASE_DECAY, SMALLEST_PHASE = 0.999, 0.001
KEPT_ENTRIES = 2 ** 22  # most distances of a pair kept in memory, 32 MiB, instead of computing them four times


def VAVA_loss(sequences: Sequence[Tensor], maxIter: int = 20, lambda1: float = 1, lambda2: float = 0.1,
              gamma: float = 100.0, zeta: float = 0.5, delta: float = 0.6, global_step: int = 0, *,
              window: float = WINDOW, reduction: str = 'mean') -> Tensor:
    """Compute order-preserving optimal transport plus contrastive terms over all ordered pairs of different sequences.

    The loss of a pair (u, v) is ``F + gamma (C(u) + C(v) + C(u, v))``. ``F`` is the minimum of the objective of
    :func:`transport_plan` for the squared Euclidean distances ``D``. **Its gradient is the plan** (envelope theorem,
    with prior and plan held constant), which is exact once the Sinkhorn iterations have converged. ``C(u)`` is
    :func:`losses.contrastive.contrastive_loss`. ``C(u, v)`` has two terms for each frame of both sequences: the squared
    distance to its best match, if the plan prefers this match to the virtual frame, and ``relu(2 - squared distance)``
    for its worst match.

    With 'mean', ``C(u, v)`` is a mean over the N + M frames, ``C(u)`` a mean over its entries, the loss of a pair is
    divided by the sum of its weights, ``1 + 3 gamma``, and the loss is a mean over pairs; with 'sum', they are sums
    (``F`` moves a total mass of 1 in both cases). The transport problem of a pair is solved in both orders, so neither
    the order of the recordings nor the direction of time changes loss or gradient.

    A published implementation uses the plan's total mass, a constant, as the transport term, multiplies the weights
    again in every pair, and makes the plan uniform by a regularization of N; neither the paper nor this function does.
    Its weight of the contrastive terms, 0.5, is for sums over entries. With means, the transport term would dominate
    and pull together frames at the same relative time, before the embeddings of a new network are meaningful.
    Its distances are not squared: their gradient does not decrease as frames approach each other, while that of the
    contrastive terms does, so embeddings that are close together at the start collapse to one point.

    Args:
        sequences: embeddings, each (T_i, E), T_i >= 1; lengths may differ.
        maxIter: largest number of Sinkhorn iterations, >= 2; half of them compute the plan for the distances alone.
        lambda1: weight of the inverse difference moment, >= 0.
        lambda2: weight of the divergence from the prior, > 0.
        gamma: weight of the contrastive terms, >= 0.
        zeta: cost of the virtual frame, a squared distance, > 0.
        delta: std of the prior, in frames, > 0.
        global_step: steps done so far, >= 0; training passes the epoch. As the phase ``0.999^(global_step + 1)``
            decreases, the prior moves from temporal order to the best matches.
        window: frames close in time, as a fraction of the recording, in (0, 1), or in frames, >= 1.
        reduction: 'mean' or 'sum'.

    Returns:
        Loss, (), in the sequences' dtype, at least float32. It can be negative. For a single sequence it is a zero
        attached to the graph.

    Raises:
        ValueError: an argument has the wrong shape or is out of range.

    Reference:
        Liu et al., Learning to Align Sequential Actions in the Wild, CVPR 2022; Su & Hua, Order-preserving Wasserstein
        Distance for Sequence Matching, CVPR 2017.
    """
    check_counts(smallest=2, maxIter=maxIter)
    check_counts(smallest=0, global_step=global_step)
    check_positive(lambda2=lambda2, zeta=zeta, delta=delta, window=window)
    check_non_negative(lambda1=lambda1, gamma=gamma)
    check_reduction(reduction)
    sequences = check_sequences(sequences)
    if len(sequences) == 1:
        return attached_zero(sequences)
    phase = max(PHASE_DECAY ** (global_step + 1), SMALLEST_PHASE)
    pair_terms = []
    with torch.autocast(sequences[0].device.type, enabled=False):
        for first, second in itertools.combinations(sequences, 2):
            moved = _Moves(first, second)
            plan = transport_plan(moved.squares, (len(first), len(second)), moved.like, maxIter, lambda1, lambda2, zeta,
                                  delta, phase)
            value = evaluate_plan(plan, moved.add_gradient if torch.is_grad_enabled() else None)
            transport = _Objective.apply(first, second, value.objective, moved.gradients())
            contrast = match_contrast(first, second, value.of_rows, value.of_columns, reduction)
            pair_terms.append(transport + gamma * contrast)
        contrasts = [contrastive_loss(sequence, window=window, reduction=reduction) for sequence in sequences]
        loss = reduce_symmetric(pair_terms, contrasts, gamma, reduction)
        # A weighted mean of terms, each of which is about 1 for the embeddings of a new network.
        return loss / (1 + 3 * gamma) if reduction == 'mean' else loss


class _Moves:
    """Squared distances between the frames of u (N) and v (M), and the gradient of their sum under a plan."""

    @torch.no_grad()
    def __init__(self, first: Tensor, second: Tensor) -> None:
        frames = torch.cat([first, second])
        vectors = Vectors.of(frames, widen(frames).mean(0))
        self.rows, self.columns = vectors.part(slice(len(first))), vectors.part(slice(len(first), None))
        self.like = self.rows.squares
        entries = len(first) * len(second)
        self.kept = squared_distance_matrix(self.rows, self.columns) if entries <= KEPT_ENTRIES else None
        # sum_j T_ij (u_i - v_j) is the row sum times u_i minus a product, and so for the columns.
        self.row_gradient = torch.zeros_like(self.rows.wide)
        self.column_products = torch.zeros_like(self.columns.wide)
        self.column_sums = torch.zeros_like(self.columns.squares)

    def squares(self, block: slice) -> Tensor:
        """Return the squared distances of some frames of u, (b, M), as a new tensor."""
        if self.kept is not None:
            return self.kept[block].clone()
        return squared_distance_matrix(self.rows.part(block), self.columns)

    @torch.no_grad()
    def add_gradient(self, block: slice, mass: Tensor) -> None:
        """Add the gradients of ``<T, D>`` for the plan of some frames of u, (b, M)."""
        rows = self.rows.wide[block]
        self.row_gradient[block] = torch.addmm(mass.sum(1, keepdim=True) * rows, mass, self.columns.wide, alpha=-1)
        self.column_products.addmm_(mass.T, rows, alpha=-1)
        self.column_sums += mass.sum(0)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of u, (N, E), and v, (M, E), in the dtype of the embeddings."""
        columns = torch.addcmul(self.column_products, self.column_sums.unsqueeze(1), self.columns.wide)
        return tuple((2 * part).to(self.rows.narrow.dtype) for part in (self.row_gradient, columns))


class _Objective(torch.autograd.Function):
    """Value of a transport plan, with its gradient with respect to the embeddings for a plan that is held constant."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, first: Tensor, second: Tensor, objective: Tensor,
                gradients: tuple[Tensor, Tensor]) -> Tensor:
        ctx.save_for_backward(*gradients)
        return objective.to(first.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, second = ctx.saved_tensors
        return first * gradient, second * gradient, None, None


def match_contrast(first: Tensor, second: Tensor, of_first: Partners, of_second: Partners, reduction: str) -> Tensor:
    """Pull each frame toward its best match and push it away from its worst match.

    Args:
        first: u, (N, E).
        second: v, (M, E).
        of_first: matches of the frames of u in v.
        of_second: matches of the frames of v in u.
        reduction: 'mean' over the N + M frames, or 'sum'.

    Returns:
        Loss, (), >= 0.
    """
    terms = []
    for own, other, (best, least, matched) in ((first, second, of_first), (second, first, of_second)):
        near, far = ((own - other.index_select(0, index)).square().sum(1) for index in (best, least))  # (n,) each
        terms.append(torch.where(matched, near, 0) + F.relu(MARGIN - far))
    values = torch.cat(terms)  # (N + M,)
    return values.mean() if reduction == 'mean' else values.sum()
