"""Convert a dataset in a common format to the project's format: python -m tools.import_segments NAME SOURCE.

SOURCE is a folder as used by MS-TCN (``groundTruth/``, ``mapping.txt``, ``splits/``, ``features/``), a folder of CSV
or JSON tables, or one table; ``FORMATS`` lists the formats. The dataset is written below ``$DATASET_PATH`` and
``$JSON_DPATH``.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

from configs.generic_config import CONFIG
from configs.paths import check_new_name
from configs.validation import check_value
from recordings.annotations import check_name, check_task_name, short
from recordings.background import look_alike_note
from recordings.groups import groups_in_two_parts, views_in_train_and_test
from recordings.rates import parse_rate
from recordings.segment_list import MAX_MISMATCH, SegmentList, list_files
from recordings.splits import Splits
from tools.extracted_features import check_lengths, find_feature_source
from tools.import_format import ImportFormat
from tools.import_pairing import (
    LAYOUTS,
    choose_task,
    find_features,
    pair_recordings,
    refuse_or_skip,
)
from tools.import_splits import choose_groups, choose_splits, read_bundle_parts
from tools.import_summary import print_summary
from tools.imported_dataset import ImportedRecording, OutputPaths, write_annotations, write_dataset
from tools.source_segments import mark_background
from utils.command_line import OneLineParser, option, run_command
from utils.errors import UserError, name_some
from utils.logging import get_logger, set_up_logging

LOGGER = get_logger(__name__)
# Background labels in addition to CONFIG.BACKGROUND_LABELS: 50Salads uses them for the time before and after.
OTHER_BACKGROUND = ('action_start', 'action_end')
# The first format that recognizes SOURCE reads it.
FORMATS = tuple(map(resolve_name, (
    'tools.frame_labels:FORMAT',
    'tools.table_import:FORMAT',
)))


def build_parser() -> OneLineParser:
    """Return the parser of the command line."""
    parser = OneLineParser(
        prog='python -m tools.import_segments', description='Convert frame-wise label files or tables of segments, '
        'with their features, to the format of this project. Writes below $DATASET_PATH and $JSON_DPATH.')
    parser.add_argument('name', metavar='NAME', help='name of the dataset, for --dataset')
    parser.add_argument('source', metavar='SOURCE', type=Path, help='; or '.join(form.source for form in FORMATS))
    parser.add_argument('--features', type=Path, metavar='DIR', help='folder of <recording>.npy, default '
                        'SOURCE/features; if that folder is missing, the features that tools.extract wrote for NAME')
    parser.add_argument('--layout', choices=LAYOUTS, default='auto', help='axes of the feature files; auto decides by '
                        'their sizes')
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument('--task', help='common task of all recordings, default NAME')
    tasks.add_argument('--task_regex', metavar='RE', help="finds each recording's task in its name: the first group, "
                       "e.g. '_([a-z]+)$' for P03_cam01_P03_cereals")
    parser.add_argument('--background', nargs='+', metavar='LABEL', help='background labels in addition to '
                        f'{", ".join(CONFIG.BACKGROUND_LABELS)}; default {" ".join(OTHER_BACKGROUND)}')
    _add_rates(parser)
    _add_splits(parser)
    for form in FORMATS:
        group = parser.add_argument_group(form.name)
        for name, keywords in form.options.items():
            group.add_argument(f'--{name}', **keywords)
    parser.add_argument('--skip_missing', action='store_true', help='leave out recordings that lack labels or features')
    parser.add_argument('--overwrite', action='store_true', help='replace a dataset of that name')
    return parser


def _add_rates(parser: argparse.ArgumentParser) -> None:
    """Add the options on lengths and rates."""
    group = parser.add_argument_group('lengths and rates')
    group.add_argument('--sample_rate', type=int, default=1, metavar='N', help='keep every N-th frame of features and '
                       'labels')
    group.add_argument('--labels_per_feature', default='1', metavar='X', help='labels (or frames of the CSV) per '
                       'feature frame, if features have a lower rate')
    group.add_argument('--max_mismatch', type=int, metavar='N', help='feature frames by which labels and features may '
                       f'differ in length; the rest is cut off; default {MAX_MISMATCH}, but at most a tenth of most '
                       'recordings')


def _add_splits(parser: argparse.ArgumentParser) -> None:
    """Add the options on train, validation and test recordings."""
    group = parser.add_argument_group('split')
    group.add_argument('--bundles', type=Path, metavar='DIR', help='folder of train.split1.bundle, test.split1.bundle, '
                       '..., default SOURCE/splits; if there are no bundles, a random split is drawn')
    group.add_argument('--split', type=int, metavar='N', help='number of the split in the bundles, default the lowest')
    group.add_argument('--group_regex', metavar='RE', help="finds each recording's group (who performs it) in its "
                       "name: the first group, e.g. '^(P[0-9]+)_'; groups stay together in a split that is drawn")
    group.add_argument('--val_share', type=float, default=0.0, metavar='X', help='fraction of the training recordings '
                       'of the bundle that are used for validation; default 0')


def choose_format(source: Path) -> ImportFormat:
    """Return the format of SOURCE.

    Raises:
        UserError: SOURCE does not exist, or no format recognizes it.
    """
    found = next((form for form in FORMATS if form.recognizes(source)), None) if source.exists() else None
    if found is None:
        what = 'does not exist'
        if source.exists():
            there = name_some([path.name for path in list_files(source, '')], 4) or 'nothing'
            what = f'of no known format{f" (contains {there})" if source.is_dir() else ""}'
        raise UserError(f'SOURCE {source}: {what}, expected {"; or ".join(form.source for form in FORMATS)}')
    return found


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check that options are in range and apply to the format of SOURCE.

    Raises:
        UserError: an option is invalid, or SOURCE does not exist.
    """
    check_new_name(arguments.name, 'NAME')
    chosen = choose_format(arguments.source)
    for name, least in (('sample_rate', 1), ('max_mismatch', 0)):
        if getattr(arguments, name) is not None and getattr(arguments, name) < least:
            raise UserError(f'--{name} {getattr(arguments, name)}: expected {least} or more')
    if not 0 <= arguments.val_share < 1:
        raise UserError(f'--val_share {arguments.val_share}: expected 0 or more, and less than 1')
    if arguments.group_regex:
        check_value('GROUP_REGEX', arguments.group_regex, '--group_regex')
    for form in FORMATS:
        for name in form.options:
            if getattr(arguments, name) and name not in chosen.options:
                raise UserError(f'--{name}: only applies to {form.name}, but SOURCE {arguments.source} is '
                                f'{chosen.source}; leave it out')


