"""Learning by aligning videos: soft-DTW between recordings plus a contrastive term within each recording."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from losses.arguments import check_non_negative, check_positive, check_reduction, check_sequences
from losses.contrastive import WINDOW, contrastive_loss
from losses.distances import squared_distances
from losses.pairs import attached_zero, reduce_symmetric
from losses.soft_dtw import soft_dtw


def LAV_loss(sequences: Sequence[Tensor], min_temp: float = 0.1, cr_coefficient: float = 1.0, *,
             window: float = WINDOW, reduction: str = 'mean') -> Tensor:
    """Compute soft-DTW plus a contrastive term over all ordered pairs of different sequences.

    The loss of a pair (u, v) of N and M frames is ``softDTW(D) + cr_coefficient (C(u) + C(v))``, where ``D`` are the
    squared Euclidean distances and ``C`` is :func:`losses.contrastive.contrastive_loss`. With 'mean', soft-DTW is
    divided by ``N + M``, ``C`` is a mean, the loss of a pair is divided by the sum of its weights,
    ``1 + 2 cr_coefficient``, and the loss is the mean over pairs; with 'sum', nothing is divided.

    The published weight of the contrastive terms, 0.01, is for sums over entries. With means it is too small to keep
    embeddings that are close together at the start of training from collapsing to one point; the default is larger.

    A published implementation builds an (N, M, E) tensor for ``D``; here ``D`` comes from a matrix product. Soft-DTW is
    the same for both orders of a pair and ``C(u)`` is the same in every pair, so each is computed once.

    Args:
        sequences: embeddings, each (T_i, E), T_i >= 1; lengths may differ.
        min_temp: smoothing of soft-DTW, in squared distances, > 0.
        cr_coefficient: weight of the contrastive terms, >= 0.
        window: frames close in time, as a fraction of the recording, in (0, 1), or in frames, >= 1.
        reduction: 'mean' or 'sum'.

    Returns:
        Loss, (), in the sequences' dtype, at least float32. It can be negative, because the soft minimum is below the
        minimum. For a single sequence it is a zero attached to the graph.

    Raises:
        ValueError: an argument has the wrong shape or is out of range.

    Reference:
        Haresh et al., Learning by Aligning Videos in Time, CVPR 2021; Cuturi & Blondel, Soft-DTW, ICML 2017.
    """
    check_positive(min_temp=min_temp, window=window)
    check_non_negative(cr_coefficient=cr_coefficient)
    check_reduction(reduction)
    sequences = check_sequences(sequences)
    if len(sequences) == 1:
        return attached_zero(sequences)
    # Under autocast the products of the distances would be rounded to bf16.
    with torch.autocast(sequences[0].device.type, enabled=False):
        alignments = []
        for first, second in itertools.combinations(sequences, 2):
            cost = soft_dtw(squared_distances(first, second), min_temp)  # (N, M) -> ()
            alignments.append(cost / (len(first) + len(second)) if reduction == 'mean' else cost)
        contrasts = [contrastive_loss(sequence, window=window, reduction=reduction) for sequence in sequences]
        loss = reduce_symmetric(alignments, contrasts, cr_coefficient, reduction)
        # A weighted mean of terms, each of which is about 1 for the embeddings of a new network.
        return loss / (1 + 2 * cr_coefficient) if reduction == 'mean' else loss
