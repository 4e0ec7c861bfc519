"""Random changes of a recording's features in training, against learning the people by heart."""

from collections.abc import Mapping

import torch
from torch import Tensor


def augment_features(features: Tensor, *, scale: float = 0.0, shift: float = 0.0, noise: float = 0.0) -> Tensor:
    """Scale and shift each dimension of a recording by a draw of its own, and add noise to every entry.

    Args:
        features: (T, D).
        scale: deviation of the factor of a dimension, around 1.
        shift: deviation of the offset of a dimension, in units of that dimension's deviation within the recording.
        noise: deviation of the noise of an entry, in the same units.

    Returns:
        (T, D), the features themselves where nothing is to be changed. Draws come from torch's global generator.
    """
    if not (scale or shift or noise):
        return features
    unit = features.std(dim=0, keepdim=True, correction=0)
    factors = 1 + scale * torch.randn_like(unit)
    return features * factors + unit * (shift * torch.randn_like(unit) + noise * torch.randn_like(features))


def augment_batch(videos: list, settings: Mapping) -> list:
    """Augment the features of a batch; frames (T, C, H, W), which stay memory-mapped, are left as they are."""
    return [augment_features(video, **settings) if isinstance(video, Tensor) and video.ndim == 2 else video
            for video in videos]
