"""Tables of a progress head besides action_progress.csv; tables that a head does not support are left out and named.

Recordings are scored chunk by chunk and added to running means, of the task and of their group: the head's estimates
of all recordings are never in memory at once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from evaluation.contrast import CONTRAST_TABLE, contrast_of_actions
from evaluation.intervals import (
    INTERVALS_TABLE,
    LEVELS,
    Kinds,
    TenthSums,
    end_intervals,
    interval_row,
    progress_intervals,
    remaining_from_progress,
)
from evaluation.overall import OVERALL_TABLE, LengthCounter, Overall, overall_row
from evaluation.running_means import RunningMeans
from evaluation.segmentation_metrics import TABLE as UNSEGMENTED_TABLE
from evaluation.survival import SurvivalBaseline
from evaluation.unsegmented import (
    Unsegmented,
    UnsegmentedBaselines,
    UnsegmentedScores,
    fit_step_probe,
    unsegmented_recording,
)
from models.heads.base import ProgressHeadBase
from models.heads.estimates import FrameEstimates
from utils.action import Action, actions_before
from utils.tables import Row

# Table -> why a head may lack it, as a predicate of "the progress head".
WITHOUT = {UNSEGMENTED_TABLE: 'does not infer where actions start and end',
           OVERALL_TABLE: 'does not predict the progress of whole recordings',
           INTERVALS_TABLE: 'does not predict intervals'}
HEAD_TABLES = (UNSEGMENTED_TABLE, OVERALL_TABLE, INTERVALS_TABLE, CONTRAST_TABLE)
Answers = dict[str, np.ndarray]  # field of ``FrameEstimates`` -> (T,), of a recording


@dataclass(frozen=True)
class TaskPart:
    """Embedded recordings of a task.

    Attributes:
        task: name of the task.
        handles: handles of the recordings.
        embeddings: (T, E) of each recording, on the CPU.
        actions: actions of each recording, in order of time.
        groups: who performs each recording; None if unknown.
    """

    task: str
    handles: Sequence[str]
    embeddings: Sequence[Tensor]
    actions: Sequence[Sequence[Action]]
    groups: Sequence[str] | None = None


@dataclass(frozen=True)
class Training:
    """What the baselines of a task are fitted to.

    Attributes:
        actions: actions of each training recording; at least one action.
        lengths: number of frames of each training recording.
        survival: baseline of intervals, fitted to the actions.
        sample: the training recordings whose embeddings are in memory.
    """

    actions: Sequence[Sequence[Action]]
    lengths: Sequence[int]
    survival: SurvivalBaseline
    sample: TaskPart


@dataclass(frozen=True)
class HeadTables:
    """Rows of a task.

    Attributes:
        rows: name of the table -> row, without the task's name.
        by_group: name of the table -> group of test recordings -> row; empty if groups are unknown.
        tenths: intervals by tenth of progress; empty if the head predicts no intervals.
        missing: name of a table that is left out -> the reason, as a predicate of "the progress head".
    """

    rows: dict[str, Row] = field(default_factory=dict)
    by_group: dict[str, dict[str, Row]] = field(default_factory=dict)
    tenths: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class HeadScorer:
    """Scores the outputs of a head besides progress within given actions.

    Args:
        head: progress head of the model.
        train: what the baselines are fitted to.
        device: device of the head.
    """

    def __init__(self, head: ProgressHeadBase, train: Training, device: torch.device) -> None:
        self._head, self._device = head, device
        self._counter = LengthCounter(train.lengths)
        self._survival = train.survival
        # Fitted only if the head has outputs to compare with them.
        self._baselines = None if not head.offers_filter else UnsegmentedBaselines(
            train.actions, fit_step_probe(train.sample.actions, train.sample.embeddings))
        self._all, self._groups, self._tenths = _Scores(), defaultdict[str, _Scores](_Scores), TenthSums()

    @torch.no_grad()
    def add(self, test: TaskPart) -> list[Answers] | list[None]:
        """Score recordings of the task's test part.

        Returns:
            The head's estimates without boundaries for each recording; None if the head requires boundaries.
        """
        # Filter each recording once: tables, intervals, and pictures all read these estimates.
        answers = filter_answers(self._head, test, self._device) or [None] * len(test.handles)
        contrast = _contrast(self._head, test, self._device)
        given = self._given_intervals(test)
        for index, answer in enumerate(answers):
            actions, embedding = test.actions[index], test.embeddings[index]
            rows: dict[str, Mapping[str, float | np.ndarray]] = {CONTRAST_TABLE: contrast[index]}
            kinds, unsegmented = given[index], None
            if answer is not None:
                unsegmented = unsegmented_recording(actions, embedding, answer['step'].astype(str), answer['progress'],
                                                    self._baselines)
                _add_unsegmented(kinds, answer, actions)
                _add_overall(kinds, answer, self._counter)
                if {'overall', 'overall_remaining'} & set(answer):
                    # The median: (T, 1) -> (T,).
                    rows[OVERALL_TABLE] = overall_row(Overall(answer.get('overall'), answer.get('overall_remaining'),
                                                              self._counter.lengths(len(embedding))[:, 0]))
            rows[INTERVALS_TABLE] = interval_row(kinds)
            self._tenths.add(kinds)
            for scores in (self._all, *([self._groups[test.groups[index]]] if test.groups else [])):
                scores.add(rows, unsegmented)
        return answers

    def tables(self) -> HeadTables:
        """Return the rows over the recordings so far."""
        rows = self._all.rows()
        of_groups = {group: self._groups[group].rows() for group in sorted(self._groups)}
        by_group = {name: {group: found[name] for group, found in of_groups.items() if name in found}
                    for name in rows} if of_groups else {}
        return HeadTables(rows, by_group, self._tenths.rows(),
                          {name: reason for name, reason in WITHOUT.items() if name not in rows})

    def _given_intervals(self, test: TaskPart) -> list[Kinds]:
        """Return the intervals within given actions per recording; empty dicts if the head predicts no intervals."""
        recordings: list[Kinds] = [{} for _ in test.handles]
        if not self._head.offers_intervals:
            return recordings
        for kinds, segments, actions in zip(recordings, _segments(test, self._device), test.actions, strict=True):
            if segments:
                bounds = self._head.forward_intervals(segments, self._head.contexts(test.task, actions))
                _add_given(kinds, actions, [bound.double().cpu().numpy() for bound in bounds], self._survival)
        return recordings


class _Scores:
    """Running means of a head's tables over the recordings of a task or group."""

    def __init__(self) -> None:
        self._means = {name: RunningMeans() for name in (CONTRAST_TABLE, OVERALL_TABLE, INTERVALS_TABLE)}
        self._unsegmented: UnsegmentedScores | None = None

    def add(self, rows: Mapping[str, Mapping[str, float | np.ndarray]], unsegmented: Unsegmented | None) -> None:
        """Add a recording: name of the table -> its columns, and its estimates without boundaries."""
        for name, row in rows.items():
            self._means[name].add(row)
        if unsegmented is not None:
            self._unsegmented = self._unsegmented or UnsegmentedScores()
            self._unsegmented.add(unsegmented)

    def rows(self) -> dict[str, Row]:
        """Return name of the table -> row; tables without columns are left out."""
        rows = {name: means.row() for name, means in self._means.items()}
        if self._unsegmented is not None:
            rows[UNSEGMENTED_TABLE] = self._unsegmented.row()
        return {name: rows[name] for name in (CONTRAST_TABLE, *WITHOUT) if rows.get(name)}


