"""Options of the command lines that read tables of segments: the same for importing a dataset and for predicting."""

import argparse
from collections.abc import Mapping
from fractions import Fraction

from recordings.rates import FRAMES, parse_rate
from recordings.time_columns import COLUMNS
from utils.command_line import option
from utils.errors import UserError

# Name, without '--' -> arguments of add_argument.
TABLE_OPTIONS: Mapping[str, Mapping[str, object]] = {
    'timecode_fps': {'metavar': 'F', 'help': 'frames per second of the last field of times such as 00:01:02:12'},
    'first_frame': {'type': int, 'default': 0, 'metavar': 'N', 'help': 'number of the first frame of a recording, if '
                    'times are frames: 0 (default), or 1 if they are counted from 1'},
    'inclusive_ends': {'action': 'store_true', 'help': 'an end is the last frame of its segment'},
    'trim_overlaps': {'action': 'store_true', 'help': 'end each segment where the next segment starts'},
    'columns': {'nargs': '+', 'metavar': 'COLUMN=NAME', 'help': f'names of the columns {", ".join(COLUMNS)}; or their '
                'numbers, from 1, if the table has no header'}}


def check_frame_options(arguments: argparse.Namespace) -> None:
    """Check the options that only apply to frames, or only to times.

    Args:
        arguments: command line with ``unit`` and the options of ``TABLE_OPTIONS``.

    Raises:
        UserError: an option contradicts the unit, or is out of range.
    """
    if arguments.first_frame < 0:
        raise UserError(f'--first_frame {arguments.first_frame}: expected 0 or more')
    for name in ('first_frame', 'inclusive_ends'):
        if getattr(arguments, name) and arguments.unit not in (None, FRAMES):
            raise UserError(f'--{name}: not allowed with --unit {arguments.unit}, applies to frames; leave it out')
    if arguments.timecode_fps and arguments.unit == FRAMES:
        raise UserError('--timecode_fps: not allowed with --unit frames, applies to times such as 00:01:02:12; give '
                        '--unit seconds, or leave it out')


def timecode_rate(arguments: argparse.Namespace) -> Fraction | None:
    """Return the frames per second of time codes; None if not given.

    Raises:
        UserError: it is not a number above 0.
    """
    if arguments.timecode_fps is None:
        return None
    with option('--timecode_fps'):
        return parse_rate(arguments.timecode_fps)


def read_columns(arguments: argparse.Namespace) -> dict[str, str]:
    """Return 'start', 'end', 'label', 'recording' -> name or number of the column, of those given with --columns.

    Raises:
        UserError: an entry is not COLUMN=NAME.
    """
    columns = {}
    for assignment in arguments.columns or ():
        column, _, name = assignment.partition('=')
        if column not in COLUMNS or not name:
            raise UserError(f'--columns {assignment}: expected COLUMN=NAME with a COLUMN of {", ".join(COLUMNS)}')
        if column in columns:
            raise UserError(f'--columns {assignment}: {column} is given twice, expected once; leave one out')
        columns[column] = name
    return columns
