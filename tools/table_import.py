"""Tables of start, end and label as a format of ``tools.import_segments``."""

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
          'overlap': ', or give --trim_overlaps to end each segment where the next one starts'}


def read_source(arguments: argparse.Namespace) -> dict[str, SegmentList]:
    """Read the tables of SOURCE, as the options say.

    Raises:
        UserError: options that do not go together, or anything wrong with a file.
    """
    if arguments.unit is None:
        raise UserError('--unit: is needed for tables, expected seconds or frames')
    in_seconds = arguments.unit == 'seconds'
    if in_seconds and (arguments.fps is None or arguments.inclusive_ends):
        raise UserError('--unit seconds: needs --fps, the feature frames per second, and takes no --inclusive_ends')
    if not in_seconds and arguments.fps is not None:
        raise UserError('--fps: concerns --unit seconds; if features are sampled more coarsely than the frames '
                        'counted, give --labels_per_feature')
    if in_seconds and parse_rate(arguments.labels_per_feature) != 1:
        raise UserError('--labels_per_feature: not with --unit seconds, whose --fps gives the rate; leave it out')
    with option('--fps'):
        fps = parse_rate(arguments.fps) if in_seconds else None
    recordings = read_tables(arguments.source, TableOptions(
        fps, arguments.inclusive_ends, arguments.trim_overlaps, columns=_read_columns(arguments.columns or ()),
        advice=ADVICE))
    if not in_seconds and not arguments.inclusive_ends and ends_look_inclusive(recordings):
        LOGGER.warning('%s: most segments end one frame before the next one starts; if an end is the last frame of its '
                       'segment, give --inclusive_ends', arguments.source)
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
    'tables', 'a CSV or JSON file of segments with a column of recordings, or a folder with a file per recording',
    lambda source: bool(table_files(source)), read_source, {
        'unit': {'choices': ['seconds', 'frames'], 'help': 'of the times (needed)'},
        'fps': {'metavar': 'F', 'help': 'feature frames per second, for --unit seconds'},
        'inclusive_ends': {'action': 'store_true', 'help': 'an end is the last frame of its segment'},
        'trim_overlaps': {'action': 'store_true', 'help': 'a segment ends where the next one starts'},
        'columns': {'nargs': '+', 'metavar': 'COLUMN=NAME', 'help': f'names of the columns {", ".join(COLUMNS)}'}})