def filter_answers(head: ProgressHeadBase, part: TaskPart, device: torch.device) -> list[Answers] | None:
    """Return the head's estimates at every frame of each recording, field -> (T,); None if it requires boundaries."""
    if not head.offers_filter:
        return None
    # One call for all of them: a head may process them in parallel.
    estimates = head.filter_all([embedding.to(device) for embedding in part.embeddings], part.task)
    return [_as_arrays(one) for one in estimates]


def _as_arrays(estimates: FrameEstimates) -> dict[str, np.ndarray]:
    """Return the fields that a head offers as arrays (T,)."""
    return {name: value.double().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            for name, value in estimates._asdict().items() if value is not None}


def _segments(part: TaskPart, device: torch.device) -> list[list[Tensor]]:
    """Return the embeddings (n, E) of each recording's actions."""
    return [[embedding[action.start:action.end + 1].to(device) for action in actions]
            for embedding, actions in zip(part.embeddings, part.actions, strict=True)]


def _contrast(head: ProgressHeadBase, test: TaskPart, device: torch.device) -> list[dict[str, np.ndarray]]:
    """Return the head's predictions for the actions of each recording with changed timing."""
    segments = _segments(test, device)
    contexts = [context for actions in test.actions for context in head.contexts(test.task, actions)]
    # All actions in one call, then split by recording: heads are faster on batches.
    found = contrast_of_actions([segment for recording in segments for segment in recording], contexts,
                                head.forward_dense)
    ends = np.cumsum([len(recording) for recording in segments])[:-1]  # (recordings - 1,), where to split
    return [dict(zip(found, parts, strict=True))
            for parts in zip(*(np.split(values, ends) for values in found.values()), strict=True)]


def _add_given(kinds: Kinds, actions: Sequence[Action], bounds: Sequence[np.ndarray],
               survival: SurvivalBaseline) -> None:
    """Add the intervals (n, 2) of head and baseline at the frames of actions whose start is given."""
    for action, own in zip(actions, bounds, strict=True):
        # The label-free baseline: it knows the completed actions, as the head does, but not the current label.
        baseline = survival.survival(actions_before(actions, action), len(own), LEVELS)
        for prefix, (low, high) in (('', own.T), ('baseline_survival_', baseline.T)):  # (n, 2) -> low (n,), high (n,)
            kinds.setdefault(f'{prefix}progress', []).append(progress_intervals(low, high, action.length))
            # More progress means less time left, so the bounds change places.
            remaining = remaining_from_progress(high), remaining_from_progress(low)
            kinds.setdefault(f'{prefix}end', []).append(end_intervals(*remaining, action.length))


def _add_unsegmented(kinds: Kinds, answer: Mapping[str, np.ndarray], actions: Sequence[Action]) -> None:
    """Add the intervals of a head without given boundaries, at the frames of the true actions."""
    for kind, name, make in (('unsegmented', 'progress', progress_intervals),
                             ('unsegmented_end', 'remaining', end_intervals)):
        if f'{name}_low' in answer:
            kinds[kind] = [make(answer[f'{name}_low'][action.start:action.end + 1],
                                answer[f'{name}_high'][action.start:action.end + 1], action.length)
                           for action in actions]


def _add_overall(kinds: Kinds, answer: Mapping[str, np.ndarray], counter: LengthCounter) -> None:
    """Add the intervals of head and frame counter for the progress of the whole recording."""
    if 'overall_low' not in answer:
        return
    num_frames = len(answer['step'])
    kinds['overall'] = [progress_intervals(answer['overall_low'], answer['overall_high'], num_frames)]
    short, long = counter.lengths(num_frames, LEVELS).T  # (T, 2) -> (T,) each
    elapsed = np.arange(1, num_frames + 1)
    # A longer recording means less progress, so the bounds change places.
    kinds['baseline_counter_overall'] = [progress_intervals(elapsed / long, elapsed / short, num_frames)]
