"""Errors of frames that are cycled through the components of their mixtures and back, with their gradient, in blocks.

Value and gradient of a block of frames are computed together, as in :mod:`losses.cycles`: nothing but the gradient of
the embeddings is kept for the backward pass, and a block stays in a core's cache.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen
from losses.distances import GradientSum, Vectors, add_distance_gradients, distance_matrix
from losses.gaussian_mixture import GaussianMixture, densities_and_responsibilities
from losses.pairs import GRADIENT_SCALE, index_moments, returned_index_gradients

QUARTER_FRAME = 0.25  # squared frames; keeps the reciprocal of an error and the log of a variance finite
SMALLEST_DIVISOR = 0.05  # squared frames; with a large weight, log sigma can make an error negative
SMALLEST_DENSITY = 1e-30  # smaller values, subnormal in float32, would make the products several times slower
BLOCK_ENTRIES = 2 ** 17  # frames * components * indices of a block: 1 MiB in float64


class Comparison(NamedTuple):
    """The frames sampled from the first sequence of an ordered pair, in order of time."""

    sequence: int  # position of the first sequence in the batch
    other: int  # position of the second sequence
    frames: Tensor  # (n,), indices of the sampled frames, on the sequences' device
    windows: Tensor  # (n, 2), first index and end of the frames that a sampled frame may be cycled back to, on the CPU


class ErrorTerms(NamedTuple):
    """How to compute the value of a frame from its errors, and the loss from the values."""

    alignment_variance: float  # weight of log sigma, >= 0
    weights: Sequence[float]  # factor of the values of each comparison


class Cycles(NamedTuple):
    """A batch of sequences and the frames that are compared, without a graph.

    Attributes:
        sequences: each T_i vectors, minus the mean of all frames, in units of the temperature.
        radius: largest norm of a vector.
        comparisons: the sampled frames of every ordered pair.
        outgoing: distances of the sampled frames from the other sequence, one (n, M) per comparison.
    """

    sequences: list[Vectors]
    radius: float
    comparisons: Sequence[Comparison]
    outgoing: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, sequences: Sequence[Tensor], comparisons: Sequence[Comparison], softmax_temp: float) -> 'Cycles':
        """Compute the distances of the sampled frames; sequences are (T_i, E), float32 or float64."""
        frames = torch.cat(list(sequences))
        whole = Vectors.of(frames, widen(frames).mean(0), 1 / softmax_temp)
        lengths = [len(sequence) for sequence in sequences]
        vectors = [Vectors(*parts) for parts in zip(*(part.split(lengths) for part in whole), strict=True)]
        outgoing = [distance_matrix(vectors[first].part(picked), vectors[second])
                    for first, second, picked, _ in comparisons]
        return cls(vectors, whole.squares.max().sqrt().item(), comparisons, outgoing)

    def distributions(self) -> list[Tensor]:
        """Return alpha of the sampled frames, one (n, M) per comparison."""
        return [torch.softmax(-distances, dim=1) for distances in self.outgoing]


def mixture_cycle_sum(sequences: Sequence[Tensor], cycles: Cycles, mixtures: Sequence[GaussianMixture],
                      terms: ErrorTerms, softmax_temp: float, kept: Sequence[Tensor] | None = None) -> Tensor:
    """Sum the values of :func:`losses.GTCC_loss` over all sampled frames.

    Args:
        sequences: embeddings, each (T_i, E), float32 or float64.
        cycles: their vectors and the sampled frames.
        mixtures: for each comparison, n mixtures over the indices of the other sequence; treated as constant, except
            for the fractions of alpha.
        terms: how to compute the values.
        softmax_temp: tau, > 0.
        kept: q, weights of the sampled frames, one (n,) per comparison; None drops nothing.

    Returns:
        Sum, (), float64 if the device supports it. Its gradient cannot be differentiated again.
    """
    # Within a Function gradients are always disabled, so it has to be told.
    return _MixtureCycleSum.apply(torch.cat(list(sequences)), None if kept is None else torch.cat(list(kept)), cycles,
                                  mixtures, terms, softmax_temp, torch.is_grad_enabled())


class _MixtureCycleSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, frames: Tensor, kept: Tensor | None, cycles: Cycles,
                mixtures: Sequence[GaussianMixture], terms: ErrorTerms, softmax_temp: float,
                with_gradient: bool) -> Tensor:
        counts = [len(comparison.frames) for comparison in cycles.comparisons]
        gradients = [GradientSum.of(sequence) for sequence in cycles.sequences] if with_gradient else None
        weights = [None] * len(counts) if kept is None else widen(kept).split(counts)
        values, slopes = zip(*(
            _add_comparison(cycles, place, mixture, weight, terms, gradients)
            for place, (mixture, weight) in enumerate(zip(mixtures, weights, strict=True))), strict=True)
        if with_gradient:
            saved = [] if kept is None else [torch.cat(slopes).to(kept.dtype)]
            gradient = torch.cat([part.total(sequence) for part, sequence
                                  in zip(gradients, cycles.sequences, strict=True)])  # (L, E)
            ctx.save_for_backward(gradient.div_(GRADIENT_SCALE * softmax_temp), *saved)
        return torch.stack(values).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        frames, *kept = (saved * gradient for saved in ctx.saved_tensors)
        return frames, kept[0] if kept else None, None, None, None, None, None


def _add_comparison(cycles: Cycles, place: int, mixture: GaussianMixture, kept: Tensor | None, terms: ErrorTerms,
                    gradients: Sequence[GradientSum] | None) -> tuple[Tensor, Tensor | None]:
    """Compute the values of the frames of a comparison.

    Args:
        cycles: the batch.
        place: which comparison.
        mixture: of its n frames.
        kept: q, (n,), or None.
        terms: how to compute the values.
        gradients: of each sequence, to which those of the values times ``GRADIENT_SCALE`` are added, or None.

    Returns:
        Sum of the values, (), and their derivatives with respect to q, (n,), or None without q.
    """
    comparison, outgoing = cycles.comparisons[place], cycles.outgoing[place]
    own, other = cycles.sequences[comparison.sequence], cycles.sequences[comparison.other]
    alpha = torch.softmax(widen(-outgoing), dim=1)  # (n, M)
    total, kept_slopes, outgoing_gradient = 0, [], []
    for rows in _blocks(mixture.means.shape[1] * max(len(own.wide), len(other.wide)), len(alpha)):
        densities, responsibilities = densities_and_responsibilities(
            GaussianMixture(*(part[rows] for part in mixture)), alpha.shape[1])  # (b, K, M) each
        densities = F.threshold_(densities.to(outgoing.dtype), SMALLEST_DENSITY, 0).flatten(0, 1)  # (b K, M)
        fractions = (responsibilities @ alpha[rows].unsqueeze(2)).squeeze(2)  # (b, K)
        back = _Return.of(own, densities @ other.narrow, comparison, rows, terms.alignment_variance)
        errors = (fractions * back.errors).sum(1)  # L, (b,)
        value, slopes, kept_slope = _drop(errors, None if kept is None else kept[rows])
        total = total + value.sum() * terms.weights[place]
        kept_slopes.append(kept_slope)
        if gradients is None:
            continue
        slopes = (slopes * (terms.weights[place] * GRADIENT_SCALE)).unsqueeze(1)  # (b, 1)
        pulled = back.pull(slopes * fractions, cycles.radius, gradients[comparison.sequence])  # (b K, E)
        gradients[comparison.other].products.addmm_(densities.T, pulled)
        alpha_gradient = ((slopes * back.errors).unsqueeze(1) @ responsibilities).squeeze(1)  # (b, M)
        mean = (alpha_gradient * alpha[rows]).sum(1, keepdim=True)
        outgoing_gradient.append((mean - alpha_gradient) * alpha[rows])  # of a softmax of negative distances
    if gradients is not None:
        rows_gradient = add_distance_gradients(
            torch.cat(outgoing_gradient).to(outgoing.dtype), outgoing, own.part(comparison.frames), other,
            cycles.radius, gradients[comparison.other])
        gradients[comparison.sequence].products.index_add_(0, comparison.frames, rows_gradient)
    return total, None if kept is None else torch.cat(kept_slopes) * terms.weights[place]


def _blocks(entries: int, count: int) -> Iterator[slice]:
    """Yield slices of consecutive frames, equally many if possible, given the matrix entries per frame."""
    blocks = -(-count * entries // BLOCK_ENTRIES)
    rows = -(-count // blocks)
    for start in range(0, count, rows):
        yield slice(start, start + rows)


def _drop(errors: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the values of frames, (b,), and their derivatives with respect to the errors and to q (None without q)."""
    if kept is None:
        return errors, torch.ones_like(errors), None
    divisors = (errors + QUARTER_FRAME).clamp(min=SMALLEST_DIVISOR)
    dropped = (1 - kept) / divisors
    falling = torch.where(divisors > SMALLEST_DIVISOR, dropped / divisors, 0)
    return kept * errors + dropped, kept - falling, errors - 1 / divisors


