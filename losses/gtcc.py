"""Generalized temporal cycle consistency: cycles through several soft neighbors; frames can be dropped."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.arguments import (
    check_counts,
    check_fractions,
    check_non_negative,
    check_positive,
    check_reduction,
    check_sequences,
)
from losses.frame_dropping import check_drop_vectors, drop_weights
from losses.gaussian_mixture import GaussianMixture, component_densities, component_fractions, fit_gaussian_mixture
from losses.pairs import attached_zero, euclidean_distances, index_moments

QUARTER_FRAME = 0.25  # squared frames; keeps the reciprocal of an error and the log of a variance finite
KEPT_ENTRIES = 2 ** 24  # most frames * components * indices of a pair kept in memory for the backward pass
SMALLEST_DIVISOR = 0.05  # squared frames; with a large weight, log sigma can make an error negative


class _Comparison(NamedTuple):
    """The frames sampled from the first sequence of an ordered pair, on that sequence's device."""

    sequence: int  # position of the first sequence in the batch
    other: int  # position of the second sequence
    frames: Tensor  # (n,), indices of the sampled frames
    window: Tensor  # (n, N), True for the frames that a sampled frame may be cycled back to


def GTCC_loss(sequences: Sequence[Tensor], n_components: int = 15, delta: float = 0.2, gamma: float = 0.95,
              dropouts: Sequence[Tensor] | None = None, softmax_temp: float = 0.1, alignment_variance: float = 0,
              max_gmm_iters: int = 20, epoch: int = 0, *, max_comparisons: int = 20, reduction: str = 'mean',
              rng: torch.Generator | None = None) -> Tensor:
    """Compute generalized temporal cycle consistency over all ordered pairs of different sequences.

    For each sampled frame ``i`` of ``u`` (N frames), a mixture of K Gaussians ``(w_k, mu_k, sigma_k)`` is fitted to
    ``alpha = softmax_j(-||u_i - v_j||_2 / tau)`` over the frames of ``v``, without gradient. The mean of ``v`` under
    component k's density ``d_k``, normalized over the frames, is the soft neighbor ``s_k``. It is cycled back by
    ``softmax_n(-||s_k - u_n||_2 / tau)`` over a window of ``w = max(1, round(delta N))`` frames that begins or ends
    with ``i`` (at random). If ``i < w``, the window also contains the first ``w`` frames; if ``i >= N - w``, the last.

    With ``m_k`` the mean index, ``L_i = sum_k p_k (i - m_k)^2``, where ``p_k`` is the fraction of ``alpha`` that
    component k is responsible for, ``sum_j alpha_j w_k d_k(j) / sum_l w_l d_l(j)``: the ``w_k`` of one more iteration
    of the fit, **with a gradient through** ``alpha``. A positive ``alignment_variance`` adds that multiple of
    ``log sigma_k = 1/2 log(variance of the index + 1/4)``, in frames, to the error of component k. If ``w_k`` were used
    instead of ``p_k``, a frame with wrong neighbors could only move these neighbors, not choose others, and training
    would make an alignment worse.

    If ``gamma < 1``, the value of a frame is ``q L_i + (1 - q) / (L_i + 0.25)`` with ``q = f + (1 - f) sigmoid(z_i)``
    and ``f = gamma^(epoch + 1)``. ``z`` is the product of the frames with the other sequence's drop vector plus its
    bias, standardized over the sequence (population std; 0 if all scores are equal). The divisor is clamped to at
    least 0.05, which has an effect only if ``alignment_variance`` exceeds 0.28.

    With 'mean', the value of a frame (in squared frames) is divided by ``N^2 / 12``, the variance of a uniform index,
    and the loss is the mean over the frames of a pair, then over pairs: frames that always return to the middle of the
    sequence, which takes no knowledge, give 1. With 'sum', the values are summed over frames and pairs, in squared
    frames.

    Args:
        sequences: embeddings, each (T_i, E), T_i >= 1; lengths may differ.
        n_components: K, >= 1; may exceed a sequence's length.
        delta: length of the window as a fraction of the sequence, in (0, 1].
        gamma: base of the smallest weight, in (0, 1]; 1 drops nothing.
        dropouts: one drop vector (E + 1,) per sequence: E weights and a bias; required if gamma < 1.
        softmax_temp: tau, > 0.
        alignment_variance: weight of log sigma, >= 0.
        max_gmm_iters: iterations of expectation maximization, >= 1.
        epoch: counted from 0.
        max_comparisons: frames sampled per ordered pair without replacement, >= 1; all if there are fewer.
        reduction: 'mean' or 'sum'.
        rng: CPU generator for sampling (frames, then sides, pair by pair); None: torch's global generator. The same
            seed gives the same samples on every device.

    Returns:
        Loss, (), in the sequences' dtype, at least float32; for a single sequence a zero attached to the graph.

    Raises:
        ValueError: an argument has the wrong shape or is out of range.

    Reference:
        Donahue & Elhamifar, Learning to Predict Activity Progress by Self-Supervised Video Alignment, CVPR 2024.
    """
    check_positive(softmax_temp=softmax_temp)
    check_non_negative(alignment_variance=alignment_variance)
    check_reduction(reduction)
    check_counts(n_components=n_components, max_gmm_iters=max_gmm_iters, max_comparisons=max_comparisons)
    check_counts(smallest=0, epoch=epoch)
    check_fractions(delta=delta, gamma=gamma)
    sequences = check_sequences(sequences)
    floor = gamma ** (epoch + 1)
    if gamma < 1:
        dropouts = check_drop_vectors(dropouts, sequences)
    if len(sequences) == 1:
        return attached_zero(sequences)
    pair_losses = []
    with torch.autocast(sequences[0].device.type, enabled=False):
        comparisons = _draw_comparisons(sequences, delta, max_comparisons, rng)
        mixtures = _fit_mixtures(sequences, comparisons, n_components, softmax_temp, max_gmm_iters)
        for comparison, mixture in zip(comparisons, mixtures, strict=True):
            sequence, other = sequences[comparison.sequence], sequences[comparison.other]
            errors = _cycle_in_blocks(sequence, other, comparison, mixture, softmax_temp, alignment_variance)
            if gamma < 1:
                kept = drop_weights(sequence, dropouts[comparison.other], floor)[comparison.frames]
                errors = kept * errors + (1 - kept) / (errors + QUARTER_FRAME).clamp(min=SMALLEST_DIVISOR)
            pair_losses.append(errors.mean() / (len(sequence) ** 2 / 12) if reduction == 'mean' else errors.sum())
    losses = torch.stack(pair_losses)
    return (losses.mean() if reduction == 'mean' else losses.sum()).to(sequences[0].dtype)


