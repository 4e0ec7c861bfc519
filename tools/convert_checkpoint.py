"""Convert checkpoints of the published GTCC code to a run folder: python -m tools.convert_checkpoint OLD.pt --run RUN.

The dataset must be available under $DATASET_PATH and $JSON_DPATH, as for the evaluation that follows.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import OneLineParser, run_command
from utils.logging import set_up_logging


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m tools.convert_checkpoint',
                           description='Write checkpoints of the published GTCC code as a run that eval.py reads.')
    parser.add_argument('checkpoints', type=Path, nargs='+', metavar='OLD.pt', help='checkpoints of one model')
    parser.add_argument('--run', type=Path, required=True, help='run folder to write')
    parser.add_argument('--dataset', metavar='NAME', help='dataset of the old run; default: the stored dataset name')
    parser.add_argument('--splits', type=Path, metavar='FILE',
                        help='JSON with train, val and test handles per task, as in the old run')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing run folder')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        from tools.conversion import convert

        convert(arguments)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