class _Return(NamedTuple):
    """Soft neighbors of b frames, cycled back to the frames' sequence.

    Attributes:
        own: the frames that any of them may be cycled back to, W vectors.
        start: index of the first of these frames.
        neighbors: b K vectors.
        distances: (b K, W), infinite outside the window of a frame.
        betas: softmax of the negative distances, (b, K, W).
        means: of the index, relative to ``start``, (b, K).
        variances: of the index, (b, K).
        errors: squared index errors plus the term of log sigma, (b, K).
        slopes: derivatives of the errors with respect to the means, (b, K).
        curvatures: derivatives of the errors with respect to the variances, (b, K).
    """

    own: Vectors
    start: int
    neighbors: Vectors
    distances: Tensor
    betas: Tensor
    means: Tensor
    variances: Tensor
    errors: Tensor
    slopes: Tensor
    curvatures: Tensor

    @classmethod
    def of(cls, sequence: Vectors, neighbors: Tensor, comparison: Comparison, rows: slice,
           alignment_variance: float) -> '_Return':
        """Cycle neighbors, (b K, E), of some frames of a comparison back."""
        starts, ends = comparison.windows[rows].unbind(1)  # (b,) each
        # Frames are in order of time, so the windows of a block overlap; together they are a range of the sequence.
        start, end = int(starts.min()), int(ends.max())
        own, neighbors = sequence.part(slice(start, end)), Vectors.of(neighbors)
        distances = distance_matrix(neighbors, own)  # (b K, W)
        by_frame = distances.unflatten(0, (len(starts), -1))  # (b, K, W), the same memory
        if starts.max() > start or ends.min() < end:
            index = torch.arange(start, end)
            outside = (index < starts.unsqueeze(1)) | (index >= ends.unsqueeze(1))  # (b, W)
            by_frame.masked_fill_(outside.unsqueeze(1).to(distances.device), torch.inf)
        betas = torch.softmax(-by_frame, dim=2)
        means, variances = index_moments(betas)  # (b, K) each
        offsets = means - (comparison.frames[rows] - start).unsqueeze(1)  # mu - i
        errors, curvatures = offsets.square(), torch.zeros_like(offsets)
        if alignment_variance > 0:
            spread = variances + QUARTER_FRAME
            errors = errors + alignment_variance / 2 * spread.log()
            curvatures = alignment_variance / 2 / spread
        return cls(own, start, neighbors, distances, betas, means, variances, errors, 2 * offsets, curvatures)

    def pull(self, weights: Tensor, radius: float, gradient: GradientSum) -> Tensor:
        """Return the gradient of the neighbors, (b K, E), of the errors' sum with the given weights, (b, K).

        That of the sequence, (N, E), is added to ``gradient``.
        """
        distance_gradient = returned_index_gradients(
            self.betas, self.means, self.variances, weights * self.slopes, weights * self.curvatures)
        returned_to = gradient.part(slice(self.start, self.start + self.distances.shape[1]))
        return add_distance_gradients(
            distance_gradient.flatten(0, 1), self.distances, self.neighbors, self.own, radius, returned_to)
