"""Standardize features with the mean and the standard deviation of the training recordings."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class FeatureStandardizer(nn.Module):
    """Map features (T, D) to mean 0 and standard deviation 1 per dimension, over the recordings it was fitted on.

    Mean and standard deviation are buffers, so they are stored with the weights of a run. A dimension that is constant
    in the training recordings is only shifted.

    Args:
        feature_dim: D.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(feature_dim))
        self.register_buffer('std', torch.ones(feature_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Return the standardized features (T, D)."""
        return (features - self.mean) / self.std

    def fit(self, recordings: Iterable[Tensor]) -> None:
        """Set mean and standard deviation from the frames of all recordings, each frame with the same weight.

        Args:
            recordings: features (T_i, D), read one after another.
        """
        count, mean, squares = 0, torch.zeros_like(self.mean, dtype=torch.float64), 0.0
        for features in recordings:
            # Chan et al. (1979): merge means and sums of squared deviations; sums of squares would lose digits.
            values = features.double().to(mean.device)  # (T, D)
            own, frames = values.mean(dim=0), len(values)
            difference = own - mean
            squares = squares + (values - own).square().sum(dim=0)
            squares = squares + difference.square() * count * frames / (count + frames)
            mean = mean + difference * frames / (count + frames)
            count += frames
        std = (squares / max(count, 1)) ** 0.5
        # Rounding leaves a tiny deviation in a constant dimension, which would blow up differences later.
        constant = std <= 1e-6 * mean.abs()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(constant, torch.ones_like(std), std))
