"""Read tables of segments: CSV or JSON files of start, end and label, one file per recording or one file for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath

from recordings.annotations import MAX_TIME
from recordings.rates import FRAMES, SECONDS
from recordings.segment_list import SegmentList, list_files
from recordings.table_header import UNNAMED, TableColumns, choose_columns, name_columns
from recordings.table_rows import ENDINGS, TableRow, read_rows
from recordings.time_notes import look_inclusive
from recordings.times import TimeFormat, TimeFormatError, parse_time, shows_decimal_comma
from utils.errors import UserError
from utils.files import is_writable
from utils.logging import get_logger

LOGGER = get_logger(__name__)
FILE_ENDINGS = ('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv', '.mts', '.npy',
                '.csv', '.txt')


@dataclass(frozen=True)
class TableOptions:
    """Options for reading a table.

    Attributes:
        fps: feature frames per second, if times are not frames.
        unit: one of ``recordings.times.UNITS``; None: seconds if there is ``fps``, else frames.
        timecode_rate: frames per second of hours:minutes:seconds:frames; None: such times are refused.
        first_frame: number of the first frame if times are frames: 0, or 1 if frames are counted from 1.
        inclusive_ends: True if an end is the last frame of its segment, False if it is the frame after that.
        trim_overlaps: True to end each segment at the start of the next segment, False to refuse overlaps.
        needs_labels: True to refuse segments without a label.
        columns: 'start', 'end', 'label', 'recording' -> the column's name in the file if it is not recognized, or its
            number, counted from 1, if the file has no header.
        advice: 'overlap', 'column' or 'fraction' -> what the user can do about an overlap, an unknown column, or a
            fraction of a frame; added to the message.
    """

    fps: Fraction | None = None
    unit: str | None = None
    timecode_rate: Fraction | None = None
    first_frame: int = 0
    inclusive_ends: bool = False
    trim_overlaps: bool = False
    needs_labels: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    advice: Mapping[str, str] = field(default_factory=dict)

    @property
    def unit_of_times(self) -> str:
        """Unit of the times."""
        return self.unit or (FRAMES if self.fps is None else SECONDS)

    @property
    def wanted(self) -> TableColumns:
        """What the table's columns are expected to be."""
        return TableColumns(self.unit_of_times, self.columns, self.needs_labels, self.advice.get('column', ''),
                            self.advice.get('fraction', ''))


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
    layouts: dict[str, list[Path]] = {}
    for path in table_files(source):
        tables, layout = _read(path, options)
        layouts.setdefault(layout, []).append(path)
        for name, segments in tables.items():
            name = path.stem if name is None else name
            if name in recordings:
                raise UserError(f'{path}: recording {name!r} is also in {recordings[name].source}; expected all its '
                                'segments in one file')
            recordings[name] = segments
    for layout, paths in layouts.items():
        LOGGER.info('%s%s: %s', paths[0], f' and {len(paths) - 1} more' if len(paths) > 1 else '', layout)
    return recordings


def table_files(source: Path) -> list[Path]:
    """Return the tables of a folder that have the first of ``ENDINGS`` that occurs; for a file, the file itself."""
    if not source.is_dir():
        return [source]
    return next((paths for ending in ENDINGS if (paths := list_files(source, ending))), [])


def read_table(path: Path, options: TableOptions) -> dict[str | None, SegmentList]:
    """Read one table, and log how its columns are read.

    Args:
        path: CSV or JSON file.
        options: how to read the table.

    Returns:
        Recording -> its segments, in order of time; the recording is None if the table has no column of recordings.

    Raises:
        UserError: the file cannot be read, a column is missing or its name contradicts the unit, a header is missing, a
            time is invalid, an end is before its start, or two segments overlap.
    """
    recordings, layout = _read(path, options)
    LOGGER.info('%s: %s', path, layout)
    return recordings


