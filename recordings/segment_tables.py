"""Tables of segments: CSV files of start, end and label, one file per recording or one for all."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath

from recordings.annotations import MAX_TIME
from recordings.segment_list import SegmentList, list_files, read_text
from utils.errors import UserError

# What columns are called, first the name used here.
COLUMNS = {
    'start': ('start', 'start_time', 'start_frame', 'start_sec', 'begin', 'onset', 'from'),
    'end': ('end', 'end_time', 'end_frame', 'end_sec', 'stop', 'offset', 'to'),
    'label': ('label', 'action', 'step', 'class', 'name', 'annotation'),
    'recording': ('recording', 'video', 'video_id', 'video_name', 'handle', 'file', 'filename'),
}
NEEDED = ('start', 'end', 'label')
DELIMITERS = ',;\t'
FILE_ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.npy', '.csv', '.txt')


@dataclass(frozen=True)
class TableOptions:
    """How a table is read.

    Attributes:
        seconds: times are seconds (or minutes:seconds), else frames.
        inclusive_ends: an end is the last frame of its segment, else the frame after it.
        trim_overlaps: a segment ends where the next one starts, else overlaps are refused.
        columns: 'start', 'end', 'label', 'recording' -> the column's name in the file, where it is another.
    """

    seconds: bool
    inclusive_ends: bool = False
    trim_overlaps: bool = False
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True)
class _Row:
    line: int
    label: str
    start: Fraction
    end: Fraction


def read_tables(source: Path, options: TableOptions) -> dict[str, SegmentList]:
    """Read a table that names the recordings, or a folder of tables each named like its recording.

    Args:
        source: a CSV file or a folder of them.
        options: how to read it.

    Returns:
        Recording -> its segments, in the order of time.

    Raises:
        UserError: a file that cannot be read, a column that is missing, a time that is none, an end before its start,
            or an overlap.
    """
    paths = list_files(source, '.csv') if source.is_dir() else [source]
    recordings: dict[str, SegmentList] = {}
    for path in paths:
        for name, rows in _read_table(path, options).items():
            if name in recordings:
                raise UserError(f'{path}: recording {name!r} also stands in {recordings[name].source}; expected all '
                                'its segments in one file')
            recordings[name] = _in_order(path, name, rows, options)
    return recordings


def _read_table(path: Path, options: TableOptions) -> dict[str, list[_Row]]:
    """Return recording -> rows; a file without a column of recordings is named like its recording."""
    text = read_text(path)
    header = next((line for line in text.splitlines() if line.strip()), '')
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        # A cell in quotes may go over several lines; a label is one.
        rows = [(reader.line_num, [re.sub(r'\s*\n\s*', ' ', cell.strip()) for cell in row])
                for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f'{path}: line {reader.line_num}: no CSV ({error}); close each quote, and write one within a '
                        'quoted label twice') from error
    if not rows:
        raise UserError(f'{path}: is empty, expected rows of start, end and label')
    columns, rows = _find_columns(path, rows, options.columns or {})
    recordings: dict[str, list[_Row]] = {}
    for number, cells in rows:
        where = f'{path}: line {number}'
        if len(cells) <= max(columns.values()):
            raise UserError(f'{where}: {len(cells)} cells, expected at least {max(columns.values()) + 1}; put a label '
                            f'that holds {delimiter!r} in quotes')
        name = _recording_name(where, cells[columns['recording']]) if 'recording' in columns else path.stem
        recordings.setdefault(name, []).append(_read_row(where, number, cells, columns, options))
    return recordings


def _find_columns(path: Path, rows: Sequence[tuple[int, list[str]]], given: Mapping[str, str],
                  ) -> tuple[dict[str, int], Sequence[tuple[int, list[str]]]]:
    """Return the position of each column, and the rows below the header."""
    header = [cell.lower() for cell in rows[0][1]]
    if not given and len(header) >= len(NEEDED) and _is_time(header[0]) and _is_time(header[1]):
        return {name: position for position, name in enumerate(NEEDED)}, rows  # a file without header
    positions = {}
    for column, names in COLUMNS.items():
        wanted = (given[column].lower(),) if column in given else names
        there = [header.index(name) for name in wanted if name in header]
        # 'name' may be the label's column or stand beside it: the first spelling found counts
        if there and there[0] not in positions.values():
            positions[column] = there[0]
        elif column in given or column in NEEDED:
            raise UserError(f'{path}: found the columns {", ".join(rows[0][1])}; expected one for the {column} '
                            f'({", ".join(wanted)}); name it with --columns {column}=NAME')
    return positions, rows[1:]


def _is_time(text: str) -> bool:
    try:
        _parse_time(text)
    except (ValueError, ZeroDivisionError):
        return False
    return True


def _parse_time(text: str) -> Fraction:
    """Read a number, with a decimal comma too, or hours:minutes:seconds."""
    total = Fraction(0)
    for part in text.replace(',', '.').split(':'):
        total = total * 60 + Fraction(part)
    return total


def _recording_name(where: str, text: str) -> str:
    """Return the name of a recording without the ending of its file."""
    ending = PurePosixPath(text).suffix
    name = text.removesuffix(ending) if ending.lower() in FILE_ENDINGS else text
    if not name or '/' in name or '\\' in name:
        raise UserError(f'{where}: recording {text[:60]!r}, expected the name of a feature file without its folder')
    return name


def _read_row(where: str, line: int, cells: Sequence[str], columns: Mapping[str, int], options: TableOptions) -> _Row:
    """Check one segment."""
    times = []
    for column in ('start', 'end'):
        text = cells[columns[column]]
        if not _is_time(text) or (not options.seconds and _parse_time(text).denominator != 1):
            raise UserError(f'{where}: {column} is {text[:60]!r}, expected a number of '
                            f'{"seconds" if options.seconds else "frames (--unit seconds takes fractions)"}')
        times.append(_parse_time(text))
        if times[-1] > MAX_TIME:
            raise UserError(f'{where}: {column} is {text[:60]!r}, expected at most 2^53')
    start, end = times[0], times[1] + int(options.inclusive_ends)
    if start < 0 or end < start:
        raise UserError(f'{where}: from {cells[columns["start"]]} to {cells[columns["end"]]}, expected a start of at '
                        'least 0 and an end that is not before it')
    if not cells[columns['label']]:
        raise UserError(f'{where}: the label is empty, expected one; write that of the background or remove the line')
    return _Row(line, cells[columns['label']], start, end)


def _in_order(path: Path, name: str, rows: Sequence[_Row], options: TableOptions) -> SegmentList:
    """Sort the segments of a recording by time and refuse or cut overlaps."""
    ordered = sorted(rows, key=lambda row: (row.start, row.end))
    if options.trim_overlaps:  # a moment without duration is no reason to cut what goes on
        ordered = [row for row in ordered if row.end > row.start]
    ends = [row.end for row in ordered]
    for position, (row, following) in enumerate(zip(ordered, ordered[1:], strict=False)):
        if row.end > following.start and not options.trim_overlaps:
            raise UserError(f'{path}: recording {name!r}: line {row.line} ({row.label}) ends after the start of line '
                            f'{following.line} ({following.label}); expected one action at a time: correct them, or '
                            'give --trim_overlaps to end each segment where the next one starts')
        ends[position] = min(row.end, following.start)
    return SegmentList(f'{path}: recording {name!r}', [row.label for row in ordered], [row.start for row in ordered],
                       ends)


def ends_look_inclusive(recordings: Mapping[str, SegmentList]) -> bool:
    """Say whether most segments, in frames, end one frame before the next one starts and none touches it."""
    gaps = [start - end for segments in recordings.values()
            for end, start in zip(segments.ends, segments.starts[1:], strict=False)]
    return len(gaps) > 1 and 0 not in gaps and 2 * gaps.count(1) > len(gaps)
