"""Outputs in compiled code: the shown step, and what is read off the posterior."""

import math
from typing import NamedTuple

import numpy as np

from models.heads.filter.compiled.compile import ONE, TINY, ZERO, Floats, Integers, compiled, part


class Outputs(NamedTuple):
    """Tables of what is read off the posterior, see :meth:`UnsegmentedFilter.read` and :class:`Rule`."""

    reading: np.float32
    factor: Floats  # (M, K + 1)
    following: Integers  # (M, K + 1)
    step: Integers  # (M,)
    after_step: Floats  # (K + 1, K + 1)
    after_background: Floats  # (S - K, K + 1)
    levels: Floats  # (3,)
    margin: Floats  # (3,)
    smallest: np.float32  # progress
    counter: Floats  # (points,)
    per_frame: np.float32
    blend: np.float32
    spread: Floats  # (3,)
    smallest_variance: np.float32
    unknown_above: np.float32


@part
def decide(kinds: Floats, evidence: Floats, reading: np.float32, factor: Floats, following: Integers,
           display: int) -> int:
    """Return the next display; see :func:`models.heads.filter.decision.decide` and ``with_reading``."""
    labels = factor.shape[1] - 1
    chosen, best, background = labels, ZERO, ZERO
    for kind in range(len(kinds)):
        read = kinds[kind] * math.exp(reading * evidence[kind])
        if kind >= labels:
            background += read
        elif read * factor[display, kind] > best:
            chosen, best = kind, read * factor[display, kind]
    if background * factor[display, labels] > best:
        chosen = labels
    return following[display, chosen]


@compiled
def decide_frames(kinds: Floats, evidence: Floats, reading: np.float32, factor: Floats, following: Integers,
                  display: int, displays: Integers) -> None:
    """Fill the displays at T frames.

    Args:
        kinds: (T, S), see :func:`models.heads.filter.decision.with_reading`.
        evidence: (T, S).
        reading: weight of the evidence.
        factor: (M, K + 1), see :class:`models.heads.filter.decision.Rule`.
        following: (M, K + 1).
        display: before the first frame.
        displays: (T,), to fill.
    """
    for t in range(len(kinds)):
        display = decide(kinds[t], evidence[t], reading, factor, following, display)
        displays[t] = display


@part
def quantiles(phases: Floats, read: Outputs, numbers: Floats) -> None:
    """Fill the three quantiles of progress; see :func:`models.heads.filter.unsegmented.phase_quantiles`."""
    nodes = len(phases)
    total = ZERO
    for node in range(nodes):
        total += max(phases[node], TINY)
    for index in range(len(read.levels)):
        target, cumulative, below = read.levels[index] * total, ZERO, ZERO
        for node in range(nodes):
            mass = max(phases[node], TINY)
            below += min(max((target - cumulative) / mass, ZERO), ONE)
            cumulative += mass
        progress = min(max((below - np.float32(0.5)) / (nodes - 1), read.smallest), ONE)
        numbers[index] = min(max(progress + read.margin[index], read.smallest), ONE)


@part
def remaining_frames(moments: Floats, elapsed: np.float32, read: Outputs, overall: Floats, remaining: Floats) -> None:
    """Fill overall progress and remaining frames, three each; see :meth:`Remaining.forward`."""
    index = min(int(np.rint(elapsed * read.per_frame)), len(read.counter) - 1)
    counted = read.counter[index] + ONE
    estimate = counted + read.blend * (moments[0] - counted)
    variance = max(moments[1] / (moments[0] * moments[0]), ONE + read.smallest_variance)
    std = math.sqrt(math.log(variance))
    for end in range(3):
        remaining[end] = max(estimate * math.exp(std * read.spread[end]) - ONE, ZERO)
    for end in range(3):
        overall[end] = elapsed / (elapsed + remaining[2 - end])


@part
def next_step(step: int, kinds: Floats, repetition: Floats, read: Outputs) -> int:
    """Return the most probable next label, or K for the end."""
    labels = len(repetition) - 1
    best, chosen = -ONE, 0
    for following in range(labels + 1):
        probability = ZERO
        if step < labels:
            probability = read.after_step[step, following]
        else:
            for kind in range(labels, len(kinds)):
                probability += kinds[kind] * read.after_background[kind - labels, following]
        probability += probability * repetition[following]
        if probability > best:
            best, chosen = probability, following
    return chosen
