"""Bring a dataset in a common form into the project's: python -m tools.import_segments NAME SOURCE.

SOURCE is a folder as MS-TCN uses it (``groundTruth/``, ``mapping.txt``, ``splits/``, ``features/``), a folder of CSV
files, or one CSV file. The dataset is written below ``$DATASET_PATH`` and ``$JSON_DPATH``.
"""

import argparse
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from configs.generic_config import CONFIG
from configs.paths import check_new_name
from recordings.annotations import check_name
from recordings.segment_list import SegmentList, list_files, mark_background
from recordings.segment_tables import COLUMNS, TableOptions, ends_look_inclusive, read_tables
from recordings.splits import Splits, make_splits
from tools.frame_labels import LABEL_FOLDER, MAPPING_FILE, read_bundles, read_label_folder, read_mapping
from tools.import_pairing import (
    LAYOUTS,
    bundled_splits,
    choose_task,
    find_features,
    pair_recordings,
    refuse_or_skip,
)
from tools.imported_dataset import ImportedRecording, OutputPaths, write_dataset
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError, name_some
from utils.logging import get_logger, set_up_logging

LOGGER = get_logger(__name__)
# Background of the common datasets beside CONFIG.BACKGROUND_LABELS: what 50Salads calls the time before and after.
OTHER_BACKGROUND = ('action_start', 'action_end')
MAX_MISMATCH = 10  # feature frames; extractors lose a window's width at the end
TABLE_OPTIONS = ('unit', 'fps', 'inclusive_ends', 'trim_overlaps', 'columns')


def build_parser() -> OneLineParser:
    """Return the parser of the command line."""
    parser = OneLineParser(
        prog='python -m tools.import_segments', description='Bring frame-wise label files or CSV files with their '
        'features into the format of this project. Writes below $DATASET_PATH and $JSON_DPATH.')
    parser.add_argument('name', metavar='NAME', help='name of the dataset, for --dataset')
    parser.add_argument('source', metavar='SOURCE', type=Path, help=f'folder with {LABEL_FOLDER}/ (frame-wise labels), '
                        'folder of CSV files, or a CSV file')
    parser.add_argument('--features', type=Path, metavar='DIR', help='folder of <recording>.npy, default '
                        'SOURCE/features')
    parser.add_argument('--layout', choices=LAYOUTS, default='auto', help='axes of the feature files; auto tells by '
                        'the sizes')
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument('--task', help='the one task of all recordings, default NAME')
    tasks.add_argument('--task_regex', metavar='RE', help="finds each recording's task in its name: the first group, "
                       "e.g. '_([a-z]+)$' for P03_cam01_P03_cereals")
    parser.add_argument('--background', nargs='+', metavar='LABEL', help='labels that are background beside '
                        f'{", ".join(CONFIG.BACKGROUND_LABELS)}; default {" ".join(OTHER_BACKGROUND)}')
    _add_rates(parser)
    _add_splits(parser)
    table = parser.add_argument_group('CSV files')
    table.add_argument('--unit', choices=['seconds', 'frames'], help='of the times (needed)')
    table.add_argument('--fps', metavar='F', help='feature frames per second, for --unit seconds')
    table.add_argument('--inclusive_ends', action='store_true', help='an end is the last frame of its segment')
    table.add_argument('--trim_overlaps', action='store_true', help='a segment ends where the next one starts')
    table.add_argument('--columns', nargs='+', metavar='COLUMN=NAME', help=f'names of the columns {", ".join(COLUMNS)}')
    parser.add_argument('--skip_missing', action='store_true', help='leave out recordings that lack labels or features')
    parser.add_argument('--overwrite', action='store_true', help='replace a dataset of that name')
    return parser


def _add_rates(parser: argparse.ArgumentParser) -> None:
    """Add the options on lengths and rates."""
    group = parser.add_argument_group('lengths and rates')
    group.add_argument('--sample_rate', type=int, default=1, metavar='N', help='keep every N-th frame of features and '
                       'labels')
    group.add_argument('--labels_per_feature', default='1', metavar='X', help='labels (or frames of the CSV) per '
                       'feature frame, where features are sampled more coarsely')
    group.add_argument('--max_mismatch', type=int, default=MAX_MISMATCH, metavar='N', help='feature frames by which '
                       f'labels and features may differ in length; the rest is cut off; default {MAX_MISMATCH}')


