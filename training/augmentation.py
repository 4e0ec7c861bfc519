"""Random changes of features and speed of training recordings, to reduce overfitting to individual performers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

WARP_LIMITS = 0.4, 2.5  # smallest and largest factor on a duration


def augment_features(features: Tensor, *, scale: float = 0.0, shift: float = 0.0, noise: float = 0.0) -> Tensor:
    """Scale and shift each dimension of a recording by its own random draw, and add noise to every entry.

    Args:
        features: (T, D).
        scale: std of the factor on a dimension, around 1.
        shift: std of the offset of a dimension, in units of the dimension's std within the recording.
        noise: std of the noise of an entry, in the same units.

    Returns:
        (T, D), the given features if all three are 0. Draws come from torch's global generator.
    """
    if not (scale or shift or noise):
        return features
    # correction=0: a recording of one frame then has a std of 0, not NaN.
    unit = features.std(dim=0, keepdim=True, correction=0)  # (1, D)
    factors = 1 + scale * torch.randn_like(unit)  # (1, D), the same at all frames
    return features * factors + unit * (shift * torch.randn_like(unit) + noise * torch.randn_like(features))


def warp_time(features: Tensor, times: Mapping, deviation: float) -> tuple[Tensor, Mapping]:
    """Change the speed of a recording, and further the speed of each segment: frames are repeated or left out.

    Args:
        features: (T, D).
        times: annotation of the recording: 'step', 'start_frame' and 'end_frame', both ends inclusive.
        deviation: std of the log of the factor on the recording's duration, and of the log of the additional factor
            on each segment's duration; each factor is clamped to [0.4, 2.5].

    Returns:
        Features (T', D) with T' >= 2 and the matching annotation, without segments that have no frame left; the given
        features and annotation if ``deviation`` is 0. Draws come from torch's global generator.
    """
    if not deviation:
        return features, times
    starts, ends = (torch.as_tensor(times[key], dtype=torch.long) for key in ('start_frame', 'end_frame'))  # (S,) each
    # Log-normal, so that twice as fast is as likely as half as fast. (1 + S,): first the factor of the recording.
    factors = torch.exp(deviation * torch.randn(1 + len(starts))).clamp(*WARP_LIMITS).tolist()
    # How many new frames each old frame lasts, (T,); their cumulative sum is the new time at which it ends.
    durations = torch.full((len(features),), factors[0])
    for start, end, factor in zip(starts.tolist(), ends.tolist(), factors[1:], strict=True):
        durations[start:end + 1] *= factor
    passed = durations.cumsum(0)
    count = max(2, round(float(passed[-1])))  # T'; alignment requires two frames
    # Centers of T' new frames of equal length, in the new time, (T',).
    moments = (torch.arange(count) + 0.5) * (passed[-1] / count)
    # The old frame that is shown at each center. Rounding may put the last center past the end.
    taken = torch.searchsorted(passed, moments).clamp(max=len(features) - 1)
    # taken never decreases: a segment's new frames are those from the first taken >= start to the last taken <= end. A
    # segment whose frames are all left out gets an end before its start.
    starts = torch.searchsorted(taken, starts).tolist()
    ends = (torch.searchsorted(taken, ends, right=True) - 1).tolist()
    kept = [segment for segment in zip(times['step'], starts, ends, strict=True) if segment[1] <= segment[2]]
    columns = [[segment[column] for segment in kept] for column in range(3)]
    return (features[taken.to(features.device)],
            {**times, **dict(zip(('step', 'start_frame', 'end_frame'), columns, strict=True))})


def augment_batch(videos: Sequence, times: Sequence[Mapping], settings: Mapping) -> tuple[list, list[Mapping]]:
    """Augment the features (T, D) of a batch; frames (T, C, H, W) stay in their files, unchanged.

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
