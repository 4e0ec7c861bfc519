"""Progress of new recordings: python predict.py -f RUN --features my.npy [--segments my.csv] | --stream."""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.command_line import OneLineParser, choose_device, option, run_command
from utils.errors import UserError
from utils.logging import get_logger, set_up_logging

if TYPE_CHECKING:
    from prediction import TrainedRun

LOGGER = get_logger(__name__)
DEFAULT_OUTPUT = Path('predictions')


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog=Path(__file__).name, description='Progress within actions, frame by frame.')
    parser.add_argument('-f', '--folder', type=Path, required=True, help='run folder, as training printed it')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--features', type=Path, metavar='PATH', help='.npy file (T, D), or a folder of them')
    source.add_argument('--stream', action='store_true', help='read frames from standard input, print rows of CSV')
    parser.add_argument('--segments', type=Path, metavar='PATH', help='.csv or .json of start, end[, label] in frames, '
                        'or a folder of them; without, a recording is one action')
    parser.add_argument('--fps', metavar='F', help='feature frames per second: the times of --segments are seconds')
    parser.add_argument('--task', metavar='NAME', help='what is done in the recordings, one of the tasks of the run')
    parser.add_argument('-o', '--output', type=Path, metavar='FOLDER', help=f'default {DEFAULT_OUTPUT}')
    parser.add_argument('--overwrite', action='store_true', help='replace results that are there')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined',
                        help='lowest total loss (default) or lowest alignment loss')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda', 'cuda:1', ...")
    arguments = parser.parse_args(argv)
    if arguments.fps and not arguments.segments:
        parser.error('--fps: concerns the times of --segments, of which there are none')
    if arguments.stream and (arguments.segments or arguments.output or arguments.overwrite):
        parser.error('--stream: not with --segments, -o or --overwrite: actions are marked in the stream, and results '
                     'go to standard output')
    return arguments


def predict_files(run: 'TrainedRun', arguments: argparse.Namespace) -> None:
    """Write the progress of recordings in files."""
    from prediction.files import frames_ahead, plan_requests, write_predictions
    from recordings.rates import parse_rate

    out = arguments.output or DEFAULT_OUTPUT
    with option('--fps'):
        fps = parse_rate(arguments.fps) if arguments.fps else None
    requests = plan_requests(run, arguments.features, arguments.segments, out, fps=fps, overwrite=arguments.overwrite)
    if arguments.segments is None:
        LOGGER.warning('no --segments: each recording counts as one action, from its first frame to its last. That '
                       'fits recordings cut to one action; of a longer one it says little, for the head has learned '
                       'progress within single actions')
    ahead = 0
    with option('--task'):
        task = run.check_task(arguments.task)
    for request, prediction in write_predictions(run, requests, task, out):
        ahead = max(ahead, frames_ahead(run, prediction))
        print(f'{request.features.stem}: {len(prediction.frames)} frames, actions: {len(prediction.actions)} -> '
              f'{", ".join(map(str, request.outputs))}')
    print(f'{run.checkpoint}.pt (epoch {run.epoch}); the encoder sees {ahead} frames ahead')


def predict_stream(run: 'TrainedRun', task: str | None) -> None:
    """Print the progress of frames from standard input, each as soon as it is known."""
    from prediction import stream
    from prediction.frame_progress import FrameProgress
    from prediction.standard_input import NAME, read_items

    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f'--stream: {NAME} is {"closed" if sys.stdin is None else "a terminal"}, expected frames; pipe '
                        'them in')
    sys.stdout.reconfigure(encoding='utf-8')  # as the files are, whatever the terminal says: labels may be any text
    LOGGER.info('%s.pt (epoch %d); the progress of a frame comes %d frames after it', run.checkpoint, run.epoch,
                run.delay)
    writer = csv.writer(sys.stdout, lineterminator='\n')
    try:
        with option('--task'):
            task = run.check_task(task)
        rows = stream(run, read_items(sys.stdin.buffer, run.rank), task, name=NAME)
        writer.writerow(FrameProgress._fields)
        for row in rows:
            writer.writerow(row.cells())
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the rows has enough; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        from prediction import load_run  # slow to import: a help text and a mistyped option come before it

        with option('--device'):
            device = choose_device(arguments.device)
        with option('-f'):
            run = load_run(arguments.folder, arguments.checkpoint_type, device)
        if arguments.stream:
            predict_stream(run, arguments.task)
        else:
            predict_files(run, arguments)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
