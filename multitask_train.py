"""Train a single model on all tasks of a dataset: python multitask_train.py VERSION --gtcc --ego --tstack --mcn."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from easydict import EasyDict

from configs.paths import environment_path
from training.command import run_training_command
from utils.run_folder import MULTI_TASK, RunFolder

if TYPE_CHECKING:
    from training.distributed import World


def run_folder_of(config: EasyDict) -> Path:
    """Return the folder of the configuration's run."""
    return environment_path('OUTPUT_PATH') / MULTI_TASK / config.EXPERIMENTNAME


def train(config: EasyDict, arguments: argparse.Namespace, world: 'World | None' = None) -> None:
    """Train a single model on all tasks; see :func:`training.run.train_run` for arguments and errors."""
    # Slow imports, after help and --print_config.
    from models.build import reads_frames
    from recordings.from_config import load_dataset
    from training.distributed import SINGLE_PROCESS
    from training.run import check_init_from, check_start, choose_run_splits, train_run

    world = world or SINGLE_PROCESS
    run_path = run_folder_of(config)
    if world.first or arguments.resume:
        check_start(run_path, arguments)
    check_init_from(config, run_path, arguments)
    recordings = load_dataset(config, frames=reads_frames(config))
    splits = choose_run_splits(config, recordings, arguments, RunFolder(run_path).splits)
    train_run(config, run_path, recordings, splits, arguments, world)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_training_command(argv, Path(__file__).name, train, lambda config: [run_folder_of(config)])


if __name__ == '__main__':
    sys.exit(main())
