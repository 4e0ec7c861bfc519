"""Metrics of the recognized step at every frame: those of MS-TCN, and the delay until a change is recognized."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.columns import describes
from evaluation.running_means import RunningMeans
from recordings.background import BACKGROUND
from utils.edit_distance import levenshtein
from utils.tables import Row
from utils.tensorops import Action

OVERLAPS = {'f1_10': 0.10, 'f1_25': 0.25, 'f1_50': 0.50}  # column -> intersection over union that counts as found
TABLE = 'unsegmented'


class Runs(NamedTuple):
    """Runs of frames with the same label, without background.

    Attributes:
        labels: (S,), strings.
        starts: (S,), first frames.
        ends: (S,), frames after the last frames.
    """

    labels: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def label_runs(labels: np.ndarray) -> Runs:
    """Return the runs of equal labels other than background, in order of time.

    Matches the current published code; older copies end the last run of a recording one frame early.

    Args:
        labels: (T,), strings, T >= 1.
    """
    # A run starts at the first frame, and wherever the label changes: (S,).
    starts = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1])
    ends = np.append(starts[1:], len(labels))
    # Background is removed last: it must first separate two runs of the same label.
    kept = labels[starts] != BACKGROUND
    return Runs(labels[starts][kept], starts[kept], ends[kept])


@describes(TABLE, edit=('higher', 'edit score of the sequence of recognized steps, regardless of their lengths: '
                                  '100 is exact'))
def edit_score(found: Runs, true: Runs) -> float:
    """Return the edit score of a recording, in [0, 100]; NaN without any run.

    It is 1 - Levenshtein distance of the two sequences of runs / length of the longer one.

    Reference:
        Farha & Gall, "MS-TCN: Multi-Stage Temporal Convolutional Network for Action Segmentation", CVPR 2019.
    """
    longest = max(len(found.labels), len(true.labels))
    return 100 * (1 - levenshtein(found.labels, true.labels) / longest) if longest else math.nan


def count_hits(found: Runs, true: Runs, overlap: float) -> int:
    """Count the hits of the F1 score among the recognized runs of a recording.

    A recognized run is a hit if its largest intersection over union with a true run of the same label is at least
    ``overlap``, in (0, 1], and no earlier run has hit that true run.

    Reference:
        Farha & Gall, CVPR 2019; Lea et al., CVPR 2017.
    """
    if not len(true.labels):
        return 0
    free, hits = np.ones(len(true.labels), dtype=bool), 0
    for label, start, end in zip(*found, strict=True):
        # Negative if the two are apart, so that they never reach a threshold.
        intersection = np.minimum(end, true.ends) - np.maximum(start, true.starts)  # (S,)
        # The range of both runs is their union if they overlap; otherwise the ratio is negative anyway.
        union = np.maximum(end, true.ends) - np.minimum(start, true.starts)
        ratio = np.where(true.labels == label, intersection / union, 0)
        # As published, only the best match counts: if it is taken, the run is a miss, even if it overlaps another true
        # run.
        best = ratio.argmax()
        if ratio[best] >= overlap and free[best]:
            free[best], hits = False, hits + 1
    return hits


def detection_delays(recognized: np.ndarray, truth: np.ndarray, actions: Sequence[Action]) -> np.ndarray:
    """Return the number of frames from each change to another step until the new step is recognized.

    Args:
        recognized: recognized labels (T,) of a recording.
        truth: true labels (T,).
        actions: actions in order of time; an action right after another action of the same label is not a change.

    Returns:
        (changes,): 0 if the step is recognized at its first frame; the frames of the step if it never is.
    """
    delays = []
    for action in actions:
        if action.start and truth[action.start - 1] == action.name:
            continue
        right = np.flatnonzero(recognized[action.start:action.end + 1] == action.name)
        # The frames of the action within the features: an undetected step costs its visible length.
        length = min(action.end + 1, len(recognized)) - action.start
        delays.append(right[0] if len(right) else length)
    return np.array(delays, dtype=float)


@describes(TABLE, frame_accuracy=('higher', 'fraction of all frames, background included, whose step is recognized'),
           action_frame_accuracy=('higher', 'the same over the frames of actions'),
           f1_10=('higher', 'F1 of the recognized segments that overlap a true one of their step by 10 % of '
                            'their union, in percent'),
           f1_25=('higher', 'the same for 25 %'), f1_50=('higher', 'the same for 50 %'),
           delay_median=('lower', 'median of the frames from a change of step to its detection; an undetected '
                                  'step counts with its length'),
           delay_p90=('lower', 'the same, 90 % quantile'))
class Segmentation:
    """Recognition of steps in the recordings of a task, which are added one by one."""

    def __init__(self) -> None:
        self._means, self._runs, self._hits = RunningMeans(), 0, Counter()
        self._delays: Counter[float] = Counter()  # delay in frames -> number of changes with it

    def add(self, recognized: np.ndarray, truth: np.ndarray, actions: Sequence[Action]) -> None:
        """Add a recording.

        Args:
            recognized: recognized labels (T,).
            truth: true labels (T,), ``BACKGROUND`` outside of actions.
            actions: true actions in order of time.
        """
        found, true = label_runs(recognized), label_runs(truth)
        right = recognized == truth
        # Accuracies count the frames of all recordings alike, edit scores are means over recordings.
        self._means.add({'frame_accuracy': right, 'action_frame_accuracy': right[truth != BACKGROUND],
                         'edit': edit_score(found, true)})
        self._runs += len(found.labels) + len(true.labels)
        self._hits.update({column: count_hits(found, true, overlap) for column, overlap in OVERLAPS.items()})
        self._delays.update(detection_delays(recognized, truth, actions).tolist())

    def row(self) -> Row:
        """Return the columns of ``unsegmented.csv`` on the recognition of steps.

        F1 is over the runs of all recordings, in [0, 100]; delays are quantiles over all changes, NaN without a change.
        """
        means = self._means.row()
        return {
            'frame_accuracy': means['frame_accuracy'],
            'edit': means['edit'],
            # 2 precision recall / (precision + recall), with both fractions written out; without a hit it is 0.
            **{column: 200 * self._hits[column] / self._runs if self._hits[column] else 0.0 for column in OVERLAPS},
            'delay_median': _quantile(self._delays, 0.5), 'delay_p90': _quantile(self._delays, 0.9),
            'action_frame_accuracy': means['action_frame_accuracy'],
        }


def _quantile(counts: Mapping[float, int], level: float) -> float:
    """Return a quantile of values that occur so often, as ``np.quantile`` does; NaN without values."""
    if not counts:
        return math.nan
    values = np.array(sorted(counts))
    ranks = np.cumsum([counts[value] for value in values]) - 1  # (distinct values,), the last rank of each, from 0
    place = level * ranks[-1]
    # The values at the ranks around the place; linear in between.
    below, above = values[np.searchsorted(ranks, [math.floor(place), math.ceil(place)])]
    return float(below + (above - below) * (place - math.floor(place)))