def _read(path: Path, options: TableOptions) -> tuple[dict[str | None, SegmentList], str]:
    """Return the segments of each recording, and a description of how the table was read."""
    table = read_rows(path, UNNAMED, lambda lines: name_columns(path, lines, options.wanted))
    if not table.rows and not table.names:  # an empty JSON list
        return {}, table.layout
    columns = choose_columns(path, table.names, options.wanted)
    # One time with a certain decimal comma shows how to read the ambiguous times of the table.
    cells = (row.cells.get(columns[column]) for row in table.rows for column in ('start', 'end') if column in columns)
    times = TimeFormat(options.unit_of_times, any(map(shows_decimal_comma, cells)), options.timecode_rate)
    recordings: dict[str | None, list[_Segment]] = {}
    for row in table.rows:
        name = _recording_name(f'{path}: {row.place}', row, columns['recording']) if 'recording' in columns else None
        recordings.setdefault(name, []).append(_read_segment(path, row, columns, options, times))
    used = ', '.join(f'{column} = {name}' for column, name in columns.items())
    unused = [name for name in table.names if name not in columns.values()]
    layout = f'{used}; times in {options.unit_of_times}; {table.layout}' + (
        f'; not used: {", ".join(unused)}' if unused else '')
    return {name: _in_order(path, name, segments, options) for name, segments in recordings.items()}, layout


def _recording_name(where: str, row: TableRow, column: str) -> str:
    """Return the name of a recording without its file extension."""
    text = str(row.cells.get(column) or '')
    ending = PurePosixPath(text).suffix
    name = text.removesuffix(ending) if ending.lower() in FILE_ENDINGS else text
    if not name or '/' in name or '\\' in name:
        raise UserError(f'{where}: recording {text[:60]!r}, expected the name of a feature file without its folder')
    return name


def _read_segment(path: Path, row: TableRow, columns: Mapping[str, str], options: TableOptions,
                  times: TimeFormat) -> _Segment:
    """Check one segment and convert it to frames."""
    where = f'{path}: {row.place}'
    start, end = (_read_time(where, column, row.cells.get(columns[column], ''), options, times) - options.first_frame
                  for column in ('start', 'end'))
    end += int(options.inclusive_ends)  # half-open from here on
    if start < 0 or end < start:
        raise UserError(f'{where}: from {row.cells[columns["start"]]} to {row.cells[columns["end"]]}, expected a start '
                        f'of at least {options.first_frame} and an end that is not before it; correct the row'
                        + _first_frame_advice(options, start))
    label = row.cells.get(columns.get('label', ''))
    if not isinstance(label, str | None):
        raise UserError(f'{where}: label is {str(label)[:60]!r}, expected text; put it in quotes')
    if label and not is_writable(label):
        raise UserError(f'{where}: label {label[:60]!r} contains an unpaired surrogate and cannot be written as UTF-8; '
                        'rename it')
    if not label and options.needs_labels:
        raise UserError(f'{where}: the label is empty, expected a label; write that of the background or remove the '
                        'row')
    # With fps, times are in seconds: they become feature frames, as exact fractions.
    scale = options.fps or 1
    return _Segment(row.place, label or None, start * scale, end * scale)


def _first_frame_advice(options: TableOptions, start: Fraction) -> str:
    return ', or leave --first_frame out' if options.first_frame and start < 0 else ''


def _read_time(where: str, column: str, cell: object, options: TableOptions, times: TimeFormat) -> Fraction:
    """Return a time in seconds, or in frames if that is the unit."""
    found = f'{where}: {column} is {str(cell)[:60]!r}'
    try:
        time = parse_time(cell, times)
    except TimeFormatError as error:
        is_fraction = 'whole number' in str(error)
        raise UserError(f'{found}, {error}' + (options.advice.get('fraction', '') if is_fraction else '')) from error
    if time > MAX_TIME:
        raise UserError(f'{found}, expected at most 2^53')
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
    """Return True if the ends of segments in frames look inclusive, see :func:`.time_notes.look_inclusive`."""
    return look_inclusive((segments.starts for segments in recordings.values()),
                          (segments.ends for segments in recordings.values()))


def starts_look_one_based(recordings: Mapping[str, SegmentList]) -> bool:
    """Return True if the first segment of every recording starts at frame 1."""
    firsts = [segments.starts[0] for segments in recordings.values() if segments.starts]
    return bool(firsts) and all(first == 1 for first in firsts)
