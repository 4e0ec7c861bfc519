"""Export a run: python -m tools.export RUN OUT.

OUT contains what another program needs to predict without this project: networks as ONNX files that process one frame
at a time, weights as ``model.safetensors``, a description in ``model.json``, and ``example.py``, which runs the files
with numpy and onnxruntime alone. Boundaries of actions are inferred.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import OneLineParser, run_command
from utils.logging import set_up_logging


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m tools.export', description='Write what another program needs to predict '
                           'with a run. Requires the packages of requirements-export.txt.')
    parser.add_argument('run', metavar='RUN', type=Path, help='run folder, as printed by training')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to write')
    parser.add_argument('--task', metavar='NAME', help='task of the recordings, one of the tasks of the run; default: '
                        'inferred from the frames')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined',
                        help='lowest total loss (default) or lowest alignment loss')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing export')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        from tools.exported_run import export_run

        export_run(arguments.run, arguments.out, arguments.task, arguments.checkpoint_type,
                   overwrite=arguments.overwrite)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
