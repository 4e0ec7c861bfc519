"""The prior in compiled code: the posterior of the next frame, and its statistics."""

import math
from typing import NamedTuple

import numpy as np

from models.heads.filter.compiled.compile import (
    NEGLIGIBLE,
    ONE,
    TINY,
    ZERO,
    Floats,
    Integers,
    clear,
    compiled,
    part,
)
from models.heads.filter.records import Posterior


class Prior(NamedTuple):
    """Tables of :class:`PhaseGrid` and :class:`Remaining` for S kinds of segments, V durations, and K labels."""

    whole: Integers  # (S V,), nodes that mass moves by per frame
    part: Floats  # (S V,), fraction of it that moves by one more
    completed: Floats  # (S V, 2 + K + 1)
    entry: Floats  # (paces, S, V)
    transition: Floats  # (S, S)
    again: Floats  # (K + 1,)
    places: Floats  # (paces,)
    outermost: np.float32
    staying: np.float32
    frames: Floats  # (S V, 3)
    left: Floats  # (nodes, 3)
    combine: Floats  # (S, 3, 2, paces)


@part
def _end_segments(prior: Prior, mass: Floats, left: Floats, history: Floats, pace_weights: Floats,
                  repetition: Floats, kinds: Floats) -> None:
    """Fill ``left``, ``pace_weights``, ``repetition``, and the mass of new segments of ``kinds``; update ``history``.

    See :meth:`PhaseGrid.advance`, :meth:`PhaseGrid.pace_weights`, :meth:`PhaseGrid.repetition`.
    """
    states, nodes = mass.shape
    size, labels = len(kinds), len(repetition) - 1
    rates = states // size
    for i in range(states):
        whole, total = prior.whole[i], ZERO
        for node in range(nodes - whole, nodes):
            total += mass[i, node]
        left[i] = total + prior.part[i] * mass[i, nodes - 1 - whole]
        for column in range(len(history)):
            history[column] += left[i] * prior.completed[i, column]
    place = min(max(history[1] / history[0], -prior.outermost), prior.outermost)
    for index in range(len(pace_weights)):
        pace_weights[index] = max(ONE - abs(place - prior.places[index]), ZERO)
    for label in range(labels + 1):
        repetition[label] = min(history[2 + label], ONE) * prior.again[label]
    clear(kinds)
    for kind in range(size):
        ended, total = ZERO, ONE
        for i in range(kind * rates, (kind + 1) * rates):
            ended += left[i]
        for label in range(labels):
            total += repetition[label] * prior.transition[kind, label]
        for following in range(size):
            kinds[following] += ended / total * prior.transition[kind, following]
    for label in range(labels):
        kinds[label] += kinds[label] * repetition[label]


@part
def _move(prior: Prior, mass: Floats, left: Floats, pace_weights: Floats, kinds: Floats, likelihood: Floats,
          moved: Floats) -> np.float32:
    """Fill ``moved`` (S V, nodes), the mass at the next frame times its likelihood, and return its sum.

    See :meth:`PhaseGrid.advance` and :meth:`UnsegmentedFilter.update`. The likelihood is (S, nodes).
    """
    states, nodes = mass.shape
    rates = states // len(kinds)
    everything = ZERO
    for i in range(states):
        kind, rate = i // rates, i % rates
        begun = ZERO
        for index in range(len(pace_weights)):
            begun += pace_weights[index] * prior.entry[index, kind, rate]
        begun *= kinds[kind]
        whole, part = prior.whole[i], prior.part[i]
        near, row = ONE - part, moved[i]
        clear(row[:whole])
        row[whole] = near * (mass[i, 0] + begun)
        for node in range(whole + 1, nodes):
            row[node] = near * mass[i, node - whole] + part * mass[i, node - whole - 1]
        if whole + 1 < nodes:
            row[whole + 1] += part * begun
        row[nodes - 1] += prior.staying * left[i]
        for node in range(nodes):
            # Compared in this way, NaN stays: predictions after it are invalid, and must not look valid.
            value = ZERO if row[node] <= NEGLIGIBLE else row[node] * likelihood[kind, node]
            row[node] = value
            everything += value
    return everything


