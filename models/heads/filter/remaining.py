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
        self.register_buffer('combine', torch.zeros(size * 3, 2 * len(PACES)), persistent=False)
        self.register_buffer('per_frame', torch.zeros(()), persistent=False)  # points of the counter's table
        self.register_load_state_dict_post_hook(lambda module, _: module.derive())

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
        # The lengths of the recordings that are still going on are the end of the sorted ones: their median is the mean
        # of the two in the middle.
        ended = np.searchsorted(ordered, elapsed)  # (1024,), number of recordings that are over
        middle = ordered[(ended + len(ordered) - 1) // 2] + ordered[(ended + len(ordered)) // 2]
        self.counter.copy_(torch.from_numpy(middle / 2 - elapsed))
        self.longest.fill_(longest)
        self.derive()

    def derive(self) -> None:
        """Compute the table that is derived from ``after``; call this after loading a state_dict."""
        mean, square = self.after.unsqueeze(2).unbind(-1)  # (paces, S, 1)
        one, zero = torch.ones_like(mean), torch.zeros_like(mean)
        # A segment's probability, remaining frames, and their square, times a row each, give the recording's moments.
        rows = [torch.cat([mean + 1, square + 2 * mean + 1], dim=2), torch.cat([one, 2 * mean + 2], dim=2),
                torch.cat([zero, one], dim=2)]
        table = torch.stack(rows, dim=2)  # (paces, S, 3, 2)
        self.combine.copy_(table.permute(1, 2, 3, 0).reshape(self.combine.shape))
        self.per_frame.copy_((COUNTER_SIZE - 1) / self.longest)

    def moments(self, mass: Tensor, pace_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the remaining frames according to the chain.

        Args:
            mass: (N, S V, nodes), the posterior.
            pace_weights: (N, paces), weights of the stored paces.

        Returns:
            (N, S, 3), probability of each kind, and expected remaining frames of its current segment and their square,
            times the probability; (N, 2), mean and mean square of the frames of the recording from the current frame
            on.
        """
        inside = (mass @ self.left * self.frames).view(len(mass), self.num_kinds, RATES, 3).sum(2)  # (N, S, 3)
        by_pace = (inside.flatten(1) @ self.combine).view(len(mass), 2, -1)
        return inside, torch.bmm(by_pace, pace_weights.unsqueeze(2)).squeeze(2)  # weights of the paces sum to 1

    def count(self, elapsed: Tensor) -> Tensor:
        """Return the frame counter's remaining frames after ``elapsed`` frames; 0 past the longest recording."""
        index = (elapsed * self.per_frame).round().clamp(max=COUNTER_SIZE - 1).long()
        return self.counter.take(index)

    def forward(self, moments: Tensor, elapsed: Tensor) -> tuple[Tensor, Tensor]:
        """Return remaining frames, (..., 3): low end, estimate, high end; and the std of their log, (..., 1).

        Args:
            moments: (..., 2), from :meth:`moments`.
            elapsed: (..., 1), frames so far, the current frame included.
        """
        mean, square = moments.narrow(-1, 0, 1), moments.narrow(-1, 1, 1)  # (..., 1)
        estimate = torch.lerp(self.count(elapsed) + 1, mean, self.blend)
        std = (square / (mean * mean)).clamp(min=1 + SMALLEST_VARIANCE).log().sqrt()
        return (estimate * (std * self.spread).exp() - 1).clamp(min=0), std
