"""Annotation files: read, checked, and brought to the feature rate.

A file holds, per task, handles and half-open segments in annotation frames (usually the camera's). What leaves this
module are ``times`` dicts in feature frames with both ends inclusive.
"""

import json
import math
import statistics
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from datasets.view_matching import match_lists_to_handles, opening_key
from utils.errors import UserError, name_some
from utils.logging import get_logger
from utils.text import is_writable, unique_keys

LOGGER = get_logger(__name__)

LIST_KEYS = ('hdl_actions', 'hdl_start_times', 'hdl_end_times')
FORMAT = '{"handles": [...], "hdl_actions": [[...]], "hdl_start_times": [[...]], "hdl_end_times": [[...]]}'
MAX_NAME_BYTES = 200  # file systems end at 255, suffixes included
AS_IT_IS = Fraction(2, 100)  # a rate this close to 1 is 1
MAX_OFF_MEDIAN = Fraction(25, 100)
MAX_DENOMINATOR = 10**6  # a rate given as float stands for a fraction of frame counts below this
MAX_TIME = 2**53  # lists are matched to recordings in floating point


@dataclass(frozen=True)
class TaskAnnotations:
    """Annotations of one task as the file holds them.

    Attributes:
        task: what is done in the recordings.
        handles: their names, unique over the whole file.
        actions: labels per annotation list; the lists may outnumber the handles.
        starts: first annotation frame of each segment.
        ends: annotation frame after each segment's last one.
    """

    task: str
    handles: list[str]
    actions: list[list[str]]
    starts: list[list[int]]
    ends: list[list[int]]


def _stop(mistake: UserError) -> None:
    raise mistake


