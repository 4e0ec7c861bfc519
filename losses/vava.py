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
)
from losses.contrastive import MARGIN, WINDOW, contrastive_loss
from losses.distances import squared_distances
from losses.pairs import attached_zero, reduce_symmetric
from losses.transport import TransportPlan, best_and_least_matches, transport_plan

PHASE_DECAY, SMALLEST_PHASE = 0.999, 0.001


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
            squares = squared_distances(first, second)  # (N, M)
            plan = transport_plan(squares, maxIter, lambda1, lambda2, zeta, delta, phase)
            transport = _Objective.apply(squares, plan)
            pair_terms.append(transport + gamma * match_contrast(squares, plan.log_mass, reduction))
        contrasts = [contrastive_loss(sequence, window=window, reduction=reduction) for sequence in sequences]
        loss = reduce_symmetric(pair_terms, contrasts, gamma, reduction)
        # A weighted mean of terms, each of which is about 1 for the embeddings of a new network.
        return loss / (1 + 3 * gamma) if reduction == 'mean' else loss


class _Objective(torch.autograd.Function):
    """Value of a transport plan, with the plan as its gradient with respect to the distances (N, M)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, squares: Tensor, plan: TransportPlan) -> Tensor:
        ctx.save_for_backward(plan.mass(squares.dtype))
        return plan.objective.to(squares.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * gradient, None


def match_contrast(squares: Tensor, log_mass: Tensor, reduction: str) -> Tensor:
    """Pull each frame toward its best match and push it away from its worst match.

    Args:
        squares: squared Euclidean distances, (N, M).
        log_mass: logarithm of the plan, (N + 1, M + 1).
        reduction: 'mean' over the N + M frames, or 'sum'.

    Returns:
        Loss, (), >= 0.
    """
    terms = []
    for axis in (1, 0):
        best, least = best_and_least_matches(log_mass, axis)  # one index per frame, each
        # Rows are the frames of u, (N, M) and (N, M + 1), then those of v, (M, N) and (M, N + 1).
        oriented, mass = (squares, log_mass[:-1]) if axis else (squares.T, log_mass[:, :-1].T)
        frames = torch.arange(len(oriented), device=oriented.device)
        matched = mass[frames, best] > mass[:, -1]  # the last column is the virtual frame
        terms.append(torch.where(matched, oriented[frames, best], 0) + F.relu(MARGIN - oriented[frames, least]))
    values = torch.cat(terms)  # (N + M,)
    return values.mean() if reduction == 'mean' else values.sum()
