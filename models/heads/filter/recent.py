"""Causal features of an embedding stream: the frame, its changes, and mean and std over short windows."""

import torch
from torch import Tensor, nn

LAGS = (2, 5)  # frames back that changes are taken over
WINDOWS = (5, 15)  # frames that a mean and a std are taken over, the current one included
REACH = max(*LAGS, *(window - 1 for window in WINDOWS))  # frames back that are looked at
MOST_DIMS = 128  # embeddings with more dimensions are reduced to their first principal components
SMALLEST_STD = 1e-6
CHUNK = 2048  # frames described at a time


class RecentFeatures(nn.Module):
    """Causal features of embeddings: standardized frame, changes, recent means (less the frame), and recent std.

    Args:
        embedding_dim: D, the dimension of the embeddings.

    Attributes:
        dim: F, the number of features per frame.
        short_dim: number of leading features that describe the frame and its changes.
        offset, projection: buffers (D,) and (D, d): standardization, and reduction to d principal components if D is
            above ``MOST_DIMS``.
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.reduced_dim = min(embedding_dim, MOST_DIMS)
        self.dim = self.reduced_dim * (1 + len(LAGS) + 2 * len(WINDOWS))
        self.short_dim = self.reduced_dim * (1 + len(LAGS))
        self.register_buffer('offset', torch.zeros(embedding_dim))
        self.register_buffer('projection', torch.eye(embedding_dim)[:, :self.reduced_dim].clone())
        age = torch.arange(REACH, -1, -1)  # of the frames of a window, the newest last
        lags = torch.stack([(age == lag).float() for lag in LAGS])
        windows = torch.stack([(age < window).float() / window for window in WINDOWS])
        self.register_buffer('averages', torch.cat([lags, windows]), persistent=False)  # (lags + windows, REACH + 1)

    def fit(self, frames: Tensor) -> None:
        """Fit offset, scale, and reduction to all training frames (n, D), in place."""
        frames = frames.double()
        offset = frames.mean(0)
        projection = torch.diag(1 / frames.std(0, correction=0).clamp(min=SMALLEST_STD))
        if self.reduced_dim < self.embedding_dim:
            z = (frames - offset) @ projection
            vectors = torch.linalg.eigh(z.T @ z / len(z))[1]  # ascending
            projection = projection @ vectors.flip(1)[:, :self.reduced_dim]
        self.offset.copy_(offset)
        self.projection.copy_(projection)

    def reduce(self, embeddings: Tensor) -> Tensor:
        """Return standardized, reduced embeddings, (..., D) -> (..., d)."""
        return (embeddings - self.offset) @ self.projection

    def describe(self, window: Tensor) -> Tensor:
        """Return the features (..., F) of the last frame of windows (..., REACH + 1, d)."""
        frame = window.narrow(-2, REACH, 1)
        change = window - frame  # differences first: their squares do not cancel
        means = self.averages @ change  # (..., lags + windows, d)
        squares = self.averages[len(LAGS):] @ change.square()
        std = (squares - means.narrow(-2, len(LAGS), len(WINDOWS)).square()).clamp(min=0).sqrt()
        return torch.cat([frame, means, std], dim=-2).flatten(-2)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the features of each frame, (N, T, D) -> (N, T, F); later frames have no effect.

        Windows that begin before the first frame are padded with the first frame.
        """
        padded = torch.cat([self.start(embeddings[:, 0]), self.reduce(embeddings)], dim=1)  # (N, REACH + T, d)
        windows = padded.unfold(1, REACH + 1, 1).transpose(2, 3)  # (N, T, REACH + 1, d), a view
        return torch.cat([self.describe(part) for part in windows.split(CHUNK, dim=1)], dim=1)

    def start(self, embedding: Tensor) -> Tensor:
        """Return the recent frames (N, REACH, d) before a recording whose first embedding is (N, D)."""
        return self.reduce(embedding).unsqueeze(1).expand(-1, REACH, -1)

    def step(self, embedding: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (N, F) of the next embedding (N, D), and the recent frames for the next call."""
        window = torch.cat([recent, self.reduce(embedding).unsqueeze(1)], dim=1)  # (N, REACH + 1, d)
        return self.describe(window), window.narrow(1, 1, REACH)
