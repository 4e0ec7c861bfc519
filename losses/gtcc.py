"""Generalized temporal cycle consistency: cycles through several soft neighbors; frames can be dropped."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import (
    check_counts,
    check_fractions,
    check_non_negative,
    check_positive,
    check_reduction,
    check_sequences,
)
from losses.frame_dropping import check_drop_vectors, drop_weights
from losses.gaussian_mixture import GaussianMixture, fit_gaussian_mixture
from losses.mixture_cycles import Comparison, Cycles, ErrorTerms, mixture_cycle_sum
from losses.pairs import attached_zero
from losses.threads import suitable_threads


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
    comparisons = _draw_comparisons(sequences, delta, max_comparisons, rng)
    entries = n_components * sum(len(frames) * len(sequences[second]) for _, second, frames, _ in comparisons)
    device = sequences[0].device
    with torch.autocast(device.type, enabled=False), suitable_threads(entries, device):
        cycles = Cycles.of(sequences, comparisons, softmax_temp)
        mixtures = _fit_mixtures(cycles.distributions(), n_components, max_gmm_iters)
        kept = None
        if gamma < 1:
            kept = [drop_weights(sequences[first], dropouts[second], floor)[frames]
                    for first, second, frames, _ in comparisons]
        weights = [1.0] * len(comparisons)
        if reduction == 'mean':
            weights = [12 / (len(sequences[first]) ** 2 * len(frames) * len(comparisons))
                       for first, _, frames, _ in comparisons]
        terms = ErrorTerms(alignment_variance, weights)
        return mixture_cycle_sum(sequences, cycles, mixtures, terms, softmax_temp, kept).to(sequences[0].dtype)


def _draw_comparisons(sequences: Sequence[Tensor], delta: float, max_comparisons: int,
                      rng: torch.Generator | None) -> list[Comparison]:
    """Sample frames, and the side of each window, for every ordered pair, on the CPU."""
    comparisons = []
    for first, second in itertools.permutations(range(len(sequences)), 2):
        length = len(sequences[first])
        frames = torch.randperm(length, generator=rng)[:max_comparisons]  # (n,)
        forward = torch.rand(len(frames), generator=rng) < 0.5
        frames, order = frames.sort()
        windows = cycle_windows(frames, forward[order], length, delta)
        comparisons.append(Comparison(first, second, frames.to(sequences[first].device), windows))
    return comparisons


def cycle_windows(frames: Tensor, forward: Tensor, length: int, delta: float) -> Tensor:
    """Return the range of frames that each frame may be cycled back to.

    Args:
        frames: indices, (n,), in [0, N - 1].
        forward: (n,), True if the window begins with the frame, False if it ends with it.
        length: N.
        delta: length of the window as a fraction of N, in (0, 1].

    Returns:
        First index and end, (n, 2); the range always contains the frame itself.
    """
    size = max(1, round(delta * length))
    starts = torch.where(forward, frames, frames - size + 1)
    ends = starts + size
    # A window that an end of the sequence cuts off is extended to the first or last ``size`` frames, which it overlaps.
    at_start, at_end = frames < size, frames >= length - size
    starts, ends = torch.where(at_start, 0, starts), torch.where(at_start, ends.clamp(min=size), ends)
    starts, ends = torch.where(at_end, starts.clamp(max=length - size), starts), torch.where(at_end, length, ends)
    return torch.stack([starts, ends], dim=1)


def _fit_mixtures(alphas: Sequence[Tensor], n_components: int, iterations: int) -> list[GaussianMixture]:
    """Fit the mixtures of all pairs in one batch; shorter sequences are padded with indices without weight."""
    longest, counts = max(alpha.shape[1] for alpha in alphas), [len(alpha) for alpha in alphas]
    padded = torch.cat([F.pad(alpha, (0, longest - alpha.shape[1])) for alpha in alphas])
    lengths = torch.tensor([alpha.shape[1] for alpha in alphas]).repeat_interleave(torch.tensor(counts))
    mixture = fit_gaussian_mixture(padded, n_components, iterations, lengths=lengths)
    return [GaussianMixture(*parts) for parts in zip(*(value.split(counts) for value in mixture), strict=True)]
