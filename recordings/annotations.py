"""Read and check annotation files.

A file contains, per task, handles and half-open segments in annotation frames (usually the camera's frames).
``recordings.rates`` converts them to feature frames, ``recordings.assignment`` assigns each recording its list.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.files import first_repeated, is_writable, read_json
from utils.logging import get_logger
from utils.tables import MEAN

LOGGER = get_logger(__name__)

LIST_KEYS = ('hdl_actions', 'hdl_start_times', 'hdl_end_times')
FORMAT = '{"handles": [...], "hdl_actions": [[...]], "hdl_start_times": [[...]], "hdl_end_times": [[...]]}'
MAX_NAME_BYTES = 200  # file systems allow 255, including suffixes
MAX_TIME = 2**53  # lists are matched to recordings in float64, which is exact up to here


@dataclass(frozen=True)
class TaskAnnotations:
    """Annotations of one task, as in the file.

    Attributes:
        task: what is done in the recordings.
        handles: names of the recordings, unique in the whole file.
        actions: labels per annotation list; there may be more lists than handles.
        starts: first annotation frame of each segment.
        ends: annotation frame after each segment's last one.
    """

    task: str
    handles: list[str]
    actions: list[list[str]]
    starts: list[list[int]]
    ends: list[list[int]]

    def take(self, lists: Sequence[int], handles: Sequence[int] | None = None) -> 'TaskAnnotations':
        """Return the annotation lists at these positions, in this order.

        Args:
            lists: positions of the annotation lists.
            handles: positions of the handles; None: all handles.
        """
        chosen = self.handles if handles is None else [self.handles[position] for position in handles]
        return TaskAnnotations(self.task, chosen, *([column[position] for position in lists]
                                                    for column in (self.actions, self.starts, self.ends)))


def _stop(mistake: UserError) -> None:
    raise mistake


def load_annotations(path: Path, report: Callable[[UserError], None] = _stop) -> dict[str, TaskAnnotations]:
    """Read and check an annotation file.

    Args:
        path: JSON of ``{task: {"handles", "hdl_actions", "hdl_start_times", "hdl_end_times"}}``.
        report: called with each mistake found in a task, which is then left out; by default the first mistake is
            raised.

    Returns:
        task -> annotations, in the file's order.

    Raises:
        UserError: the file cannot be read, or its content is invalid; the message is one line that names file, task
            and recording.
    """
    return check_annotations(path, read_json(path, 'the annotation file of the dataset: set JSON_DPATH to its folder'),
                             report)


def check_annotations(path: Path, content: object,
                      report: Callable[[UserError], None] = _stop) -> dict[str, TaskAnnotations]:
    """Check the content of an annotation file; arguments, return value and errors are those of `load_annotations`.

    Args:
        path: the file, for messages.
        content: its content.
        report: see :func:`load_annotations`.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f'{path}: {_found(content)} at the top, expected an object {{task: {FORMAT}}} with at least '
                        'one task')
    tasks, seen = {}, {}
    for task, fields in content.items():
        try:
            check_task_name(f'{path}: task {short(task)}', task)
            annotated = _check_task(f'{path}: task {task!r}', task, fields, report)
            for handle in annotated.handles if annotated else ():
                if handle in seen:
                    raise UserError(f'{path}: task {task!r}: handle {handle!r} is also in task {seen[handle]!r}; '
                                    'feature files are named by the handle alone, so each handle may occur once: '
                                    'rename one of them')
                seen[handle] = task
        except UserError as mistake:
            report(mistake)
            continue
        if annotated:
            tasks[task] = annotated
    return tasks


def _found(value: object) -> str:
    """Return the JSON name of a value's type."""
    if isinstance(value, dict | list) and not value:
        return 'nothing'
    names = {dict: 'an object', list: 'a list', str: 'a string', bool: 'true or false', type(None): 'null'}
    return names.get(type(value), 'a number')