def _folder(source: Path) -> Path:
    """Return the default folder of features and splits: SOURCE, or the folder that contains it if it is a file."""
    return source if source.is_dir() else source.parent


def read_source(arguments: argparse.Namespace) -> dict[str, SegmentList]:
    """Read the annotations of SOURCE: recording -> segments, with the project's background label.

    Raises:
        UserError: a file or an option of its format is invalid, --background names an unknown label, or there is no
            action.
    """
    source = arguments.source
    recordings = choose_format(source).read(arguments)
    labels = {label for segments in recordings.values() for label in segments.labels}
    folded = {label.casefold() for label in labels}
    for label in arguments.background or ():
        if label.casefold() not in folded:
            raise UserError(f'--background {label}: no such label in {source}; there are '
                            f'{name_some(sorted(labels), 30)}')
    background = {*CONFIG.BACKGROUND_LABELS, *(arguments.background or OTHER_BACKGROUND)}
    if not folded - {label.casefold() for label in background}:
        found = name_some(sorted(labels)) or 'no segment'
        raise UserError(f'{source}: contains no action ({found}), expected segments with labels other than those of '
                        f'the background ({", ".join(sorted(background))}); check SOURCE and --background')
    if note := look_alike_note(labels, background, 'name them with --background'):
        LOGGER.warning('%s: %s', source, note)
    return {name: mark_background(segments, background, CONFIG.BACKGROUND_LABELS[0])
            for name, segments in recordings.items()}