@part
def _summarize(prior: Prior, mass: Floats, scale: np.float32, pace_weights: Floats, phases: Floats,
               steps: Floats, kinds: Floats, moments: Floats) -> None:
    """Multiply the mass by a factor, in place, and fill the statistics; see :meth:`Remaining.moments`."""
    states, nodes = mass.shape
    size, labels = len(kinds), len(steps) - 1
    rates = states // size
    clear(phases)
    clear(moments)
    for row in steps:
        clear(row)
    for kind in range(size):
        one, frames, square = ZERO, ZERO, ZERO
        for i in range(kind * rates, (kind + 1) * rates):
            row = mass[i]
            first, second, third = ZERO, ZERO, ZERO
            for node in range(nodes):
                value = row[node] * scale
                row[node] = value
                first += value
                second += value * prior.left[node, 1]
                third += value * prior.left[node, 2]
            if kind < labels:
                for node in range(nodes):
                    phases[node] += row[node]
            one += first
            frames += second * prior.frames[i, 1]
            square += third * prior.frames[i, 2]
        kinds[kind] = one
        inside = (one, frames, square)
        for column in range(3):
            steps[min(kind, labels), column] += inside[column]
            for moment in range(2):
                for index in range(len(pace_weights)):
                    moments[moment] += (inside[column] * prior.combine[kind, column, moment, index]
                                        * pace_weights[index])


@part
def workspace(prior: Prior, nodes: int) -> tuple[Floats, ...]:
    """Return arrays for :func:`update`: likelihood, mass that has left, and weights of the paces."""
    return (np.empty((len(prior.transition), nodes), np.float32), np.empty(len(prior.whole), np.float32),
            np.empty(len(prior.places), np.float32))


@part
def update(prior: Prior, mass: Floats, history: Floats, label: Floats, phase: Floats, moved: Floats,
           space: tuple[Floats, ...], posterior: tuple[Floats, ...]) -> None:
    """Advance by a frame: fill ``moved`` and the posterior, and update ``history``.

    See :meth:`models.heads.filter.unsegmented.UnsegmentedFilter.update`.

    Args:
        prior: tables of the prior.
        mass: (S V, nodes).
        history: (2 + K + 1,).
        label: (S,), weighted evidence of kinds.
        phase: (K, nodes), weighted evidence of phases.
        moved: (S V, nodes), to fill: the mass after the frame.
        space: from :func:`workspace`.
        posterior: arrays of :class:`models.heads.filter.records.Posterior` to fill.
    """
    likelihood, left, pace_weights = space
    phases, steps, kinds, moments, repetition = posterior
    _end_segments(prior, mass, left, history, pace_weights, repetition, kinds)
    for kind in range(len(kinds)):
        for node in range(mass.shape[1]):
            likelihood[kind, node] = math.exp(label[kind] + phase[kind, node] if kind < len(phase) else label[kind])
    everything = _move(prior, mass, left, pace_weights, kinds, likelihood, moved)
    _summarize(prior, moved, ONE / max(everything, TINY), pace_weights, phases, steps, kinds, moments)


@compiled
def forward(prior: Prior, mass: Floats, history: Floats, label: Floats, phase: Floats, posterior: Posterior) -> None:
    """Fill the posterior at the T frames of a recording; ``mass`` and ``history`` are overwritten.

    Args:
        prior: tables of the prior.
        mass: (S V, nodes), before the first frame.
        history: (2 + K + 1,), before the first frame.
        label: (T, S), weighted evidence of kinds.
        phase: (T, K, nodes), weighted evidence of phases.
        posterior: arrays to fill, (T, ...).
    """
    space, other = workspace(prior, mass.shape[1]), np.empty_like(mass)
    for t in range(len(label)):
        at_frame = (posterior.phases[t], posterior.steps[t], posterior.kinds[t], posterior.moments[t],
                    posterior.repetition[t])
        update(prior, mass, history, label[t], phase[t], other, space, at_frame)
        mass, other = other, mass
