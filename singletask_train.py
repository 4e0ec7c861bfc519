"""Train one model for each task of a dataset: python singletask_train.py VERSION --gtcc --ego --tstack."""

import argparse
import copy
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from easydict import EasyDict

from configs.paths import environment_path
from recordings.splits import Splits, load_run_splits
from training.command import run_training_command
from utils.errors import UserError
from utils.logging import get_logger
from utils.run_folder import SINGLE_TASK, RunFolder, check_run_folder, create_single_task_folder, locked_run

if TYPE_CHECKING:
    from recordings.json_dataset import RecordingsByTask
    from training.distributed import World

LOGGER = get_logger('singletask_train')


def folder_of(config: EasyDict) -> RunFolder:
    """Return the folder that contains a run for each task, and the split of all tasks."""
    return RunFolder(environment_path('OUTPUT_PATH') / SINGLE_TASK / config.EXPERIMENTNAME)


def run_paths(config: EasyDict) -> list[Path]:
    """Return the folders of the runs."""
    folder = folder_of(config)
    return [folder.path / task for task in load_run_splits(folder.splits)] if folder.splits.exists() else []


def train(config: EasyDict, arguments: argparse.Namespace, world: 'World | None' = None) -> None:
    """Train a model for each task, one after another; with --resume, finished runs are not changed.

    See :func:`training.run.train_run` for arguments and errors.
    """
    # Slow imports, after help and --print_config.
    from models.build import reads_frames
    from recordings.from_config import load_dataset, split_recordings
    from recordings.json_dataset import RecordingsByTask
    from training.distributed import SINGLE_PROCESS
    from training.interrupt import StopRequest, stop_on_signals
    from training.run import check_init_from, choose_run_splits, has_begun, train_run

    world = world or SINGLE_PROCESS
    folder, config.MULTITASK = folder_of(config), False
    if arguments.resume and not folder.splits.exists():
        raise UserError(f'--resume: {folder.splits} does not exist; start the runs without --resume')
    if world.first and not arguments.resume:
        check_run_folder(folder.path, overwrite=arguments.overwrite)
    check_init_from(config, folder.path, arguments)
    recordings = load_dataset(config, frames=reads_frames(config))
    splits = choose_run_splits(config, recordings, arguments, folder.splits,
                               partial(_trainable, config, recordings))
    # Next to the folders of the tasks are the split and the tables of eval.py.
    if taken := next((task for task in splits if task in (folder.splits.name, config.EVAL_PLOTFOLDER)), None):
        raise UserError(f'task {taken!r}: is the name of a file of these runs, expected another name; rename the task '
                        'in the annotations, or train it with multitask_train.py')
    split_recordings(recordings, splits)  # raises if a recording is missing

    with stop_on_signals(StopRequest(world.largest, announce=world.first)) as stop, ExitStack() as locks:
        if arguments.resume and world.first:
            locks.enter_context(locked_run(folder.path))

        def begin() -> None:
            create_single_task_folder(folder.path, splits.as_json(), overwrite=arguments.overwrite, locks=locks)

        for number, task in enumerate(splits, 1):
            stop.check()
            LOGGER.info('task %d of %d: %s', number, len(splits), task)
            begun = arguments.resume and has_begun(folder.path / task)
            # A run that was killed before its first complete epoch starts again.
            options = argparse.Namespace(**{**vars(arguments), 'resume': begun,
                                            'overwrite': arguments.resume and not begun})
            # The first task replaces the earlier runs, after all its checks have passed.
            train_run(copy.deepcopy(config), folder.path / task, RecordingsByTask({task: recordings[task]}),
                      splits.take([task]), options, world, stop,
                      before_writing=begin if number == 1 and not arguments.resume else None)
    if not arguments.dry_run:
        LOGGER.info('all tasks done; evaluate them together with: python eval.py -f %s',
                    shlex.quote(str(folder.path)))


def _trainable(config: EasyDict, recordings: 'RecordingsByTask', splits: Splits) -> Splits:
    """Return the split without tasks that have no training action, if the progress head requires actions."""
    from models.build import head_class
    from recordings.from_config import list_all_actions, split_recordings

    if not (config.PROGRESS_LOSS.enabled and head_class(config).NEEDS_ACTIONS):
        return splits
    actions = list_all_actions(split_recordings(recordings, splits)['train'])
    idle = [task for task in splits if not any(actions[task])]
    if not idle or len(idle) == len(splits):  # if all tasks lack actions, the first run raises
        return splits
    LOGGER.warning('left out because their training recordings contain no action: %s', ', '.join(idle))
    return splits.take(task for task in splits if task not in idle)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_training_command(argv, Path(__file__).name, train, run_paths)


if __name__ == '__main__':
    sys.exit(main())
