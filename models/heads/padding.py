"""Padded batches of segments of different lengths."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def pad_segments(segments: Sequence[Tensor], input_dim: int) -> tuple[Tensor, Tensor]:
    """Return segments (n_i, D) as a padded batch (B, n, D), and their lengths (B,).

    Raises:
        ValueError: there is no segment, a segment has no frames, or a segment's D is not ``input_dim``.
    """
    if len(segments) == 0:
        raise ValueError('segments is empty, expected at least one segment')
    for index, segment in enumerate(segments):
        if segment.ndim != 2 or segment.shape[1] != input_dim or len(segment) == 0:
            raise ValueError(f'segment {index} has shape {tuple(segment.shape)}, expected (n, {input_dim}) with n >= 1')
    # (B, n, D), (B,)
    return pad_sequence(list(segments), batch_first=True), torch.tensor([len(segment) for segment in segments])


def blank_padding(padded: Tensor, lengths: Tensor, input_dim: int) -> Tensor:
    """Check a padded batch (B, n, D) and zero its padding, because NaN there would reach the weights' gradients.

    Raises:
        ValueError: a shape is wrong, or lengths (B,) are outside of [1, n].
    """
    if not isinstance(padded, Tensor):
        raise ValueError('segments are a list next to lengths, expected one padded tensor (B, n, D)')
    if padded.ndim != 3 or padded.shape[2] != input_dim or not 0 < len(lengths) == len(padded):
        raise ValueError(f'segments have shape {tuple(padded.shape)} next to {len(lengths)} lengths, expected '
                         f'(B, n, {input_dim}) and B >= 1 lengths')
    shortest, longest = torch.stack(lengths.aminmax()).tolist()  # one transfer from a GPU instead of two
    if shortest < 1 or longest > padded.shape[1]:
        raise ValueError(f'lengths run from {shortest} to {longest}, expected 1 to {padded.shape[1]}')
    frames = torch.arange(padded.shape[1], device=padded.device)
    is_padding = frames >= lengths.to(padded.device).unsqueeze(1)  # (B, n)
    return padded.masked_fill(is_padding.unsqueeze(-1), 0)
