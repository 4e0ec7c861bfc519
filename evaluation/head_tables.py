"""Tables of a progress head besides action_progress.csv; tables that a head does not support are left out and named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from evaluation.by_group import rows_by_group
from evaluation.contrast import CONTRAST_TABLE, contrast_of_actions, contrast_row
from evaluation.intervals import (
    INTERVALS_TABLE,
    LEVELS,
    Intervals,
    end_intervals,
    interval_row,
    interval_rows_by_tenth,
    progress_intervals,
    remaining_from_progress,
)
from evaluation.overall import OVERALL_TABLE, LengthCounter, Overall, overall_row
from evaluation.segmentation_metrics import TABLE as UNSEGMENTED_TABLE
from evaluation.survival import SurvivalBaseline
from evaluation.unsegmented import Unsegmented, UnsegmentedBaselines, unsegmented_recording, unsegmented_row
from models.heads.base import ProgressHeadBase
from models.heads.estimates import FrameEstimates
from utils.action import Action, actions_before
from utils.tables import Row

Kinds = dict[str, list[Intervals]]
# Table -> why a head may lack it, as a predicate of "the progress head".
WITHOUT = {UNSEGMENTED_TABLE: 'does not infer where actions start and end',
           OVERALL_TABLE: 'does not predict the progress of whole recordings',
           INTERVALS_TABLE: 'does not predict intervals'}
HEAD_TABLES = (UNSEGMENTED_TABLE, OVERALL_TABLE, INTERVALS_TABLE, CONTRAST_TABLE)


@dataclass(frozen=True)
class TaskPart:
    """Embedded recordings of a part of a task.

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
class HeadTables:
    """Rows of a task.

    Attributes:
        rows: name of the table -> row, without the task's name.
        by_group: name of the table -> group of test recordings -> row; empty if groups are unknown.
        tenths: intervals by tenth of progress; empty if the head predicts no intervals.
        missing: name of a table that is left out -> the reason, as a predicate of "the progress head".
        answers: estimates of the head without boundaries for each test recording: field of ``FrameEstimates`` -> (T,);
            empty if the head requires boundaries.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    by_group: dict[str, dict[str, Row]] = field(default_factory=dict)
    tenths: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    answers: list[dict[str, np.ndarray]] = field(default_factory=list)


@torch.no_grad()
def head_tables(head: ProgressHeadBase, train: TaskPart, test: TaskPart, device: torch.device) -> HeadTables:
    """Evaluate the outputs of a head besides progress within given actions.

    Args:
        head: progress head of the model.
        train: recordings that baselines are fitted to, with at least one action.
        test: recordings to evaluate on, with at least one action.
        device: device of the head.
    """
    # Filter each recording once: tables, intervals, and pictures all read these estimates.
    answers = filter_answers(head, test, device)
    # Values per recording are computed once; the rows of all recordings and of each group are means over subsets.
    scored = _Scored(_contrast(head, test, device), *_answered(answers, train, test),
                     _intervals(head, answers, train, test, device))
    tables = HeadTables(scored.rows(range(len(test.handles))), answers=answers or [])
    tables.missing.update({name: reason for name, reason in WITHOUT.items() if name not in tables.rows})
    if INTERVALS_TABLE in tables.rows:
        tables.tenths.extend(interval_rows_by_tenth(scored.intervals))
    if test.groups:
        of_groups = rows_by_group(test.groups, scored.rows)
        tables.by_group.update({name: {group: rows[name] for group, rows in of_groups.items() if name in rows}
                                for name in tables.rows})
    return tables


@dataclass(frozen=True)
class _Scored:
    """Values per test recording that the rows of the tables average.

    Attributes:
        contrast: from :func:`contrast_of_actions`, for the actions of each recording.
        unsegmented: empty if the head does not infer boundaries.
        overall: empty if the head does not predict the progress of whole recordings.
        intervals: intervals of head and baselines; empty dicts if the head predicts no intervals.
    """

    contrast: Sequence[Mapping[str, np.ndarray]]
    unsegmented: Sequence[Unsegmented]
    overall: Sequence[Overall]
    intervals: Sequence[Kinds]

    def rows(self, indices: Sequence[int]) -> dict[str, Row]:
        """Return the rows over a subset of the recordings: name of the table -> row."""
        contrast = [self.contrast[index] for index in indices]
        rows = {CONTRAST_TABLE: contrast_row({name: np.concatenate([one[name] for one in contrast])
                                              for name in contrast[0]})}
        if self.unsegmented:
            rows[UNSEGMENTED_TABLE] = unsegmented_row([self.unsegmented[index] for index in indices])
        if self.overall:
            rows[OVERALL_TABLE] = overall_row([self.overall[index] for index in indices])
        intervals = [self.intervals[index] for index in indices]
        if any(intervals):
            rows[INTERVALS_TABLE] = interval_row(intervals)
        return rows


def filter_answers(head: ProgressHeadBase, part: TaskPart, device: torch.device) -> list[dict[str, np.ndarray]] | None:
    """Return the head's estimates at every frame of each recording, field -> (T,); None if it requires boundaries."""
    if not head.offers_filter:
        return None
    # One call for all recordings of the task, which the filter processes in parallel.
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


def _answered(answers: Sequence[Mapping[str, np.ndarray]] | None, train: TaskPart,
              test: TaskPart) -> tuple[list[Unsegmented], list[Overall]]:
    """Pair the estimates of a head without boundaries with the baselines, within actions and for whole recordings."""
    if answers is None:
        return [], []
    baselines = UnsegmentedBaselines(train.actions, train.embeddings)
    counter = LengthCounter([len(embedding) for embedding in train.embeddings])
    unsegmented = [
        unsegmented_recording(handle, actions, embedding, answer['step'].astype(str), answer['progress'], baselines)
        for handle, actions, embedding, answer in zip(test.handles, test.actions, test.embeddings, answers,
                                                      strict=True)]
    if not {'overall', 'overall_remaining'} & set(answers[0]):
        return unsegmented, []
    return unsegmented, [Overall(answer.get('overall'), answer.get('overall_remaining'),
                                 # The median: (T, 1) -> (T,).
                                 counter.lengths(len(answer['step']))[:, 0]) for answer in answers]


def _intervals(head: ProgressHeadBase, answers: Sequence[Mapping[str, np.ndarray]] | None, train: TaskPart,
               test: TaskPart, device: torch.device) -> list[Kinds]:
    """Return the intervals of head and baselines per test recording; empty dicts if the head predicts no intervals."""
    recordings: list[Kinds] = [{} for _ in test.handles]
    if head.offers_intervals:
        survival = SurvivalBaseline(train.actions, train.groups)
        for kinds, segments, actions in zip(recordings, _segments(test, device), test.actions, strict=True):
            if segments:
                bounds = head.forward_intervals(segments, head.contexts(test.task, actions))
                _add_given(kinds, actions, [bound.double().cpu().numpy() for bound in bounds], survival)
    if answers is not None:
        counter = LengthCounter([len(embedding) for embedding in train.embeddings])
        for kinds, answer, actions in zip(recordings, answers, test.actions, strict=True):
            _add_unsegmented(kinds, answer, actions)
            _add_overall(kinds, answer, counter)
    return recordings


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
