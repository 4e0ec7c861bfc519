"""Calibrate intervals of progress and of remaining frames on left-out groups, boundaries unknown."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.heads.filter.annotated import Rated, Recording
from models.heads.filter.left_out import choose_tail, weighted_quantile
from models.heads.filter.phase_grid import PHASES
from models.heads.filter.records import Posterior
from models.heads.filter.remaining import Remaining
from models.heads.filter.unsegmented import phase_quantiles

BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
EXTREME = 0.002  # levels of an interval's ends are at least this far from 0 and 1


def calibrate_progress(recordings: Sequence[Recording], posteriors: Sequence[Posterior]) -> tuple[Tensor, Tensor]:
    """Return levels (low, 0.5, high) and margins (3,) to add to their quantiles of progress.

    90 % of a further group's progress is expected between the ends. The margins are 0 unless the posterior is too
    narrow for any levels.

    Reference:
        Romano, Patterson & Candes, "Conformalized quantile regression", NeurIPS 2019.
    """
    ranks = []
    for recording, posterior in zip(recordings, posteriors, strict=True):
        within = ~recording.progress.isnan()
        # The inverse of phase_quantiles: the number of nodes whose mass is below this progress.
        place = recording.progress[within] * PHASES + 0.5
        mass = posterior.phases[within]
        mass = mass / mass.sum(1, keepdim=True)
        index = place.floor().long().clamp(max=PHASES).unsqueeze(1)
        # The posterior probability below the true progress, linear within a node.
        upto = mass.cumsum(1).gather(1, index) - mass.gather(1, index) * (1 - (place.unsqueeze(1) - index))
        ranks.append(upto.squeeze(1))
    low, high, tail = _outer_quantiles(ranks, recordings)
    levels = torch.tensor([min(max(low, EXTREME), 0.3), 0.5, max(min(high, 1 - EXTREME), 0.7)])
    # How far the truth is above the quantiles of these levels, (n, 3) per recording.
    above = []
    for recording, posterior in zip(recordings, posteriors, strict=True):
        within = ~recording.progress.isnan()
        ends = phase_quantiles(posterior.phases[within], levels.to(within.device))
        above.append(recording.progress[within].unsqueeze(1) - ends)
    # A fraction `tail` of the truth may be below the low end, and above the high end.
    low_end = weighted_quantile(*by_recording([values[:, 0] for values in above]), tail)
    high_end = weighted_quantile(*by_recording([values[:, 2] for values in above]), 1 - tail)
    return levels, torch.tensor([min(low_end, 0.0), 0.0, max(high_end, 0.0)])


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
    low, high, _ = _outer_quantiles(residuals, [item.recording for item in rated])
    rest.spread.copy_(torch.tensor([min(low, center), center, max(high, center)]))


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


def _outer_quantiles(values: Sequence[Tensor], recordings: Sequence[Recording]) -> tuple[float, float, float]:
    """Return two quantiles of the recordings' values and the fraction of them beyond each.

    90 % of a further group's values are expected between the quantiles.
    """
    groups = {recording.group for recording in recordings}
    by_group: dict[object, list[Tensor]] = defaultdict(list)
    for index, (value, recording) in enumerate(zip(values, recordings, strict=True)):
        if len(value):
            by_group[recording.group if len(groups) > 1 else index].append(value)
    tail = choose_tail(*zip(*map(by_recording, by_group.values()), strict=True))
    everything = by_recording(values)
    return weighted_quantile(*everything, tail), weighted_quantile(*everything, 1 - tail), tail


def _elapsed(posterior: Posterior) -> Tensor:
    """Return the number of frames so far at each frame of a recording, (T, 1), float."""
    return torch.arange(1.0, len(posterior.moments) + 1, device=posterior.moments.device).unsqueeze(1)


def by_recording(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return concatenated values and weights that give every recording the same total."""
    values = [value for value in values if len(value)]
    return torch.cat(values), torch.cat([torch.full_like(value, 1 / len(value)) for value in values])
