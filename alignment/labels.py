"""Carry the labels of an annotated recording over to another one."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from alignment.matching import FrameMatches
from recordings.kept_frames import follow_frames
from utils.action import Action

Labels = list[str | None]  # of each used frame; None: in no segment, or unmatched


def frame_labels(segments: Sequence[Action], frames: Sequence[int]) -> Labels:
    """Return the label of each used frame.

    Args:
        segments: annotated segments, in frames of the features.
        frames: indices of the used frames.
    """
    labels: Labels = [None] * len(frames)
    for segment in follow_frames(segments, frames):
        labels[segment.start:segment.end + 1] = [segment.name] * segment.length
    return labels


class CarriedLabels(NamedTuple):
    """Labels carried over to a recording.

    Attributes:
        labels: label of each of the T frames; None if it is unmatched, or matched to a frame without a label.
        probability: (T,), probability of that label, or of being unmatched, in [0, 1].
    """

    labels: Labels
    probability: np.ndarray


def carry_labels(matches: FrameMatches, labels: Labels) -> CarriedLabels:
    """Return the most probable label of each frame of a recording.

    A label's probability is that of all reference frames that have it: more often right than the label of the single
    matched frame. Frames without a match have no label.

    Args:
        matches: matches of the recording's T frames.
        labels: labels of the S reference frames.
    """
    names = list(dict.fromkeys(labels))
    belongs = np.array([[label == name for name in names] for label in labels], np.float32)  # (S, K)
    probabilities = matches.posterior.matched @ belongs  # (T, K)
    best = probabilities.argmax(axis=1)
    carried = [names[choice] if matched else None for choice, matched in zip(best, matches.matched, strict=True)]
    probability = np.where(matches.matched, probabilities.max(axis=1), matches.posterior.unmatched)
    return CarriedLabels(carried, np.clip(probability, 0, 1))


def label_segments(labels: Labels, frames: Sequence[int], num_frames: int) -> list[Action]:
    """Return the segments of equal labels, in frames of the features; a used frame stands for those up to the next one.

    Args:
        labels: label of each used frame.
        frames: indices of the used frames.
        num_frames: T, frames of the features.
    """
    ends = [*frames[1:], num_frames]  # frame after the last one that each used frame stands for
    segments, position = [], 0
    for label, members in groupby(labels):
        after = position + len(list(members))
        if label is not None:
            segments.append(Action(label, frames[position], ends[after - 1] - 1))
        position = after
    return segments


def agreement(carried: Labels, given: Labels) -> float:
    """Return the fraction of frames on which carried and given labels agree; an unlabeled frame counts as a label."""
    return sum(one == other for one, other in zip(carried, given, strict=True)) / len(given)