def short(value: object) -> str:
    """Quote a value in a message, on one line and of bounded length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def check_name(where: str, name: object, use: str) -> None:
    """Check that a name can name a file or folder, and does not lead out of its folder."""
    expected = f'expected the name of a {use}: 1 to {MAX_NAME_BYTES} bytes, without a slash, backslash or control'
    if not isinstance(name, str) or not name.strip():
        raise UserError(f'{where}: {short(name)} is not a valid name, {expected} character; rename it')
    outside = name in ('.', '..') or '/' in name or '\\' in name
    # Control characters, unpaired surrogates, line and paragraph separators would break messages and tables.
    unprintable = any(unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') for letter in name)
    if outside or unprintable or len(name.encode('utf-8', 'replace')) > MAX_NAME_BYTES:
        raise UserError(f'{where}: {short(name)} cannot name a {use}, {expected} character; rename it')


def check_task_name(where: str, name: object) -> None:
    """Check that a name can name a task: its folder and pictures, and a row of the tables of evaluation."""
    check_name(where, name, 'folder')
    if name == MEAN:
        raise UserError(f'{where}: {name} is the name of the mean over tasks in the tables of evaluation, expected '
                        'another name; rename the task')


def _check_task(where: str, task: str, fields: object, report: Callable[[UserError], None]) -> TaskAnnotations | None:
    """Check the fields of one task against each other; return None if mistakes in its lists were reported."""
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
        raise UserError(f'{where}: {found}; expected the same number of lists in each, one list per recording: add the '
                        'missing lists')
    if len(actions) < len(handles):
        raise UserError(f'{where}: {len(actions)} annotation lists for {len(handles)} handles; expected one list per '
                        'handle, in the order of the handles: add the missing lists (an empty list for a recording '
                        'without annotation)')
    sound = True
    for index, segments in enumerate(zip(actions, starts, ends, strict=True)):
        # If there are more lists than handles, the position does not identify the recording.
        owner = f'handle {handles[index]!r}' if len(actions) == len(handles) else f'annotation list {index}'
        try:
            _check_segments(f'{where}: {owner}', *segments)
        except UserError as mistake:
            report(mistake)
            sound = False
    return TaskAnnotations(task, handles, actions, starts, ends) if sound else None


def _check_handles(where: str, handles: list) -> None:
    if not handles:
        raise UserError(f'{where}: "handles" is empty, expected at least one recording; add handles or remove the task')
    for index, handle in enumerate(handles):
        check_name(f'{where}: handle {index}', handle, 'file')
    if twice := first_repeated(handles):
        raise UserError(f'{where}: handle {twice!r} occurs {handles.count(twice)} times; feature files are named by '
                        'the handle alone, so each handle may occur once: rename or remove the others')


def _check_segments(where: str, actions: object, starts: object, ends: object) -> None:
    """Check the segments of one annotation list: types, number, order in time."""
    for key, values in zip(LIST_KEYS, (actions, starts, ends), strict=True):
        if not isinstance(values, list):
            raise UserError(f'{where}: {_found(values)} in "{key}", expected a list with one entry per segment')
    for position, label in enumerate(actions):
        if not isinstance(label, str):
            raise UserError(f'{where}: label {position} is {short(label)}, expected a string; put it in quotes')
        if not is_writable(label):
            raise UserError(f'{where}: label {position} is {short(label)}, which contains an unpaired surrogate and '
                            'cannot be written as UTF-8; rename it')
    for key, times in zip(LIST_KEYS[1:], (starts, ends), strict=True):
        for position, time in enumerate(times):
            # bool is a subclass of int, but `true` is not a time.
            if isinstance(time, bool) or not isinstance(time, int) or not 0 <= time <= MAX_TIME:
                raise UserError(f'{where}: "{key}" {position} is {short(time)}, expected a whole number of frames, '
                                'at least 0 and at most 2^53')
    if not len(actions) == len(starts) == len(ends):
        raise UserError(f'{where}: {len(actions)} labels, {len(starts)} start times and {len(ends)} end times; '
                        'expected the same number of each')
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        previous = ends[position - 1] if position else 0
        if start > end:
            raise UserError(f'{where}: segment {position} runs backwards, from {start} to {end}; expected an end that '
                            'is not before the start')
        if start < previous:
            raise UserError(f'{where}: segment {position} runs backwards: it starts at {start}, before the end '
                            f'{previous} of the segment before it; expected segments in order, without overlaps')
