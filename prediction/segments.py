"""Read segment files with start, end and label of actions, and check them against the recording's length."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from recordings.segment_list import MAX_MISMATCH, SegmentList
from recordings.segment_tables import TableOptions, read_table
from recordings.table_rows import ENDINGS
from utils.errors import UserError, name_some
from utils.logging import get_logger

LOGGER = get_logger(__name__)

IN_FRAMES = ' of the features; convert seconds or camera frames to them, or give the frames per second (fps)'


class Segment(NamedTuple):
    """A segment of a recording.

    Attributes:
        start: first frame, from 0.
        end: frame after the last frame, where the next segment may start.
        label: label of the action; None if unknown.
    """

    start: int
    end: int
    label: str | None = None


GivenSegment = tuple[int, int] | tuple[int, int, str | None]  # a Segment, or the same without a label


def read_segments(path: Path | str, recording: str | None = None, *, fps: Fraction | None = None,
                  options: TableOptions | None = None) -> list[Segment]:
    """Read the segments of a recording from a table in any format of ``tools.import_segments``; labels may be missing.

    Args:
        path: a ``.csv`` or ``.json`` file, see ``recordings.segment_tables``.
        recording: name of the recording; required if the table has a column with several recordings.
        fps: feature frames per second if times are in seconds; None if times are feature frames.
        options: other options of the table; ``fps`` and ``needs_labels`` are replaced.

    Returns:
        The segments in order of time; :func:`fit_segments` compares them with the recording's length.

    Raises:
        UserError: the file cannot be read, a segment is invalid, two segments overlap, or the table does not contain
            the recording.
    """
    path = Path(path)
    tables = read_segment_table(path, fps, options)
    # A table of a single recording needs no name.
    return choose_segments(tables, next(iter(tables)) if recording is None and len(tables) == 1 else recording, path)


def read_segment_table(path: Path, fps: Fraction | None = None,
                       options: TableOptions | None = None) -> dict[str | None, list[Segment]]:
    """Read a table: recording -> its segments, None if the table has no column of recordings."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f'{path}: expected a file that ends in {" or ".join(ENDINGS)}')
    options = replace(options or TableOptions(), fps=fps, needs_labels=False)
    tables = read_table(path, replace(options, advice={'fraction': IN_FRAMES, **options.advice}))
    return {name: _in_frames(segments) for name, segments in tables.items()} or {None: []}


def choose_segments(tables: Mapping[str | None, list[Segment]], recording: str | None, path: Path) -> list[Segment]:
    """Return the segments of a recording from a table.

    Raises:
        UserError: the table has a column of recordings, but not this recording.
    """
    if None in tables:
        return tables[None]
    if recording not in tables:
        names = [name for name in tables if name is not None]
        raise UserError(f'{path}: has segments of {name_some(names)}, expected those of '
                        f'{"one recording; name it" if recording is None else f"{recording}; add them"}')
    return tables[recording]


def _in_frames(segments: SegmentList) -> list[Segment]:
    """Return the segments in whole frames; segments in seconds are dropped if they contain no frame's center."""
    found = []
    for label, start, end in zip(segments.labels, segments.starts, segments.ends, strict=True):
        # A frame belongs to the segment that contains its center, as in recordings.rates; whole frames do not change.
        first, after = (math.ceil(time - Fraction(1, 2)) for time in (start, end))
        # An empty segment is kept, so that check_segments reports it. One between two frame centers is dropped.
        if first < after or start == end:
            found.append(Segment(first, after, label))
    return found


def fit_segments(segments: Sequence[Segment], num_frames: int, where: str) -> list[Segment]:
    """Return the segments of a table, cut off at the recording's end if they end up to ``MAX_MISMATCH`` frames later.

    This is what ``tools.import_segments`` does with the segments of training recordings. Recordings of fewer than
    100 frames tolerate a tenth of their length.

    Args:
        segments: see :func:`check_segments`.
        num_frames: see :func:`check_segments`.
        where: see :func:`check_segments`.

    Raises:
        UserError: see :func:`check_segments`.
    """
    latest = num_frames + min(MAX_MISMATCH, num_frames // 10)
    late = [segment for segment in segments if segment.start < num_frames < segment.end <= latest]
    fitted = [segment._replace(end=num_frames) if segment in late else segment for segment in segments]
    check_segments(fitted, num_frames, where)
    if late:
        LOGGER.warning('%s: the last segment ends at frame %d of a recording of %d frames; the rest is cut off', where,
                       late[-1].end, num_frames)
    return fitted


def check_segments(segments: Sequence[Segment], num_frames: int, where: str) -> None:
    """Check that segments fit a recording.

    Args:
        segments: segments of the recording.
        num_frames: T, frames of its features.
        where: name of the recording, for the message.

    Raises:
        UserError: there are no segments, or a segment is empty, runs backwards, overlaps the previous segment, or ends
            after the recording.
    """
    if not segments:
        raise UserError(f'{where}: no segment, expected at least one; leave segments out to take the whole recording '
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
