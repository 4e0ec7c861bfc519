"""Durations on a grid of log frames: survival up to a frame, and quantiles of progress."""

import math

import torch
from torch import Tensor, nn

SMALLEST_MASS = 1e-30  # of a cell, because quantiles divide by it
IMMORTAL = 1e-3  # fraction of the last cell that always survives, so that an endless action keeps a posterior


class DurationGrid(nn.Module):
    """Cells of equal size in log frames; the density is constant within a cell.

    Args:
        size: G, the number of cells.

    Attributes:
        upper: buffer (G,), log frames at which each cell ends.
        cell: buffer (), size of a cell in log frames.
        frames: buffer (G,), duration at the center of each cell, in frames.
    """

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.size = size
        least = torch.zeros(size)
        least[-1] = IMMORTAL
        self.register_buffer('least', least)  # of each cell that survives
        for name in ('upper', 'frames'):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer('cell', torch.zeros(()))
        self.fit(1.0, 1000.0)

    def fit(self, shortest: float, longest: float, *, margin: float = 12.0) -> None:
        """Cover durations from ``shortest / margin`` (at least half a frame) to ``longest * margin`` frames."""
        low = math.log(max(shortest / margin, 0.5))
        cell = (math.log(max(longest, 1.0) * margin) - low) / self.size
        self.cell.fill_(cell)
        self.upper.copy_(low + cell * torch.arange(1, self.size + 1))
        self.frames.copy_((self.upper - cell / 2).exp())

    def centers(self) -> Tensor:
        """Return the log durations at the centers of the cells, (G,)."""
        return self.upper - self.cell / 2

    def surviving(self, elapsed: Tensor) -> Tensor:
        """Return the fraction of each cell that lasts at least ``elapsed`` frames.

        Args:
            elapsed: (...), frames >= 1, the current frame included. Durations are integers, so half a frame is
                subtracted.

        Returns:
            (..., G) in [0, 1]; a small fraction of the last cell always survives.
        """
        # The part of each cell above log(t - 1/2), in cells: over 1 for longer durations, negative for shorter ones.
        # (..., G)
        fraction = (self.upper - (elapsed - 0.5).log().unsqueeze(-1)) / self.cell
        return torch.maximum(fraction.clamp(max=1), self.least)

    def quantiles(self, mass: Tensor, surviving: Tensor, levels: Tensor) -> Tensor:
        """Return quantiles of the log duration.

        Args:
            mass: (..., G), unnormalized probability of the surviving part of each cell. None may be left, as of an
                action many times as long as its label ever was.
            surviving: (..., G), from :meth:`surviving`; the upper part of a cell survives.
            levels: (Q,) in (0, 1).

        Returns:
            (..., Q), log frames.
        """
        mass = mass.clamp(min=SMALLEST_MASS)
        cumulative = mass.cumsum(-1)
        target = levels * cumulative[..., -1:]  # (..., Q)
        index = torch.searchsorted(cumulative, target).clamp(max=self.size - 1)  # (..., Q)
        above = ((cumulative.gather(-1, index) - target) / mass.gather(-1, index)).clamp(0, 1)  # fraction of the cell
        # Within a cell, mass is spread evenly over its surviving upper part.
        return self.upper[index] - self.cell * surviving.gather(-1, index) * above

    def progress_quantiles(self, mass: Tensor, elapsed: Tensor, surviving: Tensor, levels: Tensor) -> Tensor:
        """Return quantiles of progress ``elapsed / duration``, (..., Q) in (0, 1], from cell masses (..., G)."""
        log_duration = self.quantiles(mass, surviving, 1 - levels)
        return (elapsed.log().unsqueeze(-1) - log_duration).clamp(max=0).exp()
