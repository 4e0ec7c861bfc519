"""Recordings whose boundaries are unknown to the head: estimates of the head and of baselines."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from evaluation.columns import describe, describes
from evaluation.counters import FrameCounters
from evaluation.phase_metrics import Probe, fit_probe, frame_labels
from evaluation.progress_metrics import ActionCurves, mean_absolute_error
from evaluation.running_means import RunningMeans
from evaluation.segmentation_metrics import TABLE, Segmentation
from recordings.background import BACKGROUND
from utils.tables import Row
from utils.tensorops import Action

PROBE_SEED = 0
SMOOTHED_FRACTION = 0.1  # of a usual action: the last frames among which the probe's most frequent label counts


class Unsegmented(NamedTuple):
    """A test recording, and the estimates of head and baselines without its boundaries.

    Attributes:
        actions: true actions in order of time.
        labels: (T,), true steps.
        recognized: 'head' or 'probe' -> recognized labels (T,).
        progress: 'head' or a baseline -> progress (T,) within the current action, in [0, 1].
    """

    actions: Sequence[Action]
    labels: np.ndarray
    recognized: Mapping[str, np.ndarray]
    progress: Mapping[str, np.ndarray]


describe(TABLE, {
    'baseline_constant': ('', 'error of always answering 0.5'),
    'baseline_counter_given_boundaries': ('', 'error of a counter of frames that restarts at the true boundaries, '
                                              'which it is given'),
    'baseline_probe': ('', 'error of a counter of frames that restarts when a linear classifier sees another step'),
    **{f'baseline_probe_{name}': ('', f'{name} of that classifier')
       for name in ('frame_accuracy', 'edit', 'f1_10', 'f1_25', 'f1_50', 'delay_median', 'delay_p90')},
})


class UnsegmentedBaselines:
    """Baselines of a task, fitted to its training recordings.

    Args:
        actions: actions of each training recording.
        probe: classifier of the step at a frame, see :func:`fit_step_probe`.

    Raises:
        ValueError: no training recording has an action.
    """

    def __init__(self, actions: Sequence[Sequence[Action]], probe: Probe) -> None:
        every = [action for recording in actions for action in recording]
        self._counters = FrameCounters(actions)
        # The true step is unknown, so the window of votes is the same for all: a tenth of the median action.
        self._window = max(1, round(SMOOTHED_FRACTION * float(np.median([action.length for action in every]))))
        self._probe = probe

    def recognize(self, embedding: Tensor) -> np.ndarray:
        """Return the label (T,) that the probe predicted most often over the last frames of a recording (T, E)."""
        named, index = np.unique(self._probe.predict(embedding.double().cpu().numpy()), return_inverse=True)
        counts = np.cumsum(np.eye(len(named), dtype=int)[index], axis=0)  # (T, labels)
        # Subtracting the counts of window frames earlier leaves the votes of the last window frames: a causal vote. The
        # first frames vote over what there is. (Copied, because source and target overlap.)
        counts[self._window:] -= counts[:-self._window].copy()
        return named[counts.argmax(axis=1)]

    def progress_of(self, labels: np.ndarray) -> np.ndarray:
        """Return the progress (T,) of a counter that restarts at every change of label; 0 in background."""
        progress = np.zeros(len(labels))
        # First frames of runs, and T: a counter restarts wherever the recognized label changes.
        bounds = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1), len(labels)]
        for start, end in zip(bounds, bounds[1:], strict=False):
            if labels[start] != BACKGROUND:
                progress[start:end] = self._counters.average_index_per_step(str(labels[start]), end - start)
        return progress

    def counter(self, actions: Sequence[Action], num_frames: int) -> np.ndarray:
        """Return the progress (T,) of a counter that restarts at the true boundaries; 0 in background."""
        progress = np.zeros(num_frames)
        for action in actions:
            # A view into progress, shorter than the action if the features end earlier.
            inside = progress[action.start:action.end + 1]
            inside[:] = self._counters.average_index(len(inside))
        return progress


def fit_step_probe(actions: Sequence[Sequence[Action]], embeddings: Sequence[Tensor]) -> Probe:
    """Fit the classifier of the baselines to the actions and embeddings (T_i, E) of training recordings."""
    labels = [frame_labels(*recording) for recording in zip(actions, map(len, embeddings), strict=True)]
    return fit_probe(embeddings, labels, np.random.default_rng(PROBE_SEED))


def unsegmented_recording(actions: Sequence[Action], embedding: Tensor, steps: np.ndarray, progress: np.ndarray,
                          baselines: UnsegmentedBaselines) -> Unsegmented:
    """Combine the estimates of the head and of the baselines for a recording.

    Args:
        actions: true actions.
        embedding: (T, E).
        steps: (T,), labels recognized by the head.
        progress: (T,), progress predicted by the head; NaN means no prediction and counts as 0.
        baselines: baselines of the task.
    """
    num_frames, probed = len(embedding), baselines.recognize(embedding)
    return Unsegmented(actions, frame_labels(actions, num_frames), {'head': steps, 'probe': probed}, {
        'head': np.nan_to_num(progress), 'constant': np.full(num_frames, 0.5),
        'counter_given_boundaries': baselines.counter(actions, num_frames), 'probe': baselines.progress_of(probed)})


@describes(TABLE, num_recordings=('', 'test recordings'),
           mae=('lower', 'mean absolute error of the progress within the true action, boundaries unknown to the head'))
class UnsegmentedScores:
    """Errors and recognition of steps in the recordings of a task, which are added one by one."""

    def __init__(self) -> None:
        self._errors = RunningMeans()
        self._recognized = {'head': Segmentation(), 'probe': Segmentation()}

    def add(self, recording: Unsegmented) -> None:
        """Add a recording. As in ``action_progress.csv``, the error is over its frames within true actions."""
        curves = _curves(recording)
        self._errors.add({'num_recordings': 1, **{name: mean_absolute_error(curves, name)
                                                  for name in recording.progress}})
        for name, labels in recording.recognized.items():
            self._recognized[name].add(labels, recording.labels, recording.actions)

    def row(self) -> Row:
        """Return a task's row of ``unsegmented.csv``, without the task's name."""
        errors, own, probe = self._errors.row(), *(one.row() for one in self._recognized.values())
        del probe['action_frame_accuracy']
        return {'num_recordings': errors.pop('num_recordings'), 'mae': errors.pop('head'), **own,
                **{f'baseline_{name}': value for name, value in errors.items()},
                **{f'baseline_probe_{name}': value for name, value in probe.items()}}


def _curves(recording: Unsegmented) -> list[ActionCurves]:
    """Split the progress of a recording into its true actions."""
    curves = []
    for action in recording.actions:
        predicted = {name: values[action.start:action.end + 1] for name, values in recording.progress.items()}
        # Relative to the annotated length, also if the features end before the action does.
        true = np.arange(1, len(predicted['head']) + 1) / action.length
        curves.append(ActionCurves(action.name, action.length, true, predicted))
    return curves
