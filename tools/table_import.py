"""Import format of ``tools.import_segments`` for tables of start, end and label."""

import argparse
from collections.abc import Sequence

from recordings.rates import parse_rate
from recordings.segment_list import SegmentList
from recordings.segment_tables import COLUMNS, TableOptions, ends_look_inclusive, read_tables, table_files
from tools.import_format import ImportFormat
from utils.command_line import option
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
ADVICE = {'column': ', or name it with --columns {}=NAME', 'fraction': ' (--unit seconds takes fractions)',
          'overlap': ', or give --trim_overlaps to end each segment where the next segment starts'}


def read_source(arguments: argparse.Namespace) -> dict[str, SegmentList]:
    """Read the tables of SOURCE according to the options.

    Raises:
        UserError: options contradict each other, or a file is invalid.
    """
    if arguments.unit is None:
        raise UserError('--unit: is required for tables, expected seconds or frames')
    in_seconds = arguments.unit == 'seconds'
    if in_seconds and (arguments.fps is None or arguments.inclusive_ends):
        raise UserError('--unit seconds: requires --fps, the feature frames per second, and does not allow '
                        '--inclusive_ends')
    if not in_seconds and arguments.fps is not None:
        raise UserError('--fps: only applies to --unit seconds; if features have a lower rate than the frames of the '
                        'table, give --labels_per_feature')
    if in_seconds and parse_rate(arguments.labels_per_feature) != 1:
        raise UserError('--labels_per_feature: not allowed with --unit seconds, where --fps gives the rate; leave it '
                        'out')
    with option('--fps'):
        fps = parse_rate(arguments.fps) if in_seconds else None
    recordings = read_tables(arguments.source, TableOptions(
        fps, arguments.inclusive_ends, arguments.trim_overlaps, columns=_read_columns(arguments.columns or ()),
        advice=ADVICE))
    if not in_seconds and not arguments.inclusive_ends and ends_look_inclusive(recordings):
        LOGGER.warning('%s: most segments end one frame before the next segment starts; if an end is the last frame of '
                       'its segment, give --inclusive_ends', arguments.source)
    return recordings


def _read_columns(assignments: Sequence[str]) -> dict[str, str]:
    columns = {}
    for assignment in assignments:
        column, _, name = assignment.partition('=')
        if column not in COLUMNS or not name:
            raise UserError(f'--columns {assignment}: expected COLUMN=NAME with a COLUMN of {", ".join(COLUMNS)}')
        columns[column] = name
    return columns


FORMAT = ImportFormat(
    'tables', 'a CSV or JSON file of segments with a column of recordings, or a folder with one file per recording',
    lambda source: bool(table_files(source)), read_source, {
        'unit': {'choices': ['seconds', 'frames'], 'help': 'unit of the times (required)'},
        'fps': {'metavar': 'F', 'help': 'feature frames per second, for --unit seconds'},
        'inclusive_ends': {'action': 'store_true', 'help': 'an end is the last frame of its segment'},
        'trim_overlaps': {'action': 'store_true', 'help': 'end each segment where the next segment starts'},
        'columns': {'nargs': '+', 'metavar': 'COLUMN=NAME', 'help': f'names of the columns {", ".join(COLUMNS)}'}})