def choose_tasks(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, str]:
    """Return recording -> task.

    Raises:
        UserError: --task_regex is not a valid regular expression, or finds no task in a name.
    """
    try:
        pattern = re.compile(arguments.task_regex) if arguments.task_regex else None
    except re.error as error:
        raise UserError(f'--task_regex {arguments.task_regex}: not a valid regular expression ({error}); expected e.g. '
                        "'_([a-z]+)$'") from error
    task = arguments.task or arguments.name
    check_task_name('--task', task)
    return {name: choose_task(name, task, pattern) for name in names}


def import_dataset(arguments: argparse.Namespace) -> tuple[list[ImportedRecording], Splits, bool]:
    """Read everything, then write the dataset.

    Returns:
        The recordings written, their split, and True if the split comes from bundles.

    Raises:
        UserError: an option or a file is invalid; nothing is written in this case.
    """
    check_arguments(arguments)
    features = find_feature_source(arguments, _folder(arguments.source) / 'features')
    paths = OutputPaths(arguments.name)
    read = [arguments.source] if features.in_place else [arguments.source, features.folder]
    paths.check(arguments.name, read, overwrite=arguments.overwrite, in_place=features.in_place)
    with option('--labels_per_feature'):
        rate = 1 / parse_rate(arguments.labels_per_feature)
    sources = read_source(arguments)
    parts = read_bundle_parts(arguments, _folder(arguments.source) / 'splits')
    _warn_of_numbers(sources)
    bundled = [name for names in (parts or {}).values() for name in names]
    unlabeled = [name for name in bundled if name not in sources]
    refuse_or_skip(f'{arguments.source}: the bundles name {name_some(unlabeled)}, for which there are no labels',
                   unlabeled, arguments.skip_missing)
    files = find_features(sources, features.folder, skip_missing=arguments.skip_missing)
    tasks = choose_tasks(arguments, list(files))
    for name, task in tasks.items():  # before anything is copied: training would refuse these names
        check_name(f'{arguments.source}: recording', name, 'file')
        check_task_name(f'--task_regex: recording {short(name)}: task', task)
    recordings = pair_recordings(sources, files, tasks, layout='TD' if features.info else arguments.layout, rate=rate,
                                 max_mismatch=arguments.max_mismatch, sample_rate=arguments.sample_rate)
    splits = choose_splits(parts, tasks, arguments.val_share, choose_groups(arguments, list(files)))
    actions = {recording.handle: [segment for segment in zip(*recording.segments.values(), strict=True)
                                  if segment[0] not in CONFIG.BACKGROUND_LABELS] for recording in recordings}
    _check_actions(arguments.source, actions)
    for warning in (groups_in_two_parts(splits, splits.groups),
                    *views_in_train_and_test(splits, splits.groups, actions)):
        if warning:
            LOGGER.warning('%s', warning)
    if features.in_place:
        check_lengths(recordings)
        write_annotations(paths, recordings, splits)
    else:
        write_dataset(paths, recordings, splits, sample_rate=arguments.sample_rate, info=features.info)
    return recordings, splits, parts is not None


def _check_actions(source: Path, actions: Mapping[str, Sequence]) -> None:
    """Check that actions are left at the rate of the features; warn of recordings without any.

    Raises:
        UserError: no recording has an action.
    """
    idle = [name for name, found in actions.items() if not found]
    if len(idle) == len(actions):
        raise UserError(f'{source}: no action contains the center of a feature frame, expected actions of a frame or '
                        'more; check the times, --unit, --fps and --labels_per_feature')
    if idle:
        LOGGER.warning('%s: no action in %d of %d recordings: %s', source, len(idle), len(actions), name_some(idle))


def _warn_of_numbers(sources: Mapping[str, SegmentList]) -> None:
    """Warn if labels are class numbers, because class 0 may be an action."""
    labels = {label for segments in sources.values() for label in segments.labels}
    zero = CONFIG.BACKGROUND_LABELS[0]
    if zero in labels and len(labels) > 1 and all(label.isdecimal() for label in labels):
        LOGGER.warning('all labels are numbers, and %s counts as background; if it is an action, give it another name '
                       '(in mapping.txt, or in the table)', zero)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = build_parser().parse_args(argv)
        set_up_logging()
        print_summary(arguments.name, *import_dataset(arguments),
                      told_tasks=bool(arguments.task or arguments.task_regex))

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
