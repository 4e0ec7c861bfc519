"""Remaining frames of a recording: an absorbing Markov chain over states, mixed with a frame counter."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.heads.filter.phase_grid import PACES, PHASES, RATES, PhaseGrid

COUNTER_SIZE = 1024  # points of the counter's table
SMALLEST_VARIANCE = 1e-4  # of the log of remaining frames


class Remaining(nn.Module):
    """Mean and variance of the remaining frames, given the filter's posterior and the elapsed frames.

    The frames that remain after a kind of segment are the time to absorption of a Markov chain that ends with the
    transcript: a linear solve for the mean and another for the mean square, at each stored pace.

    Args:
        grid: prior that defines the states.

    Attributes:
        after: buffer (paces, S, 2), mean and mean square of the frames that follow a kind of segment.
        counter: buffer (1024,), median remaining frames given survival, at elapsed frames from 0 to ``longest``.
        blend: buffer (), weight of the filter against the counter, in [0, 1].
        spread: buffer (3,), offsets of low end, estimate, and high end in std of log remaining frames, from left-out
            recordings.
    """

    def __init__(self, grid: PhaseGrid) -> None:
        super().__init__()
        size = grid.num_kinds
        self.num_kinds = size
        self.register_buffer('after', torch.zeros(len(PACES), size, 2))
        self.register_buffer('frames', torch.ones(size * RATES, 3))
        left = 1 - torch.arange(PHASES + 1) / PHASES
        self.register_buffer('left', torch.stack([torch.ones_like(left), left, left.square()], dim=1), persistent=False)
        self.register_buffer('counter', torch.zeros(COUNTER_SIZE))
        self.register_buffer('longest', torch.ones(()))
        self.register_buffer('blend', torch.ones(()))
        self.register_buffer('spread', torch.tensor([-1.645, 0.0, 1.645]))

    def fit(self, grid: PhaseGrid, lengths: Sequence[int]) -> None:
        """Solve for the remaining frames and fill the counter's table, from training recordings' lengths, in place."""
        frames = grid.log_frames.double().exp().clamp(min=1)  # (S, V)
        self.frames.copy_(torch.stack([torch.ones_like(frames), frames, frames.square()], dim=2).flatten(0, 1))
        chain = grid.likely.double()
        identity = torch.eye(len(chain), dtype=chain.dtype, device=chain.device)
        entry = grid.entry.view(len(PACES), *grid.log_frames.shape).double()
        for index, durations in enumerate(entry):  # (S, V)
            first, second = (durations * frames).sum(1), (durations * frames.square()).sum(1)
            mean = torch.linalg.solve(identity - chain, chain @ first)
            square = torch.linalg.solve(identity - chain, chain @ (second + 2 * first * mean))
            self.after[index] = torch.stack([mean, square], dim=1)
        longest = max(lengths)
        ordered = np.sort(np.asarray(lengths, dtype=float))
        elapsed = np.linspace(0, longest, COUNTER_SIZE)
        alive = [np.median(ordered[np.searchsorted(ordered, t):]) - t for t in elapsed]
        self.counter.copy_(torch.tensor(alive))
        self.longest.fill_(longest)

    def moments(self, mass: Tensor, pace_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the remaining frames according to the chain.

        Args:
            mass: (N, S V, nodes), the posterior.
            pace_weights: (N, paces), weights of the stored paces.

        Returns:
            (N, S, 2), probability of each kind and expected remaining frames of its current segment, times the
            probability; (N, 2), mean and mean square of the remaining frames of the recording.
        """
        inside = (mass @ self.left * self.frames).view(len(mass), self.num_kinds, RATES, 3).sum(2)  # (N, S, 3)
        here, rest, rest_square = inside.unbind(2)
        mean, square = (pace_weights @ self.after.flatten(1)).view(-1, self.num_kinds, 2).unbind(2)
        total = torch.stack([rest + here * mean, rest_square + 2 * rest * mean + here * square], dim=1).sum(2)
        return inside[..., :2], total

    def count(self, elapsed: Tensor) -> Tensor:
        """Return the frame counter's remaining frames after ``elapsed`` frames; 0 past the longest recording."""
        index = (elapsed / self.longest * (COUNTER_SIZE - 1)).round().clamp(max=COUNTER_SIZE - 1).long()
        return self.counter[index]

    def forward(self, moments: Tensor, elapsed: Tensor) -> tuple[Tensor, Tensor]:
        """Return remaining frames, (..., 3): low end, estimate, high end; and the std of their log, (...).

        Args:
            moments: (..., 2), from :meth:`moments`.
            elapsed: (...), frames so far, the current frame included.
        """
        mean, square = moments.unbind(-1)
        estimate = torch.lerp(self.count(elapsed), mean, self.blend)
        relative = (square - mean.square()).clamp(min=0) / (mean + 1).square()
        std = (relative + SMALLEST_VARIANCE).log1p().sqrt()
        factor = (std.unsqueeze(-1) * self.spread).exp()
        return ((estimate + 1).unsqueeze(-1) * factor - 1).clamp(min=0), std
