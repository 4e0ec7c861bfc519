"""Metrics of the recognized step at every frame: those of MS-TCN, and the delay until a change is recognized."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.columns import describes
from models.heads.estimates import BACKGROUND
from utils.edit_distance import levenshtein
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


@describes(TABLE, frame_accuracy=('higher', 'fraction of all frames, background included, whose step is recognized'))
def frame_accuracy(recognized: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Return the fraction of frames that have the right label, all recordings pooled, in [0, 1].

    Args:
        recognized: recognized labels (T_i,) of each recording.
        truth: true labels (T_i,) of each recording, ``BACKGROUND`` outside of actions.
    """
    return float(np.mean(np.concatenate(recognized) == np.concatenate(truth)))


@describes(TABLE, action_frame_accuracy=('higher', 'the same over the frames of actions'))
def action_frame_accuracy(recognized: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Return the fraction of the frames of actions that have the right label, pooled; NaN if there are no actions."""
    recognized, truth = np.concatenate(recognized), np.concatenate(truth)
    inside = truth != BACKGROUND
    return float(np.mean(recognized[inside] == truth[inside])) if inside.any() else float('nan')


@describes(TABLE, edit=('higher', 'edit score of the sequence of recognized steps, regardless of their lengths: '
                                  '100 is exact'))
def edit_score(recognized: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Return the edit score, mean over recordings, in [0, 100].

    The score of a recording is 1 - Levenshtein distance of the two sequences of runs / length of the longer one;
    recordings without any run are left out. NaN if there is no other recording.

    Args:
        recognized: recognized labels (T_i,) of each recording.
        truth: true labels (T_i,) of each recording.

    Reference:
        Farha & Gall, "MS-TCN: Multi-Stage Temporal Convolutional Network for Action Segmentation", CVPR 2019.
    """
    scores = []
    for found, true in zip(recognized, truth, strict=True):
        first, second = label_runs(found).labels, label_runs(true).labels
        if longest := max(len(first), len(second)):
            scores.append(100 * (1 - levenshtein(first, second) / longest))
    return float(np.mean(scores)) if scores else float('nan')


@describes(TABLE, f1_10=('higher', 'F1 of the recognized segments that overlap a true one of their step by 10 % of '
                                   'their union, in percent'),
           f1_25=('higher', 'the same for 25 %'), f1_50=('higher', 'the same for 50 %'))
def segment_f1(recognized: Sequence[np.ndarray], truth: Sequence[np.ndarray], overlap: float) -> float:
    """Return the F1 score of recognized segments, counts pooled over recordings, in [0, 100].

    A recognized run is a hit if its largest intersection over union with a true run of the same label is at least
    ``overlap`` and no earlier run has hit that true run.

    Args:
        recognized: recognized labels (T_i,) of each recording.
        truth: true labels (T_i,) of each recording.
        overlap: smallest intersection over union of a hit, in (0, 1].

    Reference:
        Farha & Gall, CVPR 2019; Lea et al., CVPR 2017.
    """
    hits = num_recognized = num_true = 0
    for found, true in zip(recognized, truth, strict=True):
        first, second = label_runs(found), label_runs(true)
        num_recognized, num_true = num_recognized + len(first.labels), num_true + len(second.labels)
        hits += _hits(first, second, overlap)
    # 2 precision recall / (precision + recall), with both fractions written out; without a hit it is 0.
    return 200 * hits / (num_recognized + num_true) if hits else 0.0


def _hits(found: Runs, true: Runs, overlap: float) -> int:
    """Count the recognized runs whose best match of the same label overlaps enough and is not matched yet."""
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


@describes(TABLE, delay_median=('lower', 'median of the frames from a change of step to its detection; an undetected '
                                         'step counts with its length'),
           delay_p90=('lower', 'the same, 90 % quantile'))
def segmentation_row(recognized: Sequence[np.ndarray], truth: Sequence[np.ndarray],
                     actions: Sequence[Sequence[Action]]) -> dict[str, float]:
    """Return the columns of ``unsegmented.csv`` on the recognition of steps.

    Args:
        recognized: recognized labels (T_i,) of each recording; at least one recording.
        truth: true labels (T_i,) of each recording.
        actions: true actions of each recording.
    """
    delays = np.concatenate([detection_delays(*recording) for recording in zip(recognized, truth, actions,
                                                                               strict=True)])
    median, p90 = np.quantile(delays, [0.5, 0.9]) if len(delays) else (np.nan, np.nan)
    return {
        'frame_accuracy': frame_accuracy(recognized, truth),
        'edit': edit_score(recognized, truth),
        **{column: segment_f1(recognized, truth, overlap) for column, overlap in OVERLAPS.items()},
        'delay_median': float(median), 'delay_p90': float(p90),
        'action_frame_accuracy': action_frame_accuracy(recognized, truth),
    }
