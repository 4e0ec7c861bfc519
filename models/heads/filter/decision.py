"""Decision rule for the step that a filter shows: keeps labels from flickering, without look-ahead."""

from typing import NamedTuple

import torch
from torch import Tensor


class Shown(NamedTuple):
    """The step that is currently shown."""

    step: Tensor  # (N,), K is background, -1 before the first frame
    last: Tensor  # (N,), the last action shown, K before the first action


def decide(probability: Tensor, shown: Shown, surprise: Tensor, rule: Tensor) -> Shown:
    """Return the steps to show at the next frame.

    The shown step changes if the log probability of another step is larger by ``caution`` times its surprise after the
    last shown action, in nats: labels do not flicker around a change, and unlikely transitions need more evidence.
    Surprise applies to actions, not to background; background has a constant ``handicap`` instead, even while shown.

    Args:
        probability: (N, K + 1), background last.
        shown: steps shown at the previous frame.
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


def decide_all(probability: Tensor, surprise: Tensor, rules: Tensor) -> Tensor:
    """Return the steps to show at all frames under each of R rules, (N, R, T).

    Args:
        probability: (N, T, K + 1), see :func:`decide`.
        surprise: (K + 1, K + 1).
        rules: (R, 2), see :func:`decide`.
    """
    rows, count = len(probability), len(rules)
    rule = rules.repeat(rows, 1)  # (N R, 2)
    zero = torch.zeros(rows * count, dtype=torch.long, device=probability.device)
    shown, steps = Shown(zero - 1, zero + probability.shape[2] - 1), []
    for t in range(probability.shape[1]):
        shown = decide(probability[:, t].repeat_interleave(count, dim=0), shown, surprise, rule)
        steps.append(shown.step)
    return torch.stack(steps, dim=1).view(rows, count, -1)