def load_annotations(path: Path, report: Callable[[UserError], None] = _stop) -> dict[str, TaskAnnotations]:
    """Read an annotation file and check all of it.

    Args:
        path: JSON of ``{task: {"handles", "hdl_actions", "hdl_start_times", "hdl_end_times"}}``.
        report: takes each mistake in a task, which is left out then; by default the first one is raised.

    Returns:
        task -> annotations, in the file's order.

    Raises:
        UserError: the file cannot be read, or anything in it is not as described; one line that names file, task and
            recording.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f'{path}: {_found(content)} at the top, expected an object {{task: {FORMAT}}} with at least '
                        'one task')
    tasks, seen = {}, {}
    for task, fields in content.items():
        try:
            check_name(f'{path}: task {_short(task)}', task, 'folder')
            annotated = _check_task(f'{path}: task {task!r}', task, fields, report)
            for handle in annotated.handles if annotated else ():
                if handle in seen:
                    raise UserError(f'{path}: task {task!r}: handle {handle!r} also stands in task {seen[handle]!r}; '
                                    'the feature file is named by the handle alone, so each may stand once: rename one')
                seen[handle] = task
        except UserError as mistake:
            report(mistake)
            continue
        if annotated:
            tasks[task] = annotated
    return tasks


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'), object_pairs_hook=unique_keys(str(path)))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected the annotation file of the dataset: '
                        'set JSON_DPATH to its folder') from error
    except json.JSONDecodeError as error:
        raise UserError(f'{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); it may '
                        'be cut off: write it anew') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: not valid JSON ({" ".join(str(error).split())}); write it anew as UTF-8 text'
                        ) from error


def _found(value: object) -> str:
    """Name a JSON value's type in JSON's words."""
    if isinstance(value, dict | list) and not value:
        return 'nothing'
    names = {dict: 'an object', list: 'a list', str: 'a string', bool: 'true or false', type(None): 'null'}
    return names.get(type(value), 'a number')


def _short(value: object) -> str:
    """Quote a value in a message, on one line and of bounded length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def check_name(where: str, name: object, use: str) -> None:
    """Refuse what cannot name a file or folder, or would leave the folder it belongs to."""
    expected = f'expected the name of a {use}: 1 to {MAX_NAME_BYTES} bytes, without a slash, backslash or control'
    if not isinstance(name, str) or not name.strip():
        raise UserError(f'{where}: {_short(name)} is no name, {expected} character; rename it')
    outside = name in ('.', '..') or '/' in name or '\\' in name
    unprintable = any(unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') for letter in name)
    if outside or unprintable or len(name.encode('utf-8', 'replace')) > MAX_NAME_BYTES:
        raise UserError(f'{where}: {_short(name)} cannot name a {use}, {expected} character; rename it')


def _check_task(where: str, task: str, fields: object, report: Callable[[UserError], None]) -> TaskAnnotations | None:
    """Check the fields of one task against each other; None where mistakes in its lists were reported."""
    if not isinstance(fields, dict):
        raise UserError(f'{where}: {_found(fields)}, expected an object {FORMAT}')
    for key in ('handles', *LIST_KEYS):
        if key not in fields:
            raise UserError(f'{where}: "{key}" is missing, expected {FORMAT}; add it')
        if not isinstance(fields[key], list):
            raise UserError(f'{where}: "{key}" is {_found(fields[key])}, expected a list; write {FORMAT}')
    handles, (actions, starts, ends) = fields['handles'], (fields[key] for key in LIST_KEYS)
    _check_handles(where, handles)
    counts = {len(lists) for lists in (actions, starts, ends)}
    if len(counts) > 1:
        found = ', '.join(f'{len(fields[key])} in "{key}"' for key in LIST_KEYS)
        raise UserError(f'{where}: {found}; expected lists of equal number, one per recording: add the missing ones')
    if len(actions) < len(handles):
        raise UserError(f'{where}: {len(actions)} annotation lists for {len(handles)} handles; expected one list per '
                        'handle, in the order of the handles: add the missing ones (an empty list for a recording '
                        'without annotation)')
    sound = True
    for index, segments in enumerate(zip(actions, starts, ends, strict=True)):
        # where lists outnumber handles their positions do not tell whose they are
        owner = f'handle {handles[index]!r}' if len(actions) == len(handles) else f'annotation list {index}'
        try:
            _check_segments(f'{where}: {owner}', *segments)
        except UserError as mistake:
            report(mistake)
            sound = False
    return TaskAnnotations(task, handles, actions, starts, ends) if sound else None


def _check_handles(where: str, handles: list) -> None:
    if not handles:
        raise UserError(f'{where}: "handles" is empty, expected at least one recording; name some or remove the task')
    for index, handle in enumerate(handles):
        check_name(f'{where}: handle {index}', handle, 'file')
    if len(set(handles)) < len(handles):
        twice = next(handle for handle in handles if handles.count(handle) > 1)
        raise UserError(f'{where}: handle {twice!r} stands {handles.count(twice)} times; the feature file is named by '
                        'the handle alone, so each may stand once: rename or remove the others')


def _check_segments(where: str, actions: object, starts: object, ends: object) -> None:
    """Check the segments of one annotation list: types, number, order in time."""
    for key, values in zip(LIST_KEYS, (actions, starts, ends), strict=True):
        if not isinstance(values, list):
            raise UserError(f'{where}: {_found(values)} in "{key}", expected a list with one entry per segment')
    for position, label in enumerate(actions):
        if not isinstance(label, str):
            raise UserError(f'{where}: label {position} is {_short(label)}, expected a string; put it in quotes')
        if not is_writable(label):
            raise UserError(f'{where}: label {position} is {_short(label)}, which holds half a character and cannot '
                            'be written as UTF-8; rename it')
    for key, times in zip(LIST_KEYS[1:], (starts, ends), strict=True):
        for position, time in enumerate(times):
            if isinstance(time, bool) or not isinstance(time, int) or not 0 <= time <= MAX_TIME:
                raise UserError(f'{where}: "{key}" {position} is {_short(time)}, expected a whole number of frames, '
                                'at least 0 and at most 2^53')
    if not len(actions) == len(starts) == len(ends):
        raise UserError(f'{where}: {len(actions)} labels, {len(starts)} start times and {len(ends)} end times; '
                        'expected as many of each')
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        previous = ends[position - 1] if position else 0
        if start > end:
            raise UserError(f'{where}: segment {position} runs backwards, from {start} to {end}; expected its end '
                            'not to be before its start')
        if start < previous:
            raise UserError(f'{where}: segment {position} runs backwards: it starts at {start}, before the end '
                            f'{previous} of the one before; expected segments in order that do not overlap')


def times_at_feature_rate(
    actions: Sequence[str], starts: Sequence[int], ends: Sequence[int], *, num_frames: int, rate: Fraction | float,
    name: str,
) -> tuple[dict, int]:
    """Bring half-open segments to feature frames; a frame belongs to the segment that holds its centre.

    With ``r`` the rate, a segment ``[s, e)`` becomes ``ceil(s r - 1/2)`` to ``ceil(e r - 1/2) - 1``, both inclusive.
    Computed with fractions: centres fall on boundaries often, and floats would put them on either side.

    Args:
        actions: labels.
        starts: first annotation frame of each segment.
        ends: annotation frame after each segment's last one.
        num_frames: T, feature frames of the recording.
        rate: feature frames per annotation frame, > 0.
        name: the recording's handle.

    Returns:
        The ``times`` dict ('step', 'start_frame', 'end_frame' in [0, T - 1], 'name'), and how many segments were
        dropped because they hold no frame's centre.

    Raises:
        ValueError: ``rate`` is not positive and finite.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f'rate is {rate}, expected a positive number of feature frames per annotation frame')
    exact = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(MAX_DENOMINATOR)
    half = Fraction(1, 2)
    times = {'step': [], 'start_frame': [], 'end_frame': [], 'name': name}
    for label, start, end in zip(actions, starts, ends, strict=True):
        first = math.ceil(start * exact - half)
        last = min(math.ceil(end * exact - half), int(num_frames)) - 1
        if first <= last:
            times['step'].append(label)
            times['start_frame'].append(first)
            times['end_frame'].append(last)
    return times, len(actions) - len(times['step'])


def recording_rate(num_frames: int, last_end: int, time_scale: str | float) -> Fraction:
    """Return the feature frames per annotation frame of one recording.

    Args:
        num_frames: T, feature frames of the recording.
        last_end: its last annotated end, annotation frames; 0 where nothing is annotated.
        time_scale: 'auto' for ``T / last_end``, or 1 where that is within 2 % of 1 or nothing is annotated; a number
            of annotation frames per feature frame for its inverse.

    Raises:
        UserError: ``time_scale`` is neither.
    """
    if time_scale != 'auto':
        return 1 / _scale_number(time_scale)
    return _as_it_is(Fraction(int(num_frames), int(last_end))) if last_end else Fraction(1)


def _as_it_is(rate: Fraction) -> Fraction:
    """Take a rate that hardly differs from 1 for 1: last ends are T or T - 1."""
    return Fraction(1) if abs(rate - 1) <= AS_IT_IS else rate


def _scale_number(time_scale: str | float) -> Fraction:
    """Return a numeric TIME_SCALE as the decimal the user wrote."""
    number = isinstance(time_scale, int | float) and not isinstance(time_scale, bool)
    if not number or not 0 < time_scale < math.inf:
        raise UserError(f"TIME_SCALE is {_short(time_scale)}, expected 'auto', 'median' or a number above 0 of "
                        'annotation frames per feature frame (30 for 30 a second beside features at 1 a second)')
    return Fraction(str(time_scale))


def task_rates(annotated: TaskAnnotations, num_frames: Sequence[int], time_scale: str | float) -> list[Fraction]:
    """Return the rate of each recording, after a warning on those far from the task's median."""
    if time_scale not in ('auto', 'median'):
        return [recording_rate(0, 0, time_scale)] * len(num_frames)
    last_ends = [max(ends, default=0) for ends in annotated.ends]
    ratios = {handle: Fraction(int(frames), last_end)
              for handle, frames, last_end in zip(annotated.handles, num_frames, last_ends, strict=True) if last_end}
    if not ratios:
        raise UserError(f'task {annotated.task!r}: no recording has a segment that ends after frame 0, so '
                        f"TIME_SCALE '{time_scale}' finds no rate; annotate a recording or set TIME_SCALE to a number")
    median = statistics.median(ratios.values())
    _warn_off_median(annotated.task, ratios, median, time_scale)
    if time_scale == 'median':
        return [_as_it_is(median)] * len(num_frames)
    return [recording_rate(*pair, 'auto') for pair in zip(num_frames, last_ends, strict=True)]


def _warn_off_median(task: str, ratios: Mapping[str, Fraction], median: Fraction, time_scale: str) -> None:
    far = [f'{handle} ({float(ratio):.4g})' for handle, ratio in ratios.items()
           if abs(ratio / median - 1) > MAX_OFF_MEDIAN]
    if far:
        advice = ("set TIME_SCALE to 'median' or a number if they have an unlabelled tail" if time_scale == 'auto'
                  else "their times are taken at the median: set TIME_SCALE to 'auto' if they have a rate of their own")
        LOGGER.warning('task %s: length / last annotated end is more than 25 %% off the median of the task (%.4g) in '
                       '%s; %s', task, float(median), name_some(far), advice)


def annotate_recordings(
    annotations: Mapping[str, TaskAnnotations], num_frames: Mapping[str, int], *, time_scale: str | float = 'auto',
    min_segment_len: int = 3, background_labels: Sequence[str],
) -> dict[str, list[dict]]:
    """Give each recording its annotation at the feature rate.

    A task with more annotation lists than handles has them matched by order and length; where that fails the task is
    left out. Either is told in a warning.

    Args:
        annotations: see :func:`load_annotations`.
        num_frames: handle -> T, feature frames of the recording.
        time_scale: 'auto', one rate per recording; 'median', the task's median rate; or annotation frames per feature
            frame, > 0.
        min_segment_len: actions shorter than this many feature frames are counted in the log.
        background_labels: labels of segments that are no action.

    Returns:
        task -> ``times`` dicts in the order of the task's handles; tasks left out are absent.

    Raises:
        UserError: ``time_scale`` is none of these, a task has no rate, or no task remains.
    """
    if time_scale not in ('auto', 'median'):
        _scale_number(time_scale)
    annotated_times = {}
    for task, annotated in annotations.items():
        lengths = [int(num_frames[handle]) for handle in annotated.handles]
        paired = one_list_per_handle(annotated, lengths, time_scale)
        if paired is None:
            continue
        rates = task_rates(paired, lengths, time_scale)
        recordings = zip(paired.actions, paired.starts, paired.ends, lengths, rates, paired.handles, strict=True)
        times = [times_at_feature_rate(actions, starts, ends, num_frames=frames, rate=rate, name=handle)[0]
                 for actions, starts, ends, frames, rate, handle in recordings]
        _log_task(paired, times, min_segment_len, background_labels)
        annotated_times[task] = times
    if not annotated_times:
        raise UserError(f'no task remains of {_short(", ".join(annotations))}: every one has more annotation lists '
                        'than handles, and they cannot be matched; write one list per handle, in the order of the '
                        'handles')
    return annotated_times


def one_list_per_handle(annotated: TaskAnnotations, lengths: Sequence[int],
                        time_scale: str | float) -> TaskAnnotations | None:
    """Match lists to handles where there are more of them; None where they do not fit."""
    lists, handles = len(annotated.actions), len(annotated.handles)
    if lists == handles:
        return annotated
    keys = [opening_key(*opening) for opening in zip(annotated.actions, annotated.starts, strict=True)]
    rate = None if isinstance(time_scale, str) else float(1 / _scale_number(time_scale))
    match = match_lists_to_handles([max(ends, default=0) for ends in annotated.ends], lengths, keys, rate=rate)
    advice = 'to be sure, write one list per handle, in the order of the handles'
    if match is None:
        LOGGER.warning('task %s is left out: %d annotation lists for %d handles, and no single assignment in order '
                       'fits the lengths of the recordings within 2 %% at %s; %s', annotated.task, lists, handles,
                       'one rate' if rate is None else f'TIME_SCALE {time_scale}', advice)
        return None
    LOGGER.warning('task %s: %d annotation lists for %d handles; each recording takes the list that fits in order and '
                   'in length (all within 2 %% or 1.5 frames); %s', annotated.task, lists, handles, advice)
    return TaskAnnotations(annotated.task, annotated.handles, *(
        [values[index] for index in match] for values in (annotated.actions, annotated.starts, annotated.ends)))


def _log_task(annotated: TaskAnnotations, times: Sequence[dict], min_segment_len: int,
              background_labels: Sequence[str]) -> None:
    """Tell what is left of a task's actions at the feature rate."""
    background = set(background_labels)
    total = sum(label not in background for actions in annotated.actions for label in actions)
    lengths = [end - start + 1 for recording in times
               for label, start, end in zip(recording['step'], recording['start_frame'], recording['end_frame'],
                                            strict=True) if label not in background]
    short, dropped = sum(length < min_segment_len for length in lengths), total - len(lengths)
    LOGGER.info('task %s: %d recordings, %d actions%s%s', annotated.task, len(times), len(lengths),
                f', {short} of them shorter than {min_segment_len} frames' * (short > 0),
                f'; {dropped} more hold no frame and are dropped' * (dropped > 0))
