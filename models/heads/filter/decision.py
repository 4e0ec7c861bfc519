"""Which step is shown at each frame, and quantiles of its phase."""

from typing import NamedTuple

import torch
from torch import Tensor

from models.heads.filter.phase_grid import PHASES


class Shown(NamedTuple):
    """The step that is shown."""

    step: Tensor  # (N,), K is background, -1 before the first frame
    last: Tensor  # (N,), the last action shown, K if none


def decide(probability: Tensor, shown: Shown, surprise: Tensor, rule: Tensor) -> Shown:
    """Return the steps to show at the next frame.

    The step changes to another one if that is more probable by ``margin`` nats plus ``caution`` times its surprise
    after the last action shown: a label does not flicker around a change, and what the order hardly allows needs
    evidence.
    Surprise holds actions back, not background; background has a ``handicap`` instead, in nats.

    Args:
        probability: (N, K + 1), background last.
        shown: at the frame before.
        surprise: (K + 1, K + 1), see :class:`PhaseGrid`.
        rule: (3,) or (N, 3), margin, caution, and handicap, each >= 0.
    """
    margin, caution, handicap = rule.unbind(-1)
    log = (probability + 1e-12).log()
    log = torch.cat([log[:, :-1], log[:, -1:] - handicap.unsqueeze(-1)], dim=1)
    first = shown.step < 0
    held = caution.unsqueeze(-1) * surprise.index_select(0, shown.last)
    best, index = (log - held.masked_fill(first.unsqueeze(1), 0.0)).max(1)
    now = log.gather(1, shown.step.clamp(min=0).unsqueeze(1)).squeeze(1)
    step = torch.where(first | (best > now + margin), index, shown.step)
    return Shown(step, torch.where(step < surprise.shape[1] - 1, step, shown.last))


def decide_all(probability: Tensor, surprise: Tensor, rule: Tensor) -> Tensor:
    """Return the steps to show at all frames, (N, T), from label probabilities (N, T, K + 1)."""
    zero = torch.zeros(len(probability), dtype=torch.long, device=probability.device)
    shown, steps = Shown(zero - 1, zero + probability.shape[2] - 1), []
    for t in range(probability.shape[1]):
        shown = decide(probability[:, t], shown, surprise, rule)
        steps.append(shown.step)
    return torch.stack(steps, dim=1)


def phase_quantiles(phases: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles of progress, (..., Q) in (0, 1], from mass at phases b / B, (..., nodes), with any sum."""
    cumulative = phases.cumsum(-1)
    target = (levels * cumulative[..., -1:]).contiguous()
    index = torch.searchsorted(cumulative, target).clamp(max=phases.shape[-1] - 1)
    mass = phases.gather(-1, index)
    part = ((target - cumulative.gather(-1, index) + mass) / mass.clamp(min=1e-30)).clamp(0, 1)
    return ((index + part - 0.5) / PHASES).clamp(0.1 / PHASES, 1)