def _draw_comparisons(sequences: Sequence[Tensor], delta: float, max_comparisons: int,
                      rng: torch.Generator | None) -> list[_Comparison]:
    """Sample frames, and the side of each window, for every ordered pair, on the CPU."""
    comparisons = []
    for first, second in itertools.permutations(range(len(sequences)), 2):
        length, device = len(sequences[first]), sequences[first].device
        frames = torch.randperm(length, generator=rng)[:max_comparisons]  # (n,)
        forward = torch.rand(len(frames), generator=rng) < 0.5
        window = cycle_windows(frames, forward, length, delta)  # (n, N)
        comparisons.append(_Comparison(first, second, frames.to(device), window.to(device)))
    return comparisons


def cycle_windows(frames: Tensor, forward: Tensor, length: int, delta: float) -> Tensor:
    """Mark the frames that each frame may be cycled back to.

    Args:
        frames: indices, (n,), in [0, N - 1].
        forward: (n,), True if the window begins with the frame, False if it ends with it.
        length: N.
        delta: length of the window as a fraction of N, in (0, 1].

    Returns:
        (n, N), True inside the window, which always contains the frame itself.
    """
    size = max(1, round(delta * length))
    frame, index = frames.unsqueeze(1), torch.arange(length, device=frames.device)  # (n, 1), (N,)
    start = torch.where(forward.unsqueeze(1), frame, frame - size + 1)
    inside = (index >= start) & (index < start + size)  # (n, N)
    # A window that an end of the sequence cuts off is extended to the first or last ``size`` frames.
    inside |= (frame < size) & (index < size)
    return inside | ((frame >= length - size) & (index >= length - size))


