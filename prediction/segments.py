"""Where the actions of a recording lie: a CSV or JSON file of start, end and label, checked against its length."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.files import is_writable

FORMATS = {'.csv': 'lines "start,end[,label]"', '.json': 'a list of [start, end] or [start, end, label]'}


class Segment(NamedTuple):
    """One segment of a recording.

    Attributes:
        start: its first frame, from 0.
        end: the frame after its last one, so that the next segment may start there.
        label: what is done in it, None where it is not known.
    """

    start: int
    end: int
    label: str | None = None


def read_segments(path: Path | str) -> list[Segment]:
    """Read a file of segments.

    Args:
        path: ``.csv`` with lines ``start,end`` or ``start,end,label``, a line of these names above them or not; or
            ``.json`` with a list of ``[start, end]``, ``[start, end, label]`` or objects of these names.

    Returns:
        The segments as they stand there; :func:`check_segments` looks whether they make sense.

    Raises:
        UserError: the file cannot be read, or a segment is not as described.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f'--segments {path}: expected a file that ends in .csv or .json')
    try:
        text = path.read_text(encoding='utf-8-sig')
        rows = json.loads(text) if path.suffix == '.json' else _csv_rows(text)
    except OSError as error:
        raise UserError(f'--segments {path}: cannot be read ({error.strerror}); expected {FORMATS[path.suffix]}'
                        ) from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f'--segments {path}: not valid {path.suffix[1:].upper()} ({error}); expected '
                        f'{FORMATS[path.suffix]}') from error
    if not isinstance(rows, list):
        raise UserError(f'--segments {path}: {type(rows).__name__} at the top, expected {FORMATS[path.suffix]}')
    return [_read_segment(f'{path}: segment {position}', row) for position, row in enumerate(rows)]


def _csv_rows(text: str) -> list[list]:
    """Return the rows that hold anything, times as integers where they are, without a header."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True)]
    rows = [row for row in rows if any(row)]
    if rows and [cell.lower() for cell in rows[0][:2]] == ['start', 'end']:
        rows = rows[1:]
    return [[*(int(cell) if cell.isdecimal() else cell for cell in row[:2]), *(cell or None for cell in row[2:])]
            for row in rows]


def _read_segment(where: str, row: object) -> Segment:
    """Check the types of one segment.

    Raises:
        UserError: it is none.
    """
    if isinstance(row, dict) and {'start', 'end'} <= set(row) <= set(Segment._fields):
        row = [row['start'], row['end'], row.get('label')]
    if not isinstance(row, list) or len(row) not in (2, 3):
        raise UserError(f'{where} is {str(row)[:60]!r}, expected start, end and, if known, label')
    for name, time in zip(Segment._fields, row[:2], strict=False):
        if isinstance(time, bool) or not isinstance(time, int) or time < 0:
            raise UserError(f'{where}: {name} is {str(time)[:60]!r}, expected a whole number of feature frames, at '
                            'least 0; convert seconds or camera frames to them')
    label = row[2] if len(row) == 3 else None
    if not isinstance(label, str | None):
        raise UserError(f'{where}: label is {str(label)[:60]!r}, expected text; put it in quotes')
    if label is not None and not is_writable(label):
        raise UserError(f'{where}: label {label[:60]!r} holds half a character and cannot be written as UTF-8; rename '
                        'it')
    return Segment(*row)


def check_segments(segments: Sequence[Segment], num_frames: int, where: str) -> None:
    """Refuse segments that do not fit a recording.

    Args:
        segments: of the recording.
        num_frames: T, frames of its features.
        where: the recording, for the message.

    Raises:
        UserError: there is none, or one is empty, runs backwards, overlaps the one before or ends after the recording.
    """
    if not segments:
        raise UserError(f'{where}: no segment, expected at least one; leave --segments out to take the whole recording '
                        'as one action')
    last_end = 0
    for position, (start, end, _) in enumerate(segments):
        name = f'{where}: segment {position}, from {start} to {end},'
        if end <= start:
            raise UserError(f'{name} runs backwards or is empty, expected an end (the frame after the last one) above '
                            'its start; correct it')
        if start < last_end:
            raise UserError(f'{name} overlaps or comes before the one that ends at {last_end}; expected segments in '
                            'order, one action at a time: sort or cut them')
        if end > num_frames:
            raise UserError(f'{name} ends beyond the recording of {num_frames} frames, expected at most {num_frames}; '
                            'give times in feature frames, not in camera frames or seconds')
        last_end = end
