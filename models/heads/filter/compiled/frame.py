"""The step of a stream in compiled code."""

import numpy as np

from models.heads.filter.compiled.compile import NEGLIGIBLE, ONE, Floats, Integers, compiled, copy
from models.heads.filter.compiled.outputs import Outputs, decide, next_step, quantiles, remaining_frames
from models.heads.filter.compiled.prior import Prior, update, workspace
from models.heads.filter.compiled.sensors import Sensors, sense
from models.heads.filter.records import FilterState


@compiled
def step_frame(sensors: Sensors, prior: Prior, outputs: Outputs, frame: Floats, state: FilterState, after: FilterState,
               numbers: Floats, labels: Integers, unknown: np.ndarray) -> None:
    """Advance N recordings by a frame, and fill their next state and outputs.

    Args:
        sensors: tables.
        prior: tables.
        outputs: tables.
        frame: (N, d), reduced.
        state: before the frame; a tuple of arrays, as is ``after``.
        after: to fill, state after the frame.
        numbers: (N, 11), to fill: step probability, progress (3), remaining, overall (3), overall remaining (3).
        labels: (N, 2), to fill: step and next step.
        unknown: (N,) bool, to fill.
    """
    size, known, nodes, reach = len(prior.transition), len(prior.again) - 1, state.mass.shape[2], len(state.recent)
    window, space = np.empty((reach + 1, frame.shape[1]), np.float32), workspace(prior, nodes)
    label, logistic = np.empty(size, np.float32), np.empty(size, np.float32)
    phase = np.empty((known, nodes), np.float32)
    posterior = (np.empty(nodes, np.float32), np.empty((known + 1, 3), np.float32), np.empty(size, np.float32),
                 np.empty(2, np.float32), np.empty(known + 1, np.float32))
    phases, steps, kinds, moments, repetition = posterior
    for n in range(len(frame)):
        for age in range(reach):
            copy(state.recent[age, n], window[age])
        copy(frame[n], window[reach])
        for age in range(reach):
            copy(window[age + 1], after.recent[age, n])
        copy(state.context[n], after.context[n])
        copy(state.history[n], after.history[n])
        elapsed = after.elapsed[n, 0] = state.elapsed[n, 0] + ONE
        distance = sense(sensors, window, elapsed, after.context[n], label, phase, logistic)
        update(prior, state.mass[n], after.history[n], label, phase, after.mass[n], space, posterior)
        display = after.display[n] = decide(kinds, logistic, outputs.reading, outputs.factor, outputs.following,
                                            state.display[n])
        step = outputs.step[display]
        labels[n, 0], labels[n, 1] = step, next_step(step, kinds, repetition, outputs)
        numbers[n, 0], numbers[n, 4] = steps[step, 0], steps[step, 1] / max(steps[step, 0], NEGLIGIBLE)
        quantiles(phases, outputs, numbers[n, 1:4])
        remaining_frames(moments, elapsed, outputs, numbers[n, 5:8], numbers[n, 8:11])
        unknown[n] = distance > outputs.unknown_above
