"""Random changes of a recording in training, of its looks and of its speed, against learning the people by heart."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

WARP_LIMITS = 0.4, 2.5  # of the factor of a duration


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


def warp_time(features: Tensor, times: Mapping, deviation: float) -> tuple[Tensor, Mapping]:
    """Play a recording at another speed, and each of its segments at one of its own: frames are repeated or left out.

    Args:
        features: (T, D).
        times: its annotation, 'step', 'start_frame' and 'end_frame', both ends inclusive.
        deviation: of the log of the factor that the recording's duration takes, and of that which each segment's
            takes besides; either factor stays within [0.4, 2.5].

    Returns:
        Features (T', D) with T' >= 2 and an annotation that follows them, without the segments of which no frame is
        left; as given where the deviation is 0. Draws come from torch's global generator.
    """
    if not deviation:
        return features, times
    starts, ends = (torch.as_tensor(times[key], dtype=torch.long) for key in ('start_frame', 'end_frame'))
    factors = torch.exp(deviation * torch.randn(1 + len(starts))).clamp(*WARP_LIMITS).tolist()
    durations = torch.full((len(features),), factors[0])
    for start, end, factor in zip(starts.tolist(), ends.tolist(), factors[1:], strict=True):
        durations[start:end + 1] *= factor
    passed = durations.cumsum(0)
    count = max(2, round(float(passed[-1])))
    moments = (torch.arange(count) + 0.5) * (passed[-1] / count)
    taken = torch.searchsorted(passed, moments).clamp(max=len(features) - 1)
    starts = torch.searchsorted(taken, starts).tolist()
    ends = (torch.searchsorted(taken, ends, right=True) - 1).tolist()
    kept = [segment for segment in zip(times['step'], starts, ends, strict=True) if segment[1] <= segment[2]]
    columns = [[segment[column] for segment in kept] for column in range(3)]
    return (features[taken.to(features.device)],
            {**times, **dict(zip(('step', 'start_frame', 'end_frame'), columns, strict=True))})


def augment_batch(videos: Sequence, times: Sequence[Mapping], settings: Mapping) -> tuple[list, list[Mapping]]:
    """Augment a batch; frames (T, C, H, W), which stay memory-mapped, are left as they are.

    Args:
        videos: recordings.
        times: their annotations.
        settings: CONFIG.AUGMENTATION.

    Returns:
        The recordings and their annotations.
    """
    looks = {name: value for name, value in settings.items() if name != 'time_warp'}
    changed = []
    for video, annotation in zip(videos, times, strict=True):
        if isinstance(video, Tensor) and video.ndim == 2:
            video, annotation = warp_time(augment_features(video, **looks), annotation, settings['time_warp'])
        changed.append((video, annotation))
    return [video for video, _ in changed], [annotation for _, annotation in changed]
