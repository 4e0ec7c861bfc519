"""Temporal cycle consistency."""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from losses.arguments import check_non_negative, check_positive, check_reduction, check_sequences
from losses.pairs import attached_zero, euclidean_distances, index_moments, scale_gradient, sum_over_blocks

# Smallest spread, which keeps the loss finite if a cycle returns to a single frame: in squared frames for sums, and as
# a fraction of the squared length for means, (1 / 20)^2.
VARIANCE_OFFSET, RELATIVE_OFFSET = 0.25, 0.0025
GRADIENT_SCALE = 2.0 ** 40  # of gradients between the embeddings and the loss
KEPT_ENTRIES = 2 ** 25  # if there are more, the backward pass recomputes the blocks; about 0.3 GiB are kept


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
    recompute = torch.is_grad_enabled() and _count_entries(sequences) > KEPT_ENTRIES
    losses = []
    with torch.autocast(sequences[0].device.type, enabled=False):
        # Products of small weights and small gradients would be subnormal float32 numbers, several times slower on a
        # CPU, so the gradient inside is larger; a power of two changes no digit of it.
        sequences = [scale_gradient(sequence, 1 / GRADIENT_SCALE) for sequence in sequences]
        everything = torch.cat(sequences)  # (sum of T_i, E)
        for sequence in sequences:
            offset = RELATIVE_OFFSET * len(sequence) ** 2 if reduction == 'mean' else VARIANCE_OFFSET
            total = _sequence_loss(sequence, sequences, everything, softmax_temp, alignment_variance, offset, recompute)
            if reduction == 'mean':
                # The subtracted term is the division of s_i by N^2 inside the logarithm.
                total = total / len(sequence) / len(sequences) - alignment_variance * math.log(len(sequence))
            losses.append(total)
    reduced = torch.stack(losses).mean() if reduction == 'mean' else torch.stack(losses).sum()
    return scale_gradient(reduced, GRADIENT_SCALE).to(sequences[0].dtype)


def _count_entries(sequences: Sequence[Tensor]) -> int:
    """Count the entries of all distance matrices: those to the other sequence and those of the way back."""
    lengths = [len(sequence) for sequence in sequences]
    return sum(length * (length + other) for length, other in itertools.product(lengths, repeat=2))


def _sequence_loss(sequence: Tensor, sequences: Sequence[Tensor], everything: Tensor, softmax_temp: float,
                   alignment_variance: float, offset: float, recompute: bool) -> Tensor:
    """Sum the errors of a sequence's frames over its pairs with every sequence, with time in frames."""
    block_loss = partial(_block_loss, sequence=sequence, sequences=sequences, everything=everything,
                         softmax_temp=softmax_temp, alignment_variance=alignment_variance, offset=offset)
    return sum_over_blocks(block_loss, len(sequence), len(everything) + len(sequences) * len(sequence),
                           recompute=recompute)


def _block_loss(start: int, stop: int, *, sequence: Tensor, sequences: Sequence[Tensor], everything: Tensor,
                softmax_temp: float, alignment_variance: float, offset: float) -> Tensor:
    """Sum the errors of the frames ``start`` to ``stop - 1``.

    The distances to all sequences form one matrix and those of all soft neighbors another, because a few large matrix
    products are faster than many small ones.
    """
    logits = euclidean_distances(sequence[start:stop], everything) / -softmax_temp  # (b, sum of T_i)
    parts = logits.split([len(other) for other in sequences], dim=1)
    # S matrices (b, T_i) @ (T_i, E) -> (S b, E), for S sequences
    neighbors = torch.cat([torch.softmax(part, dim=1) @ other for part, other in zip(parts, sequences, strict=True)])
    returning = torch.softmax(euclidean_distances(neighbors, sequence) / -softmax_temp, dim=1)  # (S b, N)
    mean, variance = index_moments(returning)  # (S b,) each
    index = torch.arange(start, stop, dtype=mean.dtype, device=mean.device).repeat(len(sequences))
    spread = variance + offset  # squared frames
    return ((index - mean).square() / spread + alignment_variance / 2 * spread.log()).sum()