@torch.no_grad()
def _fit_mixtures(sequences: Sequence[Tensor], comparisons: Sequence[_Comparison], n_components: int,
                  softmax_temp: float, iterations: int) -> list[GaussianMixture]:
    """Fit the mixtures of all pairs in one batch; shorter sequences are padded with indices without weight."""
    longest = max(len(sequence) for sequence in sequences)
    outgoing, lengths = [], []
    for comparison in comparisons:
        frames, other = sequences[comparison.sequence][comparison.frames], sequences[comparison.other]
        alpha = torch.softmax(euclidean_distances(frames, other) / -softmax_temp, dim=1)  # (n, M)
        outgoing.append(F.pad(alpha, (0, longest - len(other))))  # (n, longest)
        lengths += [len(other)] * len(frames)
    mixture = fit_gaussian_mixture(torch.cat(outgoing), n_components, iterations, lengths=torch.tensor(lengths))
    counts = [len(comparison.frames) for comparison in comparisons]
    return [GaussianMixture(*parts) for parts in zip(*(value.split(counts) for value in mixture), strict=True)]


def _cycle_in_blocks(sequence: Tensor, other: Tensor, comparison: _Comparison, mixture: GaussianMixture,
                     softmax_temp: float, alignment_variance: float) -> Tensor:
    """Compute :func:`cycle_errors`; large inputs are split into blocks that the backward pass recomputes."""
    entries = mixture.means.numel() * (len(sequence) + len(other))
    if entries <= KEPT_ENTRIES:
        return cycle_errors(sequence, other, comparison.frames, comparison.window, mixture, softmax_temp,
                            alignment_variance)
    rows = max(1, KEPT_ENTRIES * len(comparison.frames) // (4 * entries))
    blocks = zip(comparison.frames.split(rows), comparison.window.split(rows),
                 *(value.split(rows) for value in mixture), strict=True)
    return torch.cat([checkpoint(cycle_errors, sequence, other, frames, window, GaussianMixture(*parts), softmax_temp,
                                 alignment_variance, use_reentrant=False, preserve_rng_state=False)
                      for frames, window, *parts in blocks])


def cycle_errors(sequence: Tensor, other: Tensor, frames: Tensor, window: Tensor, mixture: GaussianMixture,
                 softmax_temp: float, alignment_variance: float) -> Tensor:
    """Compute the squared index error of frames cycled through the components of their mixtures.

    Args:
        sequence: u, (N, E).
        other: v, (M, E).
        frames: indices into ``sequence``, (n,).
        window: (n, N), True for frames that may be cycled back to, at least one per row.
        mixture: n mixtures over the indices of ``other``; treated as constant, except for the fractions of alpha.
        softmax_temp: tau, > 0.
        alignment_variance: weight of log sigma, >= 0.

    Returns:
        L, (n,), in squared frames.
    """
    densities = component_densities(mixture, len(other)).to(other.dtype)  # (n, K, M)
    neighbors = densities @ other  # (n, K, E)
    distances = euclidean_distances(neighbors.flatten(0, 1), sequence).unflatten(0, densities.shape[:2])  # (n, K, N)
    # The window (n, 1, N) is the same for all components.
    logits = (distances / -softmax_temp).masked_fill(~window.unsqueeze(1), -torch.inf)
    mean, variance = index_moments(torch.softmax(logits, dim=-1))  # (n, K) each
    errors = (frames.unsqueeze(1) - mean).square()  # (n, K)
    if alignment_variance > 0:
        errors = errors + alignment_variance / 2 * (variance + QUARTER_FRAME).log()
    alpha = torch.softmax(euclidean_distances(sequence[frames], other) / -softmax_temp, dim=1)  # (n, M)
    return (component_fractions(mixture, alpha) * errors).sum(1)  # (n, K) -> (n,)
