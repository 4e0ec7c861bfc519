"""Print the content and the problems of a dataset: python -m tools.check NAME [-o FILE.png].

Exit status 0: the dataset can be trained on; 1: it has problems; 2: the command is invalid.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from configs.generic_config import CONFIG
from configs.paths import dataset_paths
from recordings.feature_files import AXES, FEATURE_NDIM, FRAME_NDIM
from recordings.groups import groups_in_two_parts, views_in_train_and_test
from recordings.rates import recording_rate
from recordings.splits import PARTS, Splits, load_splits
from tools.feature_values import constant_in_training, copies, copies_in_two_parts
from tools.inspection import Inspection, RecordingView, TaskView, collected_warnings, inspect_dataset, quartiles
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.files import remove_leftovers
from utils.standard_streams import say
from utils.tables import Row, format_table
from utils.text import one_line

PROBLEMS_STATUS = 1
LINE_WIDTH = 120
MAX_MESSAGES = 50  # of a kind
PICTURE_ENDINGS = ('.png', '.jpg', '.pdf', '.svg')


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: an option is unknown or out of range.
    """
    parser = OneLineParser(prog='python -m tools.check', description='Print the content and the problems of a dataset. '
                           'Exit status 0: the dataset can be trained on; 1: it has problems; 2: the command is '
                           'invalid.')
    parser.add_argument('name', metavar='NAME', help='name of the dataset, as for --dataset; it is searched under '
                                                     '$DATASET_PATH and $JSON_DPATH')
    parser.add_argument('-o', '--output', type=Path, metavar='FILE', help='draw the durations of actions per task')
    parser.add_argument('--splits', type=Path, metavar='FILE', help='check a split, too')
    parser.add_argument('--frames', action='store_true', help='check frames/ (T, C, H, W), not features/ (T, D)')
    parser.add_argument('--time_scale', default=CONFIG.TIME_SCALE, metavar='X', help="TIME_SCALE of the training: "
                        "'auto' (default), 'median', or annotation frames per feature frame")
    parser.add_argument('--background', nargs='+', default=CONFIG.BACKGROUND_LABELS, metavar='LABEL',
                        help=f'BACKGROUND_LABELS of the training, default {" ".join(CONFIG.BACKGROUND_LABELS)}')
    parser.add_argument('--skip_values', action='store_true', help='do not check values (NaN, scales, copies), which '
                                                                   'reads every file completely')
    arguments = parser.parse_args(argv)
    if arguments.time_scale not in ('auto', 'median'):
        arguments.time_scale = _read_time_scale(arguments.time_scale)
    if arguments.output and arguments.output.suffix.lower() not in PICTURE_ENDINGS:
        raise UserError(f'-o {arguments.output}: expected a picture, a name that ends in {" ".join(PICTURE_ENDINGS)}')
    if arguments.output and not arguments.output.resolve().parent.is_dir():
        raise UserError(f'-o {arguments.output}: its folder does not exist; create it, or choose another folder')
    return arguments


