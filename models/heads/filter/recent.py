"""Causal features of an embedding stream: the frame, its changes, and averages over short windows and long times."""

import torch
from torch import Tensor, nn

LAGS = (2, 5)  # frames back that changes are taken over
WINDOWS = (5, 15)  # frames that a mean and a std are taken over, the current one included
REACH = max(*LAGS, *(window - 1 for window in WINDOWS))  # frames back that are looked at
MOST_DIMS = 128  # embeddings with more dimensions are reduced to their first principal components
SLOW = (30.0, 90.0)  # time constants of the slow averages, frames
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
        """Return the features (n, F) of the last frame of windows (REACH + 1, n, d)."""
        frame = window.narrow(0, REACH, 1)
        change = window - frame  # differences first: their squares do not cancel
        # Time is the first axis, so that each average is one product of matrices for all n d values.
        means = (self.averages @ change.flatten(1)).view(len(self.averages), *frame.shape[1:])  # (lags + windows, n, d)
        squares = (self.averages[len(LAGS):] @ (change * change).flatten(1)).view(len(WINDOWS), *frame.shape[1:])
        mean = means.narrow(0, len(LAGS), len(WINDOWS))
        std = torch.addcmul(squares, mean, mean, value=-1).clamp(min=0).sqrt()
        return torch.cat([frame, means, std]).transpose(0, 1).flatten(1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the features of each frame, (N, T, D) -> (N, T, F); later frames have no effect.

        Windows that begin before the first frame are padded with the first frame.
        """
        frames = torch.cat([self.start(embeddings[:, 0]), self.reduce(embeddings).transpose(0, 1)])  # (REACH + T, N, d)
        windows = frames.unfold(0, REACH + 1, 1).permute(3, 0, 1, 2)  # (REACH + 1, T, N, d), a view
        described = [self.describe(part.flatten(1, 2)) for part in windows.split(CHUNK, dim=1)]  # (t N, F) each
        return torch.cat(described).unflatten(0, (embeddings.shape[1], len(embeddings))).transpose(0, 1)

    def start(self, embedding: Tensor) -> Tensor:
        """Return the recent frames (REACH, N, d) before a recording whose first embedding is (N, D)."""
        return self.reduce(embedding).expand(REACH, -1, -1)

    def step(self, embedding: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (N, F) of the next embedding (N, D), and the recent frames for the next call."""
        window = torch.cat([recent, self.reduce(embedding).unsqueeze(0)])  # (REACH + 1, N, d)
        return self.describe(window), window.narrow(0, 1, REACH)


class SlowAverages(nn.Module):
    """Exponential moving averages of a stream with long time constants: what has been seen so far, at constant cost.

    At its beginning, an average is the plain mean of all frames so far, until there are as many as its time constant.

    Args:
        input_dim: d, the dimension of the stream.

    Attributes:
        dim: number of averages per frame, d for each time constant.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.input_dim, self.dim = input_dim, input_dim * len(SLOW)
        rates = torch.tensor([1 / constant for constant in SLOW]).repeat_interleave(input_dim)
        self.register_buffer('rates', rates, persistent=False)  # (dim,)

    def start(self, batch: int) -> Tensor:
        """Return the averages (N, dim) before the first frame."""
        return self.rates.new_zeros(batch, self.dim)

    def step(self, frame: Tensor, averages: Tensor, elapsed: Tensor) -> Tensor:
        """Return the averages (N, dim) with the next frame.

        Args:
            frame: (N, d), the next frame.
            averages: (N, dim), those of the frames before it.
            elapsed: (N, 1), number of frames so far, this one included, float.
        """
        frames = torch.cat([frame] * len(SLOW), dim=1)  # repeat() takes ten times as long
        return torch.lerp(averages, frames, torch.maximum(self.rates, elapsed.reciprocal()))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the averages at each frame of a recording, (T, d) -> (T, dim); later frames have no effect."""
        averages, elapsed, found = self.start(1), frames.new_zeros(1, 1), []
        for frame in frames.split(1):
            elapsed = elapsed + 1
            averages = self.step(frame, averages, elapsed)
            found.append(averages)
        return torch.cat(found)
