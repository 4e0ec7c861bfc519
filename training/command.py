"""Command line of the training programs; fast to import."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from easydict import EasyDict

from configs.entry_config import describe_config, parse_training_arguments
from configs.options import naming_options
from configs.unused import unused_settings
from utils.command_line import run_command
from utils.errors import StoppedError
from utils.logging import get_logger, set_up_logging
from utils.standard_streams import say

if TYPE_CHECKING:
    from training.distributed import World

LOGGER = get_logger(__name__)
TrainFunction = Callable[[EasyDict, argparse.Namespace, 'World'], None]


def run_training_command(argv: Sequence[str] | None, program: str, train: TrainFunction,
                         run_paths: Callable[[EasyDict], Sequence[Path]]) -> int:
    """Run the command line of a training program, and return its exit status.

    Args:
        argv: arguments; None means the arguments of the process.
        program: file name of the program.
        train: trains with a configuration, arguments, and the processes of the run.
        run_paths: returns the folders of the runs of a configuration.
    """
    def command() -> None:
        config, arguments = parse_training_arguments(argv, program)
        set_up_logging(config.DEBUG)
        if arguments.print_config:
            say(describe_config(config, arguments))
            return
        # Slow imports, after help, --print_config, and option errors.
        from models.build import check_model, has_weights
        from training.distributed import join_processes
        from training.run import has_begun

        with naming_options():
            check_model(config)
        with join_processes(config.DEVICE) as world:
            # Set up again, now that the processes are known: only the first one logs.
            set_up_logging(config.DEBUG, quiet=not world.first)
            for message in unused_settings(config, arguments, has_weights=has_weights(config)):
                LOGGER.warning('%s', message)
            try:
                train(config, arguments, world)
            except StoppedError as stop:
                # One message for all processes of the run; the others end silently.
                saved = any(has_begun(path) for path in run_paths(config))
                given = sys.argv[1:] if argv is None else argv
                stop.args = (_how_to_go_on(program, given, world, saved=saved) if world.first else '',)
                raise

    return run_command(command)


def _how_to_go_on(program: str, argv: Sequence[str], world: 'World', *, saved: bool) -> str:
    """Return the message that names the command to continue after a signal."""
    from training.interrupt import command_to_go_on

    command = command_to_go_on([*world.launcher, program], argv, saved=saved)
    return (f'interrupted; the last complete epoch is saved, continue with: {command}' if saved else
            f'interrupted before an epoch was complete; start again with: {command}')
