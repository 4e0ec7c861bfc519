"""Which step a filter shows: a rule that keeps labels from flickering, without look-ahead."""

from typing import NamedTuple

import torch
from torch import Tensor


class Shown(NamedTuple):
    """The step that is shown."""

    step: Tensor  # (N,), K is background, -1 before the first frame
    last: Tensor  # (N,), the last action shown, K if none


def decide(probability: Tensor, shown: Shown, surprise: Tensor, rule: Tensor) -> Shown:
    """Return the steps to show at the next frame.

    The step changes to another one if that is more probable by ``caution`` times its surprise after the last action
    shown, in nats: a label does not flicker around a change, and what the order hardly allows needs evidence. Surprise
    holds actions back, not background; background has a constant ``handicap`` instead, also while it is shown.

    Args:
        probability: (N, K + 1), background last.
        shown: at the frame before.
        surprise: (K + 1, K + 1), see :class:`PhaseGrid`.
        rule: (2,) or (N, 2), caution and handicap, each >= 0.
    """
    caution, handicap = rule.unbind(-1)
    log = (probability + 1e-12).log()
    log = torch.cat([log[:, :-1], log[:, -1:] - handicap.unsqueeze(-1)], dim=1)
    first = shown.step < 0
    held = caution.unsqueeze(-1) * surprise.index_select(0, shown.last)
    best, index = (log - held.masked_fill(first.unsqueeze(1), 0.0)).max(1)
    now = log.gather(1, shown.step.clamp(min=0).unsqueeze(1)).squeeze(1)
    step = torch.where(first | (best > now), index, shown.step)
    return Shown(step, torch.where(step < surprise.shape[1] - 1, step, shown.last))


def decide_all(probability: Tensor, surprise: Tensor, rule: Tensor) -> Tensor:
    """Return the steps to show at all frames, (N, T), from label probabilities (N, T, K + 1)."""
    zero = torch.zeros(len(probability), dtype=torch.long, device=probability.device)
    shown, steps = Shown(zero - 1, zero + probability.shape[2] - 1), []
    for t in range(probability.shape[1]):
        shown = decide(probability[:, t], shown, surprise, rule)
        steps.append(shown.step)
    return torch.stack(steps, dim=1)
