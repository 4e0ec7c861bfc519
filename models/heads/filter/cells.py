"""Sensors in closed form: Gaussians per (label, phase bin) of an LDA projection of causal features."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LOWEST_EVIDENCE = -25.0  # lower bound on the evidence of a single frame against a label or a phase
SMALLEST_STD = 1e-6


class CausalFeatures:
    """Causal features at each frame: the frame and its differences to earlier frames.

    Args:
        lags: distances to the earlier frames; the first frame replaces frames before the start.
    """

    def __init__(self, lags: Sequence[int]) -> None:
        self.lags = tuple(lags)
        self.reach = max(self.lags) + 1

    def dim(self, feature_dim: int) -> int:
        """Return F, the number of causal features, given D."""
        return feature_dim * (1 + len(self.lags))

    def __call__(self, features: Tensor) -> Tensor:
        """Return the causal features of each frame, (..., T, D) -> (..., T, F); later frames have no effect."""
        t = torch.arange(features.shape[-2], device=features.device)
        changes = [features - features[..., (t - lag).clamp(min=0), :] for lag in self.lags]  # (..., T, D) each
        return torch.cat([features, *changes], dim=-1)

    def start(self, frame: Tensor) -> Tensor:
        """Return the last frames (..., reach, D) before a first frame (..., D)."""
        return frame.unsqueeze(-2).expand(*frame.shape[:-1], self.reach, -1)

    def step(self, frame: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the causal features (..., F) of the next frame (..., D), and the last frames for the next call.

        Args:
            frame: (..., D).
            recent: (..., reach, D), the last frames in order of time.
        """
        # The window moves on by a frame; the new frame is its last row.
        recent = torch.cat([recent[..., 1:, :], frame.unsqueeze(-2)], dim=-2)
        return torch.cat([frame, *(frame - recent[..., -1 - lag, :] for lag in self.lags)], dim=-1), recent


