"""Durations on a grid of log frames: survival up to a frame, and quantiles of progress."""

import math

import torch
from torch import Tensor, nn


class DurationGrid(nn.Module):
    """Cells of equal size in log frames, ``[low + i * size, low + (i + 1) * size)``, with density constant in each.

    Args:
        size: G, number of cells.

    Attributes:
        log_low: buffer (), log frames at which the first cell begins.
        cell: buffer (), size of a cell in log frames.
    """

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.size = size
        self.register_buffer('log_low', torch.tensor(math.log(0.5)))
        self.register_buffer('cell', torch.tensor(math.log(2e4) / size))

    def fit(self, shortest: float, longest: float, *, margin: float = 12.0) -> None:
        """Cover durations from ``shortest / margin`` (at least half a frame) to ``longest * margin`` frames."""
        low = math.log(max(shortest / margin, 0.5))
        self.log_low.fill_(low)
        self.cell.fill_((math.log(max(longest, 1.0) * margin) - low) / self.size)

    def centers(self) -> Tensor:
        """Return the log durations at the centers of the cells, (G,)."""
        return self.log_low + self.cell * (torch.arange(self.size, device=self.cell.device) + 0.5)

    def surviving(self, elapsed: Tensor) -> Tensor:
        """Return the fraction of each cell that lasts at least ``elapsed`` frames.

        Args:
            elapsed: (...), frames >= 1, the current one included. Durations are whole, so half a frame is spared.

        Returns:
            (..., G) in [0, 1]; the last cell never dies, so that an endless action keeps a posterior.
        """
        start = ((elapsed - 0.5).log() - self.log_low) / self.cell
        index = torch.arange(self.size, device=self.cell.device)
        fraction = (index + 1 - start.unsqueeze(-1)).clamp(0, 1)
        return torch.where(index == self.size - 1, fraction.clamp(min=1e-3), fraction)

    def quantiles(self, mass: Tensor, surviving: Tensor, levels: Tensor) -> Tensor:
        """Return quantiles of the log duration.

        Args:
            mass: (..., G), probability of each cell, any positive sum; parts that did not survive are left out.
            surviving: (..., G), from :meth:`surviving`; what is left of a cell is its upper part.
            levels: (Q,) in (0, 1).

        Returns:
            (..., Q), log frames.
        """
        cumulative = mass.cumsum(-1)
        target = levels * cumulative[..., -1:]  # (..., Q)
        index = torch.searchsorted(cumulative, target.contiguous()).clamp(max=self.size - 1)
        within = mass.gather(-1, index)
        below = cumulative.gather(-1, index) - within
        position = ((target - below) / within.clamp(min=1e-30)).clamp(0, 1)
        # The part left of a cell ends at its upper edge.
        upper = self.log_low + self.cell * (index + 1)
        return upper - self.cell * surviving.gather(-1, index) * (1 - position)

    def progress_quantiles(self, mass: Tensor, elapsed: Tensor, surviving: Tensor, levels: Tensor) -> Tensor:
        """Return quantiles of progress ``elapsed / duration``, (..., Q) in (0, 1], from cell masses (..., G)."""
        log_duration = self.quantiles(mass, surviving, 1 - levels)
        return (elapsed.log().unsqueeze(-1) - log_duration).clamp(max=0).exp()

    def exceeding(self, mass: Tensor, surviving: Tensor, log_duration: Tensor) -> Tensor:
        """Return the probability that the duration is at least a given one; inverse of :meth:`quantiles`.

        Args:
            mass: (..., G), as in :meth:`quantiles`.
            surviving: (..., G), from :meth:`surviving`.
            log_duration: (...), log frames.

        Returns:
            (...), in [0, 1].
        """
        index = torch.arange(self.size, device=mass.device)
        upper = self.log_low + self.cell * (index + 1)
        left = (upper - log_duration.unsqueeze(-1)) / (self.cell * surviving.clamp(min=1e-6))
        return (mass * left.clamp(0, 1)).sum(-1) / mass.sum(-1).clamp(min=1e-30)
