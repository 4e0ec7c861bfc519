"""Train one model for each task of a dataset: python singletask_train.py VERSION --gtcc --ego --tstack."""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

from easydict import EasyDict

from configs.paths import environment_path
from datasets.from_config import load_dataset
from datasets.json_dataset import RecordingsByTask
from datasets.splits import Splits, load_run_splits
from training.distributed import ALONE, Processes
from training.run import check_start, choose_run_splits, has_begun, run_training_command, train_run
from utils.atomic_write import write_json
from utils.errors import UserError
from utils.folders import make_folder
from utils.logging import get_logger
from utils.run_folder import SINGLE_TASK, RunFolder

LOGGER = get_logger('singletask_train')


def folder_of(config: EasyDict) -> RunFolder:
    """Return the folder that holds a run for each task, and the split of all of them."""
    return RunFolder(environment_path('OUTPUT_PATH') / SINGLE_TASK / config.EXPERIMENTNAME)


def run_paths(config: EasyDict) -> list[Path]:
    """Return the runs that there are."""
    folder = folder_of(config)
    return [folder.path / task for task in load_run_splits(folder.splits)] if folder.splits.exists() else []


def train(config: EasyDict, arguments: argparse.Namespace, processes: Processes = ALONE) -> None:
    """Train one model for each task, one after the other; with --resume, finished ones are left as they are.

    Arguments and errors as in :func:`training.run.train_run`.
    """
    folder, config.MULTITASK = folder_of(config), False
    if arguments.resume and not folder.splits.exists():
        raise UserError(f'--resume: {folder.splits} does not exist; start the runs without --resume')
    recordings = load_dataset(config)
    splits = choose_run_splits(config, recordings, arguments, folder.splits)
    if processes.first and not arguments.resume:
        for task in splits:
            check_start(folder.path / task, arguments)
        if not arguments.dry_run:
            _store_splits(folder, splits)
    for number, task in enumerate(splits, 1):
        LOGGER.info('task %d of %d: %s', number, len(splits), task)
        begun = arguments.resume and has_begun(folder.path / task)
        # A run that was killed before its first whole epoch begins again.
        options = argparse.Namespace(**{**vars(arguments), 'resume': begun,
                                        'overwrite': arguments.overwrite or (arguments.resume and not begun)})
        train_run(copy.deepcopy(config), folder.path / task, RecordingsByTask({task: recordings[task]}),
                  {task: splits[task]}, options, processes)
    if not arguments.dry_run:
        LOGGER.info('all tasks done; evaluate them together with: python eval.py -f %s', folder.path)


def _store_splits(folder: RunFolder, splits: Splits) -> None:
    """Write the split of all tasks, which a run that goes on keeps.

    Raises:
        UserError: the folder cannot be written.
    """
    make_folder(folder.path, 'OUTPUT_PATH: ', 'choose a folder that can be written')
    write_json(folder.splits, {'splits': splits})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_training_command(argv, Path(__file__).name, train, run_paths)


if __name__ == '__main__':
    sys.exit(main())
