"""Import format of ``tools.import_segments`` for tables of start, end and label."""

import argparse
from collections.abc import Mapping

from recordings.feature_info import read_feature_info
from recordings.rates import FRAMES, parse_rate
from recordings.segment_list import SegmentList
from recordings.segment_tables import (
    TableOptions,
    ends_look_inclusive,
    read_tables,
    starts_look_one_based,
    table_files,
)
from recordings.table_options import TABLE_OPTIONS, check_frame_options, read_columns, timecode_rate
from recordings.times import UNITS
from tools.import_format import ImportFormat
from tools.imported_dataset import OutputPaths
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
        folder = arguments.features or OutputPaths(arguments.name).features
        why = '' if read_feature_info(folder) else f'; {folder} has no features.json of tools.extract to tell it'
        raise UserError(f'--unit: is required for tables, expected {", ".join(UNITS)}{why}')
    in_frames = arguments.unit == FRAMES
    check_frame_options(arguments)
    if not in_frames and arguments.fps is None:
        raise UserError(f'--unit {arguments.unit}: requires --fps, the feature frames per second')
    if in_frames and arguments.fps is not None:
        raise UserError('--fps: only applies to times in seconds; if features have a lower rate than the frames of the '
                        'table, give --labels_per_feature')
    if not in_frames and parse_rate(arguments.labels_per_feature) != 1:
        raise UserError(f'--labels_per_feature: not allowed with --unit {arguments.unit}, where --fps gives the rate; '
                        'leave it out')
    with option('--fps'):
        fps = None if in_frames else parse_rate(arguments.fps)
    recordings = read_tables(arguments.source, TableOptions(
        fps, arguments.unit, timecode_rate(arguments), arguments.first_frame, arguments.inclusive_ends,
        arguments.trim_overlaps, columns=read_columns(arguments), advice=ADVICE))
    if in_frames:
        _warn_of_frames(recordings, arguments)
    return recordings


def _warn_of_frames(recordings: Mapping[str, SegmentList], arguments: argparse.Namespace) -> None:
    """Warn if frame numbers look as if they count from 1, or as if ends are the last frames of their segments."""
    if not arguments.inclusive_ends and ends_look_inclusive(recordings):
        LOGGER.warning('%s: most segments end one frame before the next segment starts; if an end is the last frame of '
                       'its segment, give --inclusive_ends', arguments.source)
    if not arguments.first_frame and starts_look_one_based(recordings):
        LOGGER.warning('%s: the first segment of every recording starts at frame 1; if frames are counted from 1, give '
                       '--first_frame 1', arguments.source)


FORMAT = ImportFormat(
    'tables', 'a CSV or JSON file of segments with a column of recordings, or a folder with one file per recording',
    lambda source: bool(table_files(source)), read_source, {
        'unit': {'choices': UNITS, 'help': 'unit of the times; default: seconds if tools.extract wrote the features, '
                 'otherwise required'},
        'fps': {'metavar': 'F', 'help': 'feature frames per second, for --unit seconds or milliseconds'},
        **TABLE_OPTIONS})