def _read_time_scale(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0  # out of range, which the next line refuses in one message
    recording_rate(1, 1, number)
    return number


def look_at_splits(found: Inspection, path: Path) -> Splits:
    """Check a split, add its problems and notes to those of the dataset, and return it.

    Args:
        found: inspection of the dataset.
        path: split file.
    """
    if not found.handles:  # the annotations cannot be read, which has been reported
        return Splits()
    try:
        with collected_warnings(found.notes):
            splits = load_splits(path, found.handles)
    except UserError as error:
        found.problems.append(str(error))
        return Splits()
    shared = groups_in_two_parts(splits, splits.groups)
    actions = {recording.handle: recording.actions for view in found.tasks.values() for recording in view.recordings}
    found.notes += [*([shared] if shared else []), *views_in_train_and_test(splits, splits.groups, actions)]
    in_parts = {part: [handle for parts in splits.values() for handle in parts[part]] for part in PARTS}
    found.notes += copies_in_two_parts(copies(found.values), in_parts)
    if note := constant_in_training(found.values, in_parts['train']):
        found.notes.append(note)
    if not in_parts['val']:
        found.notes.append('there are no validation recordings: the training losses select the best checkpoints')
    for task, parts in splits.items():
        names = {recording.handle: {action.name for action in recording.actions}
                 for recording in found.tasks[task].recordings}
        if not {*parts['train'], *parts['test']} <= names.keys():  # files that cannot be read, which has been reported
            continue
        seen = {part: set().union(*(names[handle] for handle in parts[part])) for part in ('train', 'test')}
        if unseen := sorted(seen['test'] - seen['train']):
            found.notes.append(f'task {task}: labels of test recordings that are missing in the training recordings: '
                               f'{", ".join(unseen)}')
    return splits


def print_tasks(found: Inspection, splits: Splits) -> None:
    """Print one row per task."""
    rows: list[Row] = []
    outnumber = any(view.lists > view.handles for view in found.tasks.values())
    for view in found.tasks.values():
        frames = sum(recording.num_frames for recording in view.recordings)
        actions = view.actions
        row: Row = {'task': view.task, 'recordings': _of(len(view.recordings), view.handles)}
        if outnumber:
            row['lists'] = view.lists
        if splits:
            parts = splits.get(view.task)
            row['train/val/test'] = '/'.join(str(len(parts[part])) for part in PARTS) if parts else '-'
        row |= {'length': _spread([recording.num_frames for recording in view.recordings]),
                'time_scale': _time_scale(view.recordings), 'actions': len(actions),
                'labels': len({action.name for action in actions}),
                'background': _share(sum(recording.background_frames for recording in view.recordings), frames),
                'unlabeled': _share(sum(recording.unlabeled_frames for recording in view.recordings), frames),
                'gaps': sum(recording.gaps for recording in view.recordings),
                'one frame': sum(action.length == 1 for action in actions),
                'dropped': sum(recording.dropped for recording in view.recordings)}
        rows.append(row)
    say('\n' + format_table(rows, 'tasks (length: shortest, median and longest recording in feature frames; '
                                    'time_scale: annotation frames per feature frame)'))


def _of(part: int, whole: int) -> str:
    return str(whole) if part == whole else f'{part} of {whole}'


def _spread(values: Sequence[int]) -> str:
    return f'{min(values)} {quartiles(values)[1]:g} {max(values)}' if values else '-'


def _share(part: int, whole: int) -> str:
    return f'{part / whole:.1%}' if whole else '-'


def _time_scale(recordings: Sequence[RecordingView]) -> str:
    scales = sorted(float(1 / recording.rate) for recording in recordings)
    ends = list(dict.fromkeys(f'{scale:.4g}' for scale in (*scales[:1], *scales[-1:])))
    return ' to '.join(ends) or '-'


def print_labels(view: TaskView) -> None:
    """Print one row per label of a task."""
    rows: list[Row] = []
    durations: dict[str, list[int]] = {}
    for action in view.actions:
        durations.setdefault(action.name, []).append(action.length)
    for label, lengths in sorted(durations.items(), key=lambda item: (-len(item[1]), item[0])):
        lower, median, upper = quartiles(lengths)
        holders = sum(any(action.name == label for action in recording.actions) for recording in view.recordings)
        rows.append({'label': label, 'actions': len(lengths), 'recordings': holders, 'shortest': min(lengths),
                     'lower quartile': f'{lower:g}', 'median': f'{median:g}', 'upper quartile': f'{upper:g}',
                     'longest': max(lengths)})
    if rows:
        say('\n' + format_table(rows, f'{view.task}: durations of actions, feature frames'))


def print_matching(view: TaskView) -> None:
    """Print which annotation list each recording gets, if there are more lists than handles."""
    if view.lists > view.handles and view.recordings:
        pairs = ', '.join(f'{recording.handle} {recording.annotation_list}' for recording in view.recordings)
        say('\n' + textwrap.fill(f'{view.task}: recordings and the annotation list, counted from 0, that each gets: '
                                   f'{pairs}', LINE_WIDTH, subsequent_indent='  ', break_on_hyphens=False))


def print_inspection(name: str, found: Inspection, ndim: int, splits: Splits) -> None:
    """Print the result of an inspection, problems last."""
    views = found.tasks.values()
    recordings = sum(len(view.recordings) for view in views)
    frames = sum(recording.num_frames for view in views for recording in view.recordings)
    sizes = ' x '.join(map(str, found.frame_shape)) or 'unknown'
    tasks = '1 task' if len(views) == 1 else f'{len(views)} tasks'
    say(f'{name}: {tasks}, {recordings} recordings, {frames} frames of '
          f'{AXES[ndim][4:-1]} = {sizes}, {sum(len(view.actions) for view in views)} actions')
    if views:
        print_tasks(found, splits)
    for view in views:
        print_matching(view)
        print_labels(view)
    for title, messages in (('worth a look', found.notes), ('wrong', found.problems)):
        if messages:
            say(f'\n{title}:')
            for message in messages[:MAX_MESSAGES]:
                say(f'- {one_line(message)}')
            if len(messages) > MAX_MESSAGES:
                say(f'- and {len(messages) - MAX_MESSAGES} more')
    say('\nThis dataset cannot be trained on as it is.' if found.problems else '\nThis dataset can be trained on.')


def check_dataset(arguments: argparse.Namespace) -> Inspection:
    """Inspect a dataset, print the result, and draw the durations if asked for.

    Raises:
        UserError: the dataset does not exist, or the picture cannot be written.
    """
    paths = dataset_paths(arguments.name, 'frames' if arguments.frames else 'features')
    found = inspect_dataset(paths.annotations, paths.recordings, frames=arguments.frames,
                            task_suffix=paths.task_suffix, time_scale=arguments.time_scale,
                            background=arguments.background, values=not arguments.skip_values)
    splits = look_at_splits(found, arguments.splits) if arguments.splits else Splits()
    print_inspection(arguments.name, found, FRAME_NDIM if arguments.frames else FEATURE_NDIM, splits)
    durations = {task: [action.length for action in view.actions] for task, view in found.tasks.items()}
    if arguments.output and any(durations.values()):
        from tools.duration_picture import draw_durations  # slow to import, and no picture may be asked for

        remove_leftovers(arguments.output.parent)  # of processes that were killed
        draw_durations(arguments.name, durations, arguments.output)
        say(f'durations of actions: {arguments.output}')
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    problems: list[str] = []
    status = run_command(lambda: problems.extend(check_dataset(parse_arguments(argv)).problems))
    # A command that fails has its own status; problems of the dataset are not a failure of the command.
    return status or (PROBLEMS_STATUS if problems else 0)


if __name__ == '__main__':
    sys.exit(main())
