"""The filter's step in compiled code."""

import numpy as np

from models.heads.filter.compiled.compile import NEGLIGIBLE, ONE, Floats, Integers, compiled, copy
from models.heads.filter.compiled.outputs import Outputs, decide, next_step, quantiles, remaining_frames
from models.heads.filter.compiled.prior import Prior, update, workspace
from models.heads.filter.compiled.sensors import Sensors, reduce, sense
from models.heads.filter.records import FilterState


@compiled
def step_frames(sensors: Sensors, prior: Prior, outputs: Outputs, embeddings: Floats, state: FilterState,
                after: FilterState, numbers: Floats, labels: Integers, unknown: np.ndarray) -> None:
    """Advance N recordings by T frames, and fill their outputs at each and their state after the last.

    Args:
        sensors: tables.
        prior: tables.
        outputs: tables.
        embeddings: (N, T, D).
        state: before the frames; a tuple of arrays, as is ``after``.
        after: to fill, state after the frames.
        numbers: (N, T, 11), to fill: step probability, progress (3), remaining, overall (3), overall remaining (3).
        labels: (N, T, 2), to fill: step and next step.
        unknown: (N, T) bool, to fill.
    """
    frames = embeddings.shape[1]
    size, known, nodes, reach = len(prior.transition), len(prior.again) - 1, state.mass.shape[2], len(state.recent)
    window, space = np.empty((reach + 1, state.recent.shape[2]), np.float32), workspace(prior, nodes)
    label, logistic = np.empty(size, np.float32), np.empty(size, np.float32)
    phase, other = np.empty((known, nodes), np.float32), np.empty_like(state.mass[0])
    posterior = (np.empty(nodes, np.float32), np.empty((known + 1, 3), np.float32), np.empty(size, np.float32),
                 np.empty(2, np.float32), np.empty(known + 1, np.float32))
    phases, steps, kinds, moments, repetition = posterior
    for n in range(len(embeddings)):
        for age in range(reach):
            copy(state.recent[age, n], window[age])
        copy(state.context[n], after.context[n])
        copy(state.history[n], after.history[n])
        mass, elapsed, display = state.mass[n], state.elapsed[n, 0], state.display[n]
        for t in range(frames):
            reduce(sensors, embeddings[n, t], window[reach])
            elapsed += ONE
            distance = sense(sensors, window, elapsed, after.context[n], label, phase, logistic)
            for age in range(reach):
                copy(window[age + 1], window[age])
            # Two arrays take turns, so that the last frame fills the one that is returned.
            moved = after.mass[n] if (frames - t) % 2 else other
            update(prior, mass, after.history[n], label, phase, moved, space, posterior)
            mass = moved
            display = decide(kinds, logistic, outputs.reading, outputs.factor, outputs.following, display)
            step = outputs.step[display]
            labels[n, t, 0], labels[n, t, 1] = step, next_step(step, kinds, repetition, outputs)
            numbers[n, t, 0], numbers[n, t, 4] = steps[step, 0], steps[step, 1] / max(steps[step, 0], NEGLIGIBLE)
            quantiles(phases, outputs, numbers[n, t, 1:4])
            remaining_frames(moments, elapsed, outputs, numbers[n, t, 5:8], numbers[n, t, 8:11])
            unknown[n, t] = distance > outputs.unknown_above
        for age in range(reach):
            copy(window[age], after.recent[age, n])
        after.elapsed[n, 0], after.display[n] = elapsed, display