def _add_splits(parser: argparse.ArgumentParser) -> None:
    """Add the options on train, validation and test recordings."""
    group = parser.add_argument_group('split')
    group.add_argument('--bundles', type=Path, metavar='DIR', help='folder of train.split1.bundle, test.split1.bundle, '
                       '..., default SOURCE/splits; without one the split is drawn')
    group.add_argument('--split', type=int, metavar='N', help='which of them, default the lowest')
    group.add_argument('--val_share', type=float, default=0.0, metavar='X', help='share of the training recordings of '
                       'the bundle that validate; default 0')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse options that are out of range or do not go together.

    Raises:
        UserError: such an option, or a SOURCE that does not exist.
    """
    check_new_name(arguments.name, 'NAME')
    if not arguments.source.exists():
        raise UserError(f'SOURCE {arguments.source}: does not exist; expected a folder with {LABEL_FOLDER}/, a folder '
                        'of CSV files, or a CSV file')
    if arguments.source.is_dir() and not (_is_frame_wise(arguments.source) or list_files(arguments.source, '.csv')):
        raise UserError(f'SOURCE {arguments.source}: holds neither {LABEL_FOLDER}/ nor a .csv file; expected '
                        'frame-wise labels, one CSV file per recording, or one with a column of recordings')
    for option, least in (('sample_rate', 1), ('max_mismatch', 0)):
        if getattr(arguments, option) < least:
            raise UserError(f'--{option} {getattr(arguments, option)}: expected {least} or more')
    if not 0 <= arguments.val_share < 1:
        raise UserError(f'--val_share {arguments.val_share}: expected 0 or more, and less than 1')
    if _is_frame_wise(arguments.source):
        given = [option for option in TABLE_OPTIONS if getattr(arguments, option)]
        if given:
            raise UserError(f'--{given[0]}: concerns CSV files, but SOURCE {arguments.source} holds {LABEL_FOLDER}/ '
                            'with a label per frame; leave it out')
    elif arguments.unit is None:
        raise UserError('--unit: is needed for CSV files, expected seconds or frames')
    elif arguments.unit == 'seconds' and (arguments.fps is None or arguments.inclusive_ends):
        raise UserError('--unit seconds: needs --fps, the feature frames per second, and takes no --inclusive_ends')
    elif arguments.unit == 'frames' and arguments.fps is not None:
        raise UserError('--fps: concerns --unit seconds; where features are sampled more coarsely than the frames '
                        'counted, give --labels_per_feature')


def _is_frame_wise(source: Path) -> bool:
    return (source / LABEL_FOLDER).is_dir()


def _folder(source: Path) -> Path:
    """Return where features and splits are looked for unless told: in SOURCE, or beside it where it is a file."""
    return source if source.is_dir() else source.parent


def _positive(option: str, text: str) -> Fraction:
    """Read a number above 0, exactly as it is written; also '30000/1001'."""
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if number <= 0:
        raise UserError(f'--{option} {text}: expected a number above 0')
    return number


def feature_rate(arguments: argparse.Namespace) -> Fraction:
    """Return the feature frames per unit of the annotation's time."""
    coarser = _positive('labels_per_feature', arguments.labels_per_feature)
    if arguments.fps is None:
        return 1 / coarser
    if coarser != 1:
        raise UserError('--labels_per_feature: not with --unit seconds, whose --fps tells the rate; leave it out')
    return _positive('fps', arguments.fps)


def read_source(arguments: argparse.Namespace) -> dict[str, SegmentList]:
    """Read the annotations of SOURCE: recording -> segments, with background labels as the project has them.

    Raises:
        UserError: anything wrong with a file, or --background names a label that there is not.
    """
    source = arguments.source
    if _is_frame_wise(source):
        mapping = source / MAPPING_FILE
        recordings = read_label_folder(source / LABEL_FOLDER, read_mapping(mapping) if mapping.exists() else None)
    else:
        options = TableOptions(arguments.unit == 'seconds', arguments.inclusive_ends, arguments.trim_overlaps,
                               _read_columns(arguments.columns or ()))
        recordings = read_tables(source, options)
        if arguments.unit == 'frames' and not arguments.inclusive_ends and ends_look_inclusive(recordings):
            LOGGER.warning('%s: most segments end one frame before the next one starts; if an end is the last frame '
                           'of its segment, give --inclusive_ends', source)
    labels = {label for segments in recordings.values() for label in segments.labels}
    for label in arguments.background or ():
        if label not in labels:
            raise UserError(f'--background {label}: no such label in {source}; there are '
                            f'{name_some(sorted(labels), 30)}')
    background = {*CONFIG.BACKGROUND_LABELS, *(arguments.background or OTHER_BACKGROUND)}
    return {name: mark_background(segments, background, CONFIG.BACKGROUND_LABELS[0])
            for name, segments in recordings.items()}


def _read_columns(assignments: Sequence[str]) -> dict[str, str]:
    columns = {}
    for assignment in assignments:
        column, _, name = assignment.partition('=')
        if column not in COLUMNS or not name:
            raise UserError(f'--columns {assignment}: expected COLUMN=NAME with a COLUMN of {", ".join(COLUMNS)}')
        columns[column] = name
    return columns


def choose_tasks(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, str]:
    """Return recording -> task.

    Raises:
        UserError: --task_regex is no regular expression, or finds no task in a name.
    """
    try:
        pattern = re.compile(arguments.task_regex) if arguments.task_regex else None
    except re.error as error:
        raise UserError(f'--task_regex {arguments.task_regex}: no regular expression ({error}); expected e.g. '
                        "'_([a-z]+)$'") from error
    task = arguments.task or arguments.name
    check_name('--task', task, 'folder')
    return {name: choose_task(name, task, pattern) for name in names}