class Cells(nn.Module):
    """Gaussian cells (label, phase bin) with a common covariance, after linear discriminant analysis.

    Args:
        num_labels: K, the number of labels.
        feature_dim: F, the dimension of the causal features.
        bins: B, the number of phase bins per label; means are smoothed over neighboring bins.
        dims: d, the dimension of the projection, at most F.
        shrinkage: added to the diagonal of the within-cell covariance of standardized features.

    Attributes:
        offset, projection: buffers (F,) and (F, d); projected features have variance 1 within cells.
        means: buffer (K, B, d); labels without training frames get the mean over the other labels.
        half_norms: buffer (K B,), half the squared norm of each mean.

    Reference:
        Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2009, 4.3.
    """

    def __init__(self, num_labels: int, feature_dim: int, *, bins: int = 20, dims: int = 16,
                 shrinkage: float = 1.0) -> None:
        super().__init__()
        self.num_labels, self.bins, self.shrinkage = num_labels, bins, shrinkage
        self.dims = min(dims, feature_dim)
        self.register_buffer('offset', torch.zeros(feature_dim))
        self.register_buffer('projection', torch.zeros(feature_dim, self.dims))
        self.register_buffer('means', torch.zeros(num_labels, bins, self.dims))
        self.register_buffer('half_norms', torch.zeros(num_labels * bins))

    def fit(self, frames: Tensor, labels: Tensor, phases: Tensor) -> None:
        """Fit projection and means, in place.

        Args:
            frames: (n, F), all training frames.
            labels: (n,), integers in [0, K).
            phases: (n,), in [0, 1]; for the i-th of L frames (i - 1/2) / L, its middle, or i / L, its end, as in
                predictions.
        """
        frames, phases = frames.double(), phases.double()
        offset, std = frames.mean(0), frames.std(0, correction=0).clamp(min=SMALLEST_STD)
        z = (frames - offset) / std  # (n, F)
        cell = labels * self.bins + self._bin(phases)
        means, counts = self._cell_means(z, cell)
        # Deviations from the cells' means; LDA assumes that all cells have the same covariance.
        within = z - means[cell]
        projection = _discriminants(within.T @ within / len(z), means[counts > 0], self.shrinkage, self.dims)
        y = z @ projection  # (n, d)
        smooth = self._smooth_means(y, labels, phases)
        # Around smoothed means the deviations are larger than around the cells' own: rescale them to std 1.
        scale = (y - smooth[labels, self._bin(phases)]).square().mean(0).add(1e-3).sqrt()
        self.offset.copy_(offset)
        # Standardization and rescaling become part of the projection, so that a frame costs one product.
        self.projection.copy_(projection / std.unsqueeze(1) / scale)
        known = torch.bincount(labels, minlength=self.num_labels) > 0
        smooth[~known] = smooth[known].mean(0)
        self.means.copy_(smooth / scale)
        self.half_norms.copy_(0.5 * self.means.square().sum(2).flatten())

    def log_evidence(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the evidence of each frame for labels and phases.

        Args:
            frames: (..., F).

        Returns:
            ``log p(k | frame)`` for a uniform prior over labels, (..., K), and ``log p(bin | k, frame) - log uniform``,
            (..., K, B), each at least ``LOWEST_EVIDENCE``.
        """
        by_label, by_phase = split_density(self.log_density(frames))
        by_phase = by_phase + math.log(self.bins)
        return by_label.log_softmax(-1).clamp(min=LOWEST_EVIDENCE), by_phase.clamp(min=LOWEST_EVIDENCE)

    def log_density(self, frames: Tensor) -> Tensor:
        """Return the log density of frames (..., F) in each cell, (..., K, B), up to a constant of each frame."""
        # |y|^2 is equal for all cells and left out.
        # log N(y; m, I) = y m - |m|^2 / 2 - |y|^2 / 2 + constant: (..., d) @ (d, K B).
        flat = self.project(frames) @ self.means.flatten(0, 1).T - self.half_norms
        return flat.unflatten(-1, (self.num_labels, self.bins))

    def project(self, frames: Tensor) -> Tensor:
        """Project frames (..., F) to the space of the cells, (..., d)."""
        return (frames - self.offset) @ self.projection

    def _bin(self, phases: Tensor) -> Tensor:
        return (phases * self.bins).long().clamp(0, self.bins - 1)

    def _cell_means(self, z: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of each cell, (K B, F), and its number of frames, (K B,)."""
        counts = torch.bincount(cell, minlength=self.num_labels * self.bins)
        sums = z.new_zeros(len(counts), z.shape[1]).index_add_(0, cell, z)
        return sums / counts.clamp(min=1).unsqueeze(1), counts

    def _smooth_means(self, y: Tensor, labels: Tensor, phases: Tensor) -> Tensor:
        """Return means (K, B, d) of projected frames, weighted by a normal of one bin's std in phase."""
        centers = (torch.arange(self.bins, device=y.device, dtype=y.dtype) + 0.5) / self.bins
        means = y.new_zeros(self.num_labels, self.bins, y.shape[1])
        for label in labels.unique().tolist():
            mine = labels == label
            distance = (phases[mine].unsqueeze(1) - centers) * self.bins  # (n, B)
            # A bin far from all frames gets the mean of the nearest frames.
            weight = (-0.5 * distance.square()).softmax(0)
            means[label] = weight.T @ y[mine]
        return means


def split_density(log_density: Tensor) -> tuple[Tensor, Tensor]:
    """Split the log density (..., K, B) of frames in cells.

    Returns:
        Log density of the labels, (..., K), up to a constant; and ``log p(bin | label, frame)``, (..., K, B).
    """
    by_phase = log_density.log_softmax(-1)
    # The log of the sum over bins, from the bin with the largest density: a fraction of the time of logsumexp.
    return log_density.amax(-1) - by_phase.amax(-1), by_phase


def phase_weights(elapsed: Tensor, durations: Tensor, bins: int) -> Tensor:
    """Return the weight of each phase bin for a duration at a frame: linear interpolation between bin centers.

    Args:
        elapsed: (C,), frames of the action so far, the current frame included.
        durations: (G,), in frames.
        bins: B, the number of phase bins.

    Returns:
        (C, B, G), in [0, 1], sums over B are 1.
    """
    # Bin b has its center at (b + 1/2) / bins.
    position = (torch.outer(elapsed - 0.5, bins / durations) - 0.5).clamp(0, bins - 1)  # (C, G)
    index = torch.arange(bins, device=elapsed.device, dtype=elapsed.dtype)
    # 1 at the bin's own center, falling to 0 at its neighbors' centers: (C, 1, G) - (B, 1) -> (C, B, G).
    return (1 - (position.unsqueeze(1) - index.unsqueeze(1)).abs()).clamp(min=0)


def _discriminants(within: Tensor, means: Tensor, shrinkage: float, dims: int) -> Tensor:
    """Return the directions that best separate cell means relative to the within-cell covariance.

    Args:
        within: (F, F), within-cell covariance.
        means: (C, F), means of the cells.
        shrinkage: see :class:`Cells`.
        dims: number of directions; directions past min(C, F) are zero.

    Returns:
        (F, dims), of unit variance within cells.
    """
    # W = L L^T, so L^-1 whitens the deviations within cells.
    factor = torch.linalg.cholesky(within + shrinkage * torch.eye(len(within)).to(within))
    whitened = torch.linalg.solve_triangular(factor, (means - means.mean(0)).T, upper=False)  # (F, C)
    # Principal axes of the whitened means: the directions in which cells differ most, relative to the spread within.
    directions = torch.linalg.svd(whitened, full_matrices=False).U[:, :dims]
    # L^-T u on features equals u on whitened features.
    projection = torch.linalg.solve_triangular(factor.T, directions, upper=True)
    return torch.nn.functional.pad(projection, (0, dims - projection.shape[1]))
