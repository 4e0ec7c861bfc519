"""Read tables of segments: CSV or JSON files of start, end and label, one file per recording or one file for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath

from recordings.annotations import MAX_TIME
from recordings.segment_list import SegmentList, list_files
from recordings.table_rows import ENDINGS, Table, TableRow, read_rows
from utils.errors import UserError
from utils.files import is_writable

# Accepted column names, first the name used here.
COLUMNS = {
    'start': ('start', 'start_time', 'start_frame', 'start_sec', 'begin', 'onset', 'from'),
    'end': ('end', 'end_time', 'end_frame', 'end_sec', 'stop', 'offset', 'to'),
    'label': ('label', 'action', 'step', 'class', 'name', 'annotation'),
    'recording': ('recording', 'video', 'video_id', 'video_name', 'handle', 'file', 'filename'),
}
UNNAMED = ('start', 'end', 'label')  # columns of a table without column names, in this order
IN_SECONDS = ('start_sec', 'end_sec')
FILE_ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.npy', '.csv', '.txt')


@dataclass(frozen=True)
class TableOptions:
    """Options for reading a table.

    Attributes:
        fps: frames per second, if times are seconds (or minutes:seconds); None if times are frames.
        inclusive_ends: True if an end is the last frame of its segment, False if it is the frame after that.
        trim_overlaps: True to end each segment at the start of the next segment, False to refuse overlaps.
        needs_labels: True to refuse segments without a label.
        columns: 'start', 'end', 'label', 'recording' -> the column's name in the file, if not listed in ``COLUMNS``.
        advice: 'overlap', 'column' or 'fraction' -> what the user can do about an overlap, an unknown column, or a
            fraction of a frame; added to the message.
    """

    fps: Fraction | None = None
    inclusive_ends: bool = False
    trim_overlaps: bool = False
    needs_labels: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    advice: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Segment:
    place: str
    label: str | None
    start: Fraction
    end: Fraction


def read_tables(source: Path, options: TableOptions) -> dict[str, SegmentList]:
    """Read a table that names the recordings, or a folder of tables, each named like its recording.

    Args:
        source: CSV or JSON file, or a folder; if a folder contains both kinds, the CSV files are read.
        options: how to read the tables.

    Returns:
        Recording -> its segments, in order of time.

    Raises:
        UserError: see :func:`read_table`; or a recording is in two files.
    """
    recordings: dict[str, SegmentList] = {}
    for path in table_files(source):
        for name, segments in read_table(path, options).items():
            name = path.stem if name is None else name
            if name in recordings:
                raise UserError(f'{path}: recording {name!r} is also in {recordings[name].source}; expected all its '
                                'segments in one file')
            recordings[name] = segments
    return recordings


def table_files(source: Path) -> list[Path]:
    """Return the tables of a folder that have the first of ``ENDINGS`` that occurs; for a file, the file itself."""
    if not source.is_dir():
        return [source]
    return next((paths for ending in ENDINGS if (paths := list_files(source, ending))), [])


def read_table(path: Path, options: TableOptions) -> dict[str | None, SegmentList]:
    """Read one table.

    Args:
        path: CSV or JSON file.
        options: how to read the table.

    Returns:
        Recording -> its segments, in order of time; the recording is None if the table has no column of recordings.

    Raises:
        UserError: the file cannot be read, a column is missing, a time is invalid, an end is before its start, or two
            segments overlap.
    """
    # Without column names, two columns are enough if segments do not need labels.
    least = len(UNNAMED) if options.needs_labels else len(UNNAMED) - 1
    table = read_rows(path, UNNAMED, lambda cells: not options.columns and len(cells) >= least
                      and all(parse_time(cell) is not None for cell in cells[:2]))
    columns = _find_columns(path, table, options)
    recordings: dict[str | None, list[_Segment]] = {}
    for row in table.rows:
        name = _recording_name(f'{path}: {row.place}', row, columns['recording']) if 'recording' in columns else None
        recordings.setdefault(name, []).append(_read_segment(path, row, columns, options))
    return {name: _in_order(path, name, segments, options) for name, segments in recordings.items()}


def _find_columns(path: Path, table: Table, options: TableOptions) -> dict[str, str]:
    """Return the name of each column that the table has."""
    columns: dict[str, str] = {}
    for column, names in COLUMNS.items():
        wanted = (options.columns[column].lower(),) if column in options.columns else names
        # 'name' may be the column of labels or an additional column: the first spelling found counts.
        found = next((name for name in wanted if name in table.names and name not in columns.values()), None)
        # The column of labels may be missing, but a column whose name could be a misspelling of it is not ignored.
        optional = column == 'recording' or (column == 'label' and not options.needs_labels and set(
            table.names) <= {*columns.values(), *COLUMNS['recording']})
        if found:
            columns[column] = found
        elif column in options.columns or (not optional and table.names):
            raise UserError(f'{path}: found the columns {", ".join(table.names)}; expected one for the {column} '
                            f'({", ".join(wanted)}); rename it' + options.advice.get('column', '').format(column))
    if options.fps is None and not options.columns and (seconds := [name for name in columns.values()
                                                                    if name in IN_SECONDS]):
        raise UserError(f'{path}: {seconds[0]} is in seconds, expected frames{options.advice.get("fraction", "")}')
    return columns


def parse_time(cell: object) -> Fraction | None:
    """Parse a number, also with a decimal comma, or hours:minutes:seconds; return None for anything else."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    total = Fraction(0)
    try:
        for part in str(cell).replace(',', '.').split(':'):
            total = total * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        return None
    return total