def read_bundle_parts(arguments: argparse.Namespace) -> dict[str, list[str]] | None:
    """Return part -> recordings of the bundles, None where there are none and none are asked for."""
    folder = arguments.bundles or _folder(arguments.source) / 'splits'
    if not folder.is_dir() and arguments.bundles is None and arguments.split is None:
        if arguments.val_share:
            raise UserError(f'--val_share: concerns bundles, but there is no {folder}; name it with --bundles')
        return None
    number, parts = read_bundles(folder, arguments.split)
    counts = ', '.join(f'{len(names)} {part}' for part, names in parts.items())
    LOGGER.info('split %d of %s: %s', number, folder, counts)
    return parts


def import_dataset(arguments: argparse.Namespace) -> tuple[list[ImportedRecording], Splits, bool]:
    """Read everything, then write the dataset.

    Returns:
        What was written: recordings and their split; and whether that is the split of bundles.

    Raises:
        UserError: any mistake in options or files; nothing is written then.
    """
    check_arguments(arguments)
    features = arguments.features or _folder(arguments.source) / 'features'
    paths = OutputPaths(arguments.name)
    paths.check(arguments.name, [arguments.source, features], overwrite=arguments.overwrite)
    rate, sources, parts = feature_rate(arguments), read_source(arguments), read_bundle_parts(arguments)
    _warn_of_numbers(sources)
    bundled = [name for names in (parts or {}).values() for name in names]
    unlabelled = [name for name in bundled if name not in sources]
    refuse_or_skip(f'{arguments.source}: the bundles name {name_some(unlabelled)}, of which there are no labels',
                   unlabelled, arguments.skip_missing)
    files = find_features(sources, features, skip_missing=arguments.skip_missing)
    tasks = choose_tasks(arguments, list(files))
    recordings = pair_recordings(sources, files, tasks, layout=arguments.layout, rate=rate,
                                 max_mismatch=arguments.max_mismatch, sample_rate=arguments.sample_rate)
    splits = _choose_splits(parts, tasks, arguments.val_share)
    write_dataset(paths, recordings, splits, sample_rate=arguments.sample_rate)
    return recordings, splits, parts is not None


def _warn_of_numbers(sources: Mapping[str, SegmentList]) -> None:
    """Warn where labels are numbers of classes, of which 0 may be an action."""
    labels = {label for segments in sources.values() for label in segments.labels}
    zero = CONFIG.BACKGROUND_LABELS[0]
    if zero in labels and len(labels) > 1 and all(label.isdecimal() for label in labels):
        LOGGER.warning('all labels are numbers, and %s counts as background; if it is an action, give it another name '
                       '(in mapping.txt, or in the table)', zero)


def _choose_splits(parts: Mapping[str, Sequence[str]] | None, tasks: Mapping[str, str], val_share: float) -> Splits:
    """Return the split of the bundles, or a drawn one."""
    if parts is None:
        by_task: dict[str, list[str]] = {}
        for name, task in tasks.items():
            by_task.setdefault(task, []).append(name)
        return make_splits(by_task, CONFIG.TRAIN_SPLIT, CONFIG.SEED)
    splits = bundled_splits(parts, tasks, val_share)
    if not splits:
        raise UserError('the train bundle names none of the imported recordings; choose another --split')
    return splits


def print_summary(name: str, recordings: Sequence[ImportedRecording], splits: Splits, bundled: bool, *,
                  told_tasks: bool) -> None:
    """Say what was written and what to do with it.

    Args:
        name: of the dataset.
        recordings: from :func:`import_dataset`.
        splits: the same.
        bundled: the same.
        told_tasks: whether an option said what the tasks are.
    """
    paths = OutputPaths(name)
    for task, count in Counter(recording.task for recording in recordings).items():
        labels = [label for recording in recordings if recording.task == task for label in recording.segments['labels']]
        actions = [label for label in labels if label not in CONFIG.BACKGROUND_LABELS]
        parts = ', '.join(f'{len(handles)} {part}' for part, handles in splits.get(task, {}).items()) or 'not in split'
        print(f'{task}: {count} recordings ({parts}), {len(actions)} actions of {len(set(actions))} labels, '
              f'{len(labels) - len(actions)} background segments')
    if not any(parts['val'] for parts in splits.values()):
        print('No recording validates, so training picks its checkpoints by the training loss'
              + ('; --val_share 0.2 --overwrite sets some aside.' if bundled else '.'))
    if not told_tasks:
        print('All recordings are one task; --task_regex tells tasks apart by the names of the recordings.')
    print(f'Wrote {paths.features}, {paths.annotations} and {paths.splits}. Look at it, and train on it:\n\n'
          f'python -m tools.check {name} --splits {shlex.quote(str(paths.splits))} -o {name}.png\n'
          f'python multitask_train.py 1 --dataset {name} --splits {shlex.quote(str(paths.splits))} '
          '--config configs/progress_recommended.json')


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
