"""Temporal cycle consistency."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from losses.arguments import check_non_negative, check_positive, check_reduction, check_sequences
from losses.cycles import ErrorTerms, cycle_error_sum
from losses.pairs import attached_zero

# Smallest spread, which keeps the loss finite if a cycle returns to a single frame: in squared frames for sums, and as
# a fraction of the squared length for means, (1 / 20)^2.
VARIANCE_OFFSET, RELATIVE_OFFSET = 0.25, 0.0025


def TCC_loss(sequences: Sequence[Tensor], softmax_temp: float = 0.1, alignment_variance: float = 0.001, *,
             reduction: str = 'mean') -> Tensor:
    """Compute temporal cycle consistency by index regression over all pairs, including a sequence with itself.

    The soft nearest neighbor of frame ``i`` of ``u`` (N frames) in ``v`` is ``n_i = sum_j a_ij v_j`` with
    ``a_i = softmax_j(-||u_i - v_j||_2 / tau)``. It is cycled back by ``b_i = softmax_k(-||n_i - u_k||_2 / tau)``. With
    ``mu_i`` and ``sigma_i^2`` the mean and variance of the index under row ``b_i``, and ``s_i = sigma_i^2 + c``, its
    error is ``(i - mu_i)^2 / s_i + lambda / 2 log s_i``.

    With 'mean', time is in units of N and ``c = 1/400``; the loss is the mean over the frames of a pair, then over
    pairs. With 'sum', time is in frames, ``c = 1/4``, and the errors are summed over frames and pairs. With a quarter
    of a frame, a long recording whose frames have one wrong neighbor each would give errors of thousands, which
    training lowers by blurring the neighbors instead of correcting them.

    The original (Dwibedi et al.) uses squared distances divided by the embedding dimension, weights ``log sigma`` by
    lambda, adds nothing to the variance, and does not pair a sequence with itself.

    Args:
        sequences: embeddings, each (T_i, E), T_i >= 1; lengths may differ.
        softmax_temp: tau, > 0.
        alignment_variance: lambda, >= 0.
        reduction: 'mean' or 'sum'.

    Returns:
        Loss, (), in the sequences' dtype, at least float32. It can be negative because of the logarithm. For a single
        sequence it is a zero attached to the graph, since there is nothing to align it with.

    Raises:
        ValueError: an argument has the wrong shape or is out of range.

    Reference:
        Dwibedi et al., Temporal Cycle-Consistency Learning, CVPR 2019, cycle-back regression; the variant is
        that of Donahue & Elhamifar, CVPR 2024.
    """
    check_positive(softmax_temp=softmax_temp)
    check_non_negative(alignment_variance=alignment_variance)
    check_reduction(reduction)
    sequences = check_sequences(sequences)
    if len(sequences) == 1:
        return attached_zero(sequences)
    lengths = [len(sequence) for sequence in sequences]
    constant = 0.0
    if reduction == 'mean':
        terms = ErrorTerms(alignment_variance, [RELATIVE_OFFSET * length ** 2 for length in lengths],
                           [1 / (length * len(lengths) ** 2) for length in lengths])
        # The division of s_i by N^2 inside the logarithm.
        constant = alignment_variance * sum(map(math.log, lengths)) / len(lengths)
    else:
        terms = ErrorTerms(alignment_variance, [VARIANCE_OFFSET] * len(lengths), [1.0] * len(lengths))
    with torch.autocast(sequences[0].device.type, enabled=False):
        return (cycle_error_sum(sequences, softmax_temp, terms) - constant).to(sequences[0].dtype)
