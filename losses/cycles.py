"""Errors of frames that are cycled through every sequence of a batch and back, with their gradient, in blocks.

Value and gradient of a block are computed together, so that nothing but the gradient of the frames is kept for the
backward pass: the memory is that of one block, and no block is computed twice. A block has the same frames of all
sequences, so that a short batch takes few operations: for some hundred frames, their number takes most of the time.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from losses.arguments import widen
from losses.distances import Vectors, distance_gradients, distance_matrix
from losses.pairs import GRADIENT_SCALE, index_moments, returned_index_gradients

BLOCK_ENTRIES = 2 ** 20  # distances of a block of frames; about 40 MiB
SMALLEST_BLOCK = 64  # frames of all sequences; matrix products of fewer rows take longer per row


class ErrorTerms(NamedTuple):
    """Error of a frame i that returns to the mean index ``mu`` with variance ``sigma^2``.

    It is ``weight ((i - mu)^2 / s + lambda / 2 log s)`` with ``s = sigma^2 + c``.

    Attributes:
        alignment_variance: lambda, >= 0.
        offsets: c of the frames of each sequence, squared frames, > 0.
        weights: factor of the errors of the frames of each sequence.
    """

    alignment_variance: float
    offsets: Sequence[float]
    weights: Sequence[float]


class _Batch(NamedTuple):
    """S sequences in order of descending length: L frames in all, at most T in one, minus their mean.

    Attributes:
        frames: the frames of all sequences, one after the other, L vectors.
        padded: the same with zeros after shorter sequences, (S, T) vectors.
        padding: infinity after the end of a sequence, else 0, (S, 1, T); None if all are equally long.
        lengths: of the sequences.
        offsets: c, (S, 1, 1).
        weights: factor of the errors, 0 after the end of a sequence, (S, T, 1).
        half_lambda: factor of ``log s``.
        radius: largest norm of a frame.
    """

    frames: Vectors
    padded: Vectors
    padding: Tensor | None
    lengths: list[int]
    offsets: Tensor
    weights: Tensor
    half_lambda: float
    radius: float


def cycle_error_sum(sequences: Sequence[Tensor], softmax_temp: float, terms: ErrorTerms) -> Tensor:
    """Sum the errors of :func:`losses.TCC_loss` over all frames and all ordered pairs, with time in frames.

    Args:
        sequences: embeddings, each (T_i, E), float32 or float64.
        softmax_temp: tau, > 0.
        terms: how to compute the errors.

    Returns:
        Sum, (), float64 if the device supports it. Its gradient cannot be differentiated again.
    """
    order = sorted(range(len(sequences)), key=lambda index: -len(sequences[index]))
    terms = terms._replace(offsets=[terms.offsets[index] for index in order],
                           weights=[terms.weights[index] for index in order])
    sequences = [sequences[index] for index in order]
    # Within a Function gradients are always disabled, so it has to be told.
    return _CycleErrorSum.apply(torch.cat(sequences), [len(sequence) for sequence in sequences], softmax_temp, terms,
                                torch.is_grad_enabled())


class _CycleErrorSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, frames: Tensor, lengths: list[int], softmax_temp: float,
                terms: ErrorTerms, with_gradient: bool) -> Tensor:
        # In units of the temperature, so that logits are negative distances.
        batch = _make_batch(Vectors.of(frames, widen(frames).mean(0), 1 / softmax_temp), lengths, terms)
        gradients = _empty_gradients(batch) if with_gradient and ctx.needs_input_grad[0] else None
        total = sum(_add_block(batch, block, gradients) for block in _blocks(lengths))
        if gradients:
            gradient, padded = gradients
            if batch.padding is not None:
                gradient += torch.cat([part[:length] for part, length in zip(padded, lengths, strict=True)])
            ctx.save_for_backward((gradient / (GRADIENT_SCALE * softmax_temp)).to(frames.dtype))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * gradient, None, None, None, None


def _make_batch(frames: Vectors, lengths: list[int], terms: ErrorTerms) -> _Batch:
    """Pad the sequences to the same length."""
    count, longest, wide = len(lengths), lengths[0], frames.wide
    constants = terms.alignment_variance / 2, frames.squares.max().sqrt().item()
    factors = wide.new_tensor([terms.weights, terms.offsets]).view(2, count, 1, 1)
    if lengths[-1] == longest:
        padded = Vectors(*(part.unflatten(0, (count, longest)) for part in frames))
        return _Batch(frames, padded, None, lengths, factors[1], factors[0].expand(-1, longest, 1),
                      *constants)
    padded = Vectors(*(pad_sequence(part.split(lengths), batch_first=True) for part in frames))
    ends = torch.tensor(lengths, device=wide.device).view(count, 1, 1)
    inside = torch.arange(longest, device=wide.device).unsqueeze(1) < ends  # (S, T, 1)
    padding = torch.zeros_like(inside, dtype=frames.narrow.dtype).masked_fill_(~inside, torch.inf).mT
    return _Batch(frames, padded, padding, lengths, factors[1], factors[0] * inside, *constants)


def _empty_gradients(batch: _Batch) -> tuple[Tensor, Tensor]:
    """Return zeros for the gradients of all frames, (L, E), and of the padded sequences, (S, T, E).

    If no sequence is padded, they are the same memory.
    """
    flat = torch.zeros_like(batch.frames.wide)
    return flat, flat.view_as(batch.padded.wide) if batch.padding is None else torch.zeros_like(batch.padded.wide)


def _blocks(lengths: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of consecutive frames: the sequences that have not ended before, and the frames' indices."""
    rows = max(SMALLEST_BLOCK, BLOCK_ENTRIES // sum(lengths)) // len(lengths) or 1
    for start in range(0, lengths[0], rows):
        yield slice(sum(length > start for length in lengths)), slice(start, min(start + rows, lengths[0]))


def _add_block(batch: _Batch, block: tuple[slice, slice], gradients: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return the sum of the errors of a block: b frames of each of r sequences.

    Its gradient is added to ``gradients``: of all frames, (L, E), and of the padded sequences, (S, T, E).
    """
    rows = batch.padded.part(block).flat()  # r b vectors
    outgoing = distance_matrix(rows, batch.frames)  # (r b, L)
    others = batch.frames.narrow.split(batch.lengths)
    alphas = [torch.softmax(logits, dim=1) for logits in outgoing.neg().split(batch.lengths, dim=1)]  # (r b, T_i) each
    neighbors = torch.stack([alpha @ other for alpha, other in zip(alphas, others, strict=True)], dim=1)  # (r b, S, E)
    total, pulled = _return(batch, block, neighbors, gradients and gradients[1])
    if not gradients:
        return total
    # A softmax subtracts the mean of the gradient under its weights, here the product with the soft neighbor.
    means = (pulled * neighbors).sum(2, keepdim=True)  # (r b, S, 1)
    flat, padded = gradients
    distance_gradient = []
    for alpha, other, mean, pull, added in zip(alphas, others, means.unbind(1), pulled.unbind(1),
                                               flat.split(batch.lengths), strict=True):
        distance_gradient.append(torch.addmm(mean, pull, other.T, alpha=-1).mul_(alpha))  # (r b, T_i)
        added += alpha.T @ pull  # (T_i, E)
    rows_gradient, all_gradient = distance_gradients(
        torch.cat(distance_gradient, dim=1), outgoing, rows, batch.frames, batch.radius)
    part = padded[block]
    part += rows_gradient.view_as(part)
    flat += all_gradient
    return total


def _return(batch: _Batch, block: tuple[slice, slice], neighbors: Tensor,
            gradient: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Cycle soft neighbors back to the sequences that their frames are from, and compute the errors.

    Args:
        batch: all sequences.
        block: the frames.
        neighbors: their soft neighbors in every sequence, (r b, S, E).
        gradient: of the padded sequences, (S, T, E), to which the gradient is added; None: only errors are needed.

    Returns:
        Sum of the errors, (), and its gradient with respect to the neighbors, (r b, S, E).
    """
    sequences, frames = block
    own, weights = batch.padded.part(sequences), batch.weights[block]  # (r, T) vectors and (r, b, 1)
    returning = Vectors.of(neighbors.view(len(weights), -1, neighbors.shape[2]))  # (r, b S) vectors
    distances = distance_matrix(returning, own)  # (r, b S, T)
    if batch.padding is not None:
        distances += batch.padding[sequences]
    betas = torch.softmax(-distances, dim=2)
    means, variances = (moment.unflatten(1, (-1, neighbors.shape[1])) for moment in index_moments(betas))  # (r, b, S)
    index = torch.arange(frames.start, frames.stop, dtype=means.dtype, device=means.device).unsqueeze(1)
    errors, spread = index - means, variances + batch.offsets[sequences]  # i - mu and s, squared frames
    squares = errors.square() / spread
    total = (weights * squares.add(spread.log(), alpha=batch.half_lambda)).sum()
    if gradient is None:
        return total, None
    scale = weights / spread * GRADIENT_SCALE  # (r, b, S)
    slopes, curvatures = -2 * errors * scale, (batch.half_lambda - squares) * scale
    distance_gradient = returned_index_gradients(
        betas, *(part.flatten(1) for part in (means, variances, slopes, curvatures)))  # (r, b S, T)
    pulled, own_gradient = distance_gradients(distance_gradient, distances, returning, own, batch.radius)
    gradient[sequences] += own_gradient
    return total, pulled.to(neighbors.dtype).view_as(neighbors)
