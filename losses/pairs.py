"""What the alignment losses share: checks of their arguments, distances, and moments over frame indices."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

REDUCTIONS = ('mean', 'sum')


def check_sequences(sequences: Sequence[Tensor]) -> list[Tensor]:
    """Check a batch of embedded recordings and give it the precision the losses compute in.

    Args:
        sequences: embeddings, each (T_i, E) with T_i >= 1, of one floating dtype and device.

    Returns:
        The sequences, in float32 where they were float16 or bfloat16, with their graph.

    Raises:
        ValueError: no sequence, a wrong rank, no frames, widths, dtypes or devices that differ, or no floating dtype.
    """
    if len(sequences) == 0:
        raise ValueError('sequences is empty, expected at least one tensor of shape (T, E)')
    first = sequences[0]
    for index, sequence in enumerate(sequences):
        if sequence.ndim != 2 or 0 in sequence.shape:
            raise ValueError(f'sequences[{index}] has shape {tuple(sequence.shape)}, expected (T, E) with T, E >= 1')
        if sequence.shape[1] != first.shape[1]:
            raise ValueError(f'sequences[{index}] is {sequence.shape[1]} wide, expected {first.shape[1]} as in '
                             'sequences[0]')
        if not sequence.is_floating_point():
            raise ValueError(f'sequences[{index}] has dtype {sequence.dtype}, expected a floating one')
        if (sequence.dtype, sequence.device) != (first.dtype, first.device):
            raise ValueError(f'sequences[{index}] is {sequence.dtype} on {sequence.device}, expected {first.dtype} on '
                             f'{first.device} as sequences[0]')
    return [at_least_float32(sequence) for sequence in sequences]


def check_options(softmax_temp: float, alignment_variance: float, reduction: str) -> None:
    """Check the options that the cycle-back losses share.

    Args:
        softmax_temp: temperature, > 0 and finite.
        alignment_variance: weight of the variance term, >= 0 and finite.
        reduction: 'mean' or 'sum'.

    Raises:
        ValueError: one of them is out of its range.
    """
    if not 0 < softmax_temp < math.inf:
        raise ValueError(f'softmax_temp is {softmax_temp}, expected a finite number > 0')
    if not 0 <= alignment_variance < math.inf:
        raise ValueError(f'alignment_variance is {alignment_variance}, expected a finite number >= 0')
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, expected 'mean' or 'sum'")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor, in float32 where its dtype is a narrower one."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def widen(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, or as it is where the device has none (MPS)."""
    return tensor if tensor.device.type == 'mps' else tensor.to(torch.float64)


def attached_zero(sequences: Sequence[Tensor]) -> Tensor:
    """Return a zero, (), that hangs on the graph of every sequence, so that its backward pass runs."""
    return torch.stack([(sequence * 0).sum() for sequence in sequences]).sum()


def euclidean_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Compute ``||rows[i] - columns[j]||_2``, exact and differentiable also where two rows coincide.

    Never builds an (n, m, E) tensor. The gradient at distance 0 is the subgradient 0.

    Args:
        rows: (n, E), float32 or float64.
        columns: (m, E), same dtype.

    Returns:
        (n, m), same dtype.
    """
    if rows.dtype == torch.float32 and rows.device.type != 'mps':
        return _Distances.apply(rows, columns)
    # Nothing is wider than float64, so differences are taken entry by entry: slower, but free of cancellation.
    return torch.cdist(rows, columns, compute_mode='donot_use_mm_for_euclid_dist')


class _Distances(torch.autograd.Function):
    """Distances of float32 rows from float64 matrix products, several times faster than ``torch.cdist``.

    Between near vectors ``|u|^2 + |v|^2 - 2 u v`` cancels: in float32 it is wrong from distances of 3e-4 |u| down, in
    float64 from 1e-8 |u|, which is below the rounding of the inputs. The same holds for the gradient.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, columns: Tensor) -> Tensor:
        wide_rows, wide_columns = rows.double(), columns.double()
        squares = torch.addmm(wide_columns.square().sum(1), wide_rows, wide_columns.T, alpha=-2)
        squares += wide_rows.square().sum(1, keepdim=True)
        distances = squares.clamp_(min=0).to(rows.dtype).sqrt_()
        ctx.save_for_backward(rows, columns, distances)
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, distances = ctx.saved_tensors
        wide_rows, wide_columns = rows.double(), columns.double()
        # Coincident vectors have no direction to pull in: adding infinity makes their quotient 0.
        pull = (gradient / distances.masked_fill(distances == 0, torch.inf)).double()
        row_gradient = pull.sum(1, keepdim=True) * wide_rows - pull @ wide_columns
        column_gradient = pull.sum(0).unsqueeze(1) * wide_columns - pull.T @ wide_rows
        return row_gradient.to(rows.dtype), column_gradient.to(columns.dtype)


def index_moments(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and variance of the frame index under weights over frames.

    Args:
        weights: (..., N), >= 0, each row of positive sum; rows need not sum to exactly 1.

    Returns:
        Mean in [0, N - 1] and variance >= 0, each (...), float64 where the device has it: the second moment minus
        the squared mean cancels, in float32 by more than a squared frame from some thousand frames on.
    """
    weights = widen(weights)
    index = torch.arange(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    moments = weights @ torch.stack([torch.ones_like(index), index, index.square()], dim=1)
    mean, second = (moments[..., 1:] / moments[..., :1]).unbind(-1)
    return mean, (second - mean.square()).clamp(min=0)
