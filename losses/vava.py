"""Alignment by order-preserving optimal transport with virtual frames, for recordings with steps of their own."""

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
from losses.contrastive import MARGIN, contrastive_loss
from losses.pairs import attached_zero, reduce_symmetric, squared_distances
from losses.transport import best_and_least_matches, transport_plan

PHASE_DECAY, SMALLEST_PHASE = 0.999, 0.001


def VAVA_loss(sequences: Sequence[Tensor], maxIter: int = 20, lambda1: float = 1, lambda2: float = 0.1,
              gamma: float = 100.0, zeta: float = 0.5, delta: float = 0.6, global_step: int = 0, *,
              reduction: str = 'mean') -> Tensor:
    """Order-preserving optimal transport plus contrastive terms, over all ordered pairs of different sequences.

    A pair (u, v) takes ``F + gamma (C(u) + C(v) + C(u, v))``. ``F`` is the least value of
    :func:`transport_plan`'s objective for the squared Euclidean distances ``D``; **its gradient is the plan** (envelope
    theorem: prior and plan held fixed), exact once Sinkhorn's steps have converged. ``C`` of one sequence is
    :func:`losses.contrastive.contrastive_loss`; between two it takes, for each frame of either side, the squared
    distance to its best match, where the plan prefers that to the virtual frame, plus
    ``relu(2 - squared distance)`` to the frame that the plan matches least.

    With 'mean', ``C(u, v)`` is a mean over the N + M frames, ``C(u)`` over its entries, and the loss over pairs; with
    'sum' they are summed (``F`` moves a total mass of 1 under either). The transport is solved once for both orders.

    A published implementation takes the plan's total mass, a constant, for the transport term, multiplies its weights
    up from pair to pair, and makes the plan uniform with a regularisation of N; none of that is in the paper or here.
    Its weight of the contrastive terms, 0.5, is for sums over entries; beside means the transport, which a new
    network's embeddings do not bear out yet, would draw together what merely happens at the same time.
    Its distances are not squared: they pull with a force that does not fade as frames come together, where that of the
    contrastive terms does, so that embeddings which begin close together end in one point.

    Args:
        sequences: embeddings, each (T_i, E), T_i >= 1; lengths may differ.
        maxIter: Sinkhorn steps at most, >= 2: half of them for the plan of the distances alone.
        lambda1: weight of the inverse difference moment, >= 0.
        lambda2: weight of the divergence from the prior, > 0.
        gamma: weight of the contrastive terms, >= 0.
        zeta: cost of the virtual frame, a squared distance, > 0.
        delta: deviation of the prior, in frames, > 0.
        global_step: steps so far, from 0; training gives the epoch. The phase ``0.999^(global_step + 1)`` leads from
            order to optimality.
        reduction: 'mean' or 'sum'.

    Returns:
        (), of the sequences' dtype, at least float32. May be negative. A single sequence gives a zero attached to the
        graph.

    Raises:
        ValueError: an argument of the wrong shape or out of its range.

    Reference:
        Liu et al., Learning to Align Sequential Actions in the Wild, CVPR 2022; Su & Hua, Order-preserving Wasserstein
        Distance for Sequence Matching, CVPR 2017.
    """
    check_counts(smallest=2, maxIter=maxIter)
    check_counts(smallest=0, global_step=global_step)
    check_positive(lambda2=lambda2, zeta=zeta, delta=delta)
    check_non_negative(lambda1=lambda1, gamma=gamma)
    check_reduction(reduction)
    sequences = check_sequences(sequences)
    if len(sequences) == 1:
        return attached_zero(sequences)
    phase = max(PHASE_DECAY ** (global_step + 1), SMALLEST_PHASE)
    pair_terms = []
    with torch.autocast(sequences[0].device.type, enabled=False):
        for first, second in itertools.combinations(sequences, 2):
            squares = squared_distances(first, second)
            plan = transport_plan(squares, maxIter, lambda1, lambda2, zeta, delta, phase)
            mass = plan.log_mass[:-1, :-1].exp().to(squares.dtype)
            # The second summand is zero: it gives the objective the plan as its gradient.
            transport = plan.objective.to(squares.dtype) + (mass * (squares - squares.detach())).sum()
            pair_terms.append(transport + gamma * match_contrast(squares, plan.log_mass, reduction))
        contrasts = [contrastive_loss(sequence, reduction=reduction) for sequence in sequences]
        return reduce_symmetric(pair_terms, contrasts, gamma, reduction)


def match_contrast(squares: Tensor, log_mass: Tensor, reduction: str) -> Tensor:
    """Pull each frame to its best match and push it from its least one.

    Args:
        squares: (N, M), squared Euclidean distances.
        log_mass: (N + 1, M + 1), logarithm of the plan.
        reduction: 'mean' over the N + M frames, or 'sum'.

    Returns:
        (), >= 0.
    """
    terms = []
    for axis in (1, 0):
        best, least = best_and_least_matches(log_mass, axis)
        oriented, mass = (squares, log_mass[:-1]) if axis else (squares.T, log_mass[:, :-1].T)
        frames = torch.arange(len(oriented), device=oriented.device)
        matched = mass[frames, best] > mass[:, -1]
        terms.append(torch.where(matched, oriented[frames, best], 0) + F.relu(MARGIN - oriented[frames, least]))
    values = torch.cat(terms)
    return values.mean() if reduction == 'mean' else values.sum()
