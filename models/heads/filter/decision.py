"""Decision rule for the step that a filter shows: keeps labels from flickering, without look-ahead."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rule(NamedTuple):
    """Tables of a decision rule, from :func:`rule_tables`.

    What is shown is one of M = 2 K + 2 displays: step k; background after step k was the last one (K + k); background
    before any step (2 K); nothing yet (2 K + 1, before the first frame).
    """

    # (M, K + 1), on the probability of each step: exp of minus what its log must exceed that of the shown step by
    factor: Tensor
    following: Tensor  # (M, K + 1) long, display if a step is chosen
    step: Tensor  # (M,) long, step of each display


def rule_tables(surprise: Tensor, rule: Tensor) -> Rule:
    """Return the tables of a rule.

    The shown step changes if the log probability of another step is larger by ``caution`` times its surprise after the
    last shown action, in nats: labels do not flicker around a change, and unlikely transitions need more evidence.
    Background has a constant ``handicap`` besides, even while shown.

    Args:
        surprise: (K + 1, K + 1), see :class:`PhaseGrid`.
        rule: (3,), caution, handicap, and reading, each >= 0; see :func:`with_reading` for the reading.
    """
    k, device = len(surprise) - 1, surprise.device
    labels, display = torch.arange(k + 1, device=device), torch.arange(2 * k + 2, device=device)
    step = display.clamp(max=k)
    last = torch.where(display < k, display, display - k)  # action before; k at the start, k + 1 before the first frame
    handicap = rule[1] * (labels == k)
    held = torch.cat([rule[0] * surprise, torch.zeros_like(surprise[:1])])[last]  # (M, K + 1)
    cost = (held + handicap - handicap[step].unsqueeze(1)).scatter(1, step.unsqueeze(1), 0.0)
    background = k + last.clamp(max=k)
    return Rule((-cost).exp(), torch.where(labels < k, labels, background.unsqueeze(1)), step)


def before_first(rule: Rule, batch: int) -> Tensor:
    """Return the display before the first frame, (N,)."""
    return torch.full((batch,), len(rule.step) - 1, device=rule.step.device)


def with_reading(kinds: Tensor, evidence: Tensor, reading: Tensor, num_labels: int) -> Tensor:
    """Return the filter's probability of each step, unnormalized, with the current frame counted again, (..., K + 1).

    The filter gives a frame a small weight because the frames around it tell the same. It therefore sees a change some
    frames late. What the current frame alone says of the step counts in full only in the choice of what to show.

    Args:
        kinds: (..., S), the filter's probability of each kind of segment: labels, then kinds of background, if any.
        evidence: (..., S), log likelihood of each kind at the frame.
        reading: (), weight of ``evidence``, >= 0.
        num_labels: K.
    """
    read = kinds * (reading * evidence).exp()
    background = read.narrow(-1, num_labels, read.shape[-1] - num_labels).sum(-1, keepdim=True)
    return torch.cat([read.narrow(-1, 0, num_labels), background], dim=-1)


def decide(probability: Tensor, display: Tensor, rule: Rule) -> Tensor:
    """Return the displays at the next frame, (N,).

    Args:
        probability: (N, K + 1), from :func:`with_reading`.
        display: (N,), at the previous frame.
        rule: see :func:`rule_tables`.
    """
    chosen = (probability * rule.factor.index_select(0, display)).argmax(1, keepdim=True)
    return rule.following.index_select(0, display).gather(1, chosen).squeeze(1)


def decide_all(kinds: Sequence[Tensor], evidence: Sequence[Tensor], surprise: Tensor, rules: Tensor) -> list[Tensor]:
    """Return the steps to show at all frames of recordings under each of R rules, (R, T_i) each.

    Args:
        kinds: (T_i, S) of each recording, see :func:`with_reading`.
        evidence: (T_i, S) of each recording.
        surprise: (K + 1, K + 1).
        rules: (R, 3), see :func:`rule_tables`.
    """
    from models.heads.filter.compiled.step import shown_steps  # needs numba: slow to import

    tables = [rule_tables(surprise, rule) for rule in rules]
    return [torch.stack([shown_steps(*recording, rule[2], table) for rule, table in zip(rules, tables, strict=True)])
            for recording in zip(kinds, evidence, strict=True)]
