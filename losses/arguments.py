"""Checks of what the alignment losses are given, and the precision they compute in."""

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


def check_reduction(reduction: str) -> None:
    """Raise a ValueError for a reduction that is neither 'mean' nor 'sum'."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, expected 'mean' or 'sum'")


def check_positive(**values: float) -> None:
    """Raise a ValueError for a value that is not a finite number > 0, by its name."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f'{name} is {value}, expected a finite number > 0')


def check_non_negative(**values: float) -> None:
    """Raise a ValueError for a value that is not a finite number >= 0, by its name."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f'{name} is {value}, expected a finite number >= 0')


def check_counts(smallest: int = 1, **counts: int) -> None:
    """Raise a ValueError for a count below the smallest that is allowed, by its name."""
    for name, value in counts.items():
        if value < smallest:
            raise ValueError(f'{name} is {value}, expected an integer >= {smallest}')


def check_shares(**shares: float) -> None:
    """Raise a ValueError for a share outside (0, 1], by its name."""
    for name, value in shares.items():
        if not 0 < value <= 1:
            raise ValueError(f'{name} is {value}, expected a number in (0, 1]')


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor, in float32 where its dtype is a narrower one."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def widen(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, or as it is where the device has none (MPS)."""
    return tensor if tensor.device.type == 'mps' else tensor.to(torch.float64)
