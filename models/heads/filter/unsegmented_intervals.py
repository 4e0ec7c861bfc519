"""Calibrate intervals of progress and of remaining frames on left-out groups, boundaries unknown."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.heads.filter.annotated import Rated, Recording
from models.heads.filter.left_out import conformal_margins, weighted_quantile
from models.heads.filter.records import Posterior
from models.heads.filter.remaining import Remaining
from models.heads.filter.unsegmented import LEVELS, phase_quantiles

BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibrate_progress(recordings: Sequence[Recording], posteriors: Sequence[Posterior]) -> Tensor:
    """Return what to add to low end, estimate (0), and high end of progress, (3,), see :func:`conformal_margins`."""
    outside = []
    for recording, posterior in zip(recordings, posteriors, strict=True):
        within = ~recording.progress.isnan()
        truth = recording.progress[within]
        low, _, high = phase_quantiles(posterior.phases[within], torch.tensor(LEVELS).to(truth)).unbind(1)
        outside.append(torch.stack([low - truth, truth - high], dim=1))
    below, above = conformal_margins(*_by_group(outside, recordings)).unbind()
    return torch.stack([-below, torch.zeros_like(below), above])


def calibrate_remaining(rest: Remaining, rated: Sequence[Rated], posteriors: Sequence[Posterior]) -> None:
    """Choose the blend with the frame counter, and offsets of estimate and interval of the remaining frames, in place.

    The estimate is moved to the median of what remained in left-out recordings, because the median has the smallest
    absolute error, and the mean of a skewed posterior is above it.
    """
    def error(blend: float) -> float:
        center = weighted_quantile(*by_recording(_remaining_residuals(rated, posteriors, blend)), 0.5)
        total = []
        for item, posterior in zip(rated, posteriors, strict=True):
            item.model.rest.spread.copy_(torch.tensor([center] * 3))
            elapsed = _elapsed(posterior)
            overall = elapsed / (elapsed + item.model.rest(posterior.moments, elapsed)[0][:, 1:2])
            total.append((overall - elapsed / len(elapsed)).abs().mean().item())
        return float(np.mean(total))

    blend = min(BLENDS, key=error)
    rest.blend.fill_(blend)
    residuals = _remaining_residuals(rated, posteriors, blend)
    center = weighted_quantile(*by_recording(residuals), 0.5)
    # From the center, so that margins of at least 0 leave it inside.
    outside = [torch.stack([center - residual, residual - center], dim=1) for residual in residuals]
    below, above = conformal_margins(*_by_group(outside, [item.recording for item in rated])).tolist()
    rest.spread.copy_(torch.tensor([center - below, center, center + above]))


def _remaining_residuals(rated: Sequence[Rated], posteriors: Sequence[Posterior], blend: float) -> list[Tensor]:
    """Return log(true / expected remaining frames) in std at each frame of left-out recordings, (T,) each.

    The blend of the filters that the recordings were left out of is set, in place, and their offsets are 0 afterwards.
    """
    residuals = []
    for item, posterior in zip(rated, posteriors, strict=True):
        rest, elapsed = item.model.rest, _elapsed(posterior)
        rest.blend.fill_(blend)
        rest.spread.zero_()
        remaining, std = rest(posterior.moments, elapsed)
        # The current frame included, as in Remaining.forward, so that the log is finite at the last frame.
        true = (len(elapsed) - elapsed + 1.0).log()
        residuals.append(((true - (remaining[:, 1:2] + 1).log()) / std).squeeze(1))
    return residuals


def _by_group(values: Sequence[Tensor], recordings: Sequence[Recording]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the values of each group's recordings, and their weights; if there is one group, of each recording."""
    groups = {recording.group for recording in recordings}
    by_group: dict[object, list[Tensor]] = defaultdict(list)
    for index, (value, recording) in enumerate(zip(values, recordings, strict=True)):
        if len(value):
            by_group[recording.group if len(groups) > 1 else index].append(value)
    grouped, weights = zip(*map(by_recording, by_group.values()), strict=True)
    return list(grouped), list(weights)


def _elapsed(posterior: Posterior) -> Tensor:
    """Return the number of frames so far at each frame of a recording, (T, 1), float."""
    return torch.arange(1.0, len(posterior.moments) + 1, device=posterior.moments.device).unsqueeze(1)


def by_recording(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return concatenated values (n, ...) and weights (n,) that give every recording the same total."""
    values = [value for value in values if len(value)]
    return torch.cat(values), torch.cat([value.new_full((len(value),), 1 / len(value)) for value in values])
