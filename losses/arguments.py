"""Argument checks of the alignment losses, and the precision in which they compute."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

REDUCTIONS = ('mean', 'sum')


def check_sequences(sequences: Sequence[Tensor]) -> list[Tensor]:
    """Check a batch of embedded recordings and convert it to the precision in which the losses compute.

    Args:
        sequences: embeddings, each (T_i, E) with T_i >= 1, all of the same floating dtype and device.

    Returns:
        The sequences, converted to float32 if they are float16 or bfloat16, with their graph.

    Raises:
        ValueError: there is no sequence, a sequence is not a matrix, has no frames or is not floating, or embedding
                dimensions, dtypes or devices differ.
    """
    if len(sequences) == 0:
        raise ValueError('sequences is empty, expected at least one tensor of shape (T, E)')
    first = sequences[0]
    for index, sequence in enumerate(sequences):
        if sequence.ndim != 2 or 0 in sequence.shape:
            raise ValueError(f'sequences[{index}] has shape {tuple(sequence.shape)}, expected (T, E) with T, E >= 1')
        if sequence.shape[1] != first.shape[1]:
            raise ValueError(f'sequences[{index}] has embedding dimension {sequence.shape[1]}, expected '
                             f'{first.shape[1]} as in sequences[0]')
        if not sequence.is_floating_point():
            raise ValueError(f'sequences[{index}] has dtype {sequence.dtype}, expected a floating dtype')
        if (sequence.dtype, sequence.device) != (first.dtype, first.device):
            raise ValueError(f'sequences[{index}] is {sequence.dtype} on {sequence.device}, expected {first.dtype} on '
                             f'{first.device} as in sequences[0]')
    return [at_least_float32(sequence) for sequence in sequences]


def check_reduction(reduction: str) -> None:
    """Raise a ValueError if the reduction is neither 'mean' nor 'sum'."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, expected 'mean' or 'sum'")


def check_positive(**values: float) -> None:
    """Raise a ValueError that names the first value that is not a finite number > 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f'{name} is {value}, expected a finite number > 0')


def check_non_negative(**values: float) -> None:
    """Raise a ValueError that names the first value that is not a finite number >= 0."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f'{name} is {value}, expected a finite number >= 0')


def check_counts(smallest: int = 1, **counts: int) -> None:
    """Raise a ValueError that names the first count below ``smallest``."""
    for name, value in counts.items():
        if value < smallest:
            raise ValueError(f'{name} is {value}, expected an integer >= {smallest}')


def check_fractions(**fractions: float) -> None:
    """Raise a ValueError that names the first fraction outside (0, 1]."""
    for name, value in fractions.items():
        if not 0 < value <= 1:
            raise ValueError(f'{name} is {value}, expected a number in (0, 1]')


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor, converted to float32 if its dtype is less precise."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def widen(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, or unchanged if the device does not support float64 (MPS)."""
    return tensor if tensor.device.type == 'mps' else tensor.to(torch.float64)