def _recording_name(where: str, row: TableRow, column: str) -> str:
    """Return the name of a recording without its file extension."""
    text = str(row.cells.get(column) or '')
    ending = PurePosixPath(text).suffix
    name = text.removesuffix(ending) if ending.lower() in FILE_ENDINGS else text
    if not name or '/' in name or '\\' in name:
        raise UserError(f'{where}: recording {text[:60]!r}, expected the name of a feature file without its folder')
    return name


def _read_segment(path: Path, row: TableRow, columns: Mapping[str, str], options: TableOptions) -> _Segment:
    """Check one segment and convert it to frames."""
    where = f'{path}: {row.place}'
    start, end = (_read_time(where, column, row.cells.get(columns[column], ''), options)
                  for column in ('start', 'end'))
    end += int(options.inclusive_ends)
    if start < 0 or end < start:
        raise UserError(f'{where}: from {row.cells[columns["start"]]} to {row.cells[columns["end"]]}, expected a start '
                        'of at least 0 and an end that is not before it')
    label = row.cells.get(columns.get('label', ''))
    if not isinstance(label, str | None):
        raise UserError(f'{where}: label is {str(label)[:60]!r}, expected text; put it in quotes')
    if label and not is_writable(label):
        raise UserError(f'{where}: label {label[:60]!r} contains an unpaired surrogate and cannot be written as UTF-8; '
                        'rename it')
    if not label and options.needs_labels:
        raise UserError(f'{where}: the label is empty, expected a label; write that of the background or remove the '
                        'row')
    scale = options.fps or 1
    return _Segment(row.place, label or None, start * scale, end * scale)


def _read_time(where: str, column: str, cell: object, options: TableOptions) -> Fraction:
    """Return a time in the unit of the table."""
    time = parse_time(cell)
    if options.fps is not None and time is None:
        raise UserError(f'{where}: {column} is {str(cell)[:60]!r}, expected a number of seconds')
    if options.fps is None and (time is None or time.denominator != 1 or ':' in str(cell)):
        raise UserError(f'{where}: {column} is {str(cell)[:60]!r}, expected a whole number of frames'
                        + options.advice.get('fraction', ''))
    if time > MAX_TIME:
        raise UserError(f'{where}: {column} is {str(cell)[:60]!r}, expected at most 2^53')
    return time


def _in_order(path: Path, name: str | None, segments: Sequence[_Segment], options: TableOptions) -> SegmentList:
    """Sort the segments of a recording by time, and refuse or trim overlaps."""
    source = str(path) if name is None else f'{path}: recording {name!r}'
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.end))
    if options.trim_overlaps:  # a segment of length zero must not trim the segment around it
        ordered = [segment for segment in ordered if segment.end > segment.start]
    ends = [segment.end for segment in ordered]
    for position, (segment, following) in enumerate(zip(ordered, ordered[1:], strict=False)):
        if segment.end > following.start and not options.trim_overlaps:
            raise UserError(f'{source}: {segment.place} ({segment.label or "no label"}) ends after the start of '
                            f'{following.place} ({following.label or "no label"}); expected one action at a time: '
                            f'correct them{options.advice.get("overlap", "")}')
        ends[position] = min(segment.end, following.start)
    return SegmentList(source, [segment.label for segment in ordered], [segment.start for segment in ordered], ends)


def ends_look_inclusive(recordings: Mapping[str, SegmentList]) -> bool:
    """Return True if most segments, in frames, end one frame before the next segment, and no two segments touch."""
    gaps = [start - end for segments in recordings.values()
            for end, start in zip(segments.ends, segments.starts[1:], strict=False)]
    return len(gaps) > 1 and 0 not in gaps and 2 * gaps.count(1) > len(gaps)
