"""Progress of new recordings: python predict.py -f RUN --features my.npy [--segments my.csv] | --stream."""

import argparse
import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from prediction import TrainedRun, load_run
from prediction.files import FRAMES, SECONDS, FileOptions, frames_ahead, plan_requests, write_predictions
from prediction.many_recordings import RecordingStreams
from prediction.row_writer import CSV, FORMATS
from prediction.serve import serve
from prediction.standard_input import NAME
from recordings.rates import parse_rate
from utils.command_line import OneLineParser, choose_device, option, run_command
from utils.errors import UserError
from utils.logging import get_logger, set_up_logging

LOGGER = get_logger(__name__)
DEFAULT_OUTPUT = Path('predictions')


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog=Path(__file__).name, description='Progress within actions, frame by frame.')
    parser.add_argument('-f', '--folder', type=Path, required=True, help='run folder, as training printed it')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--features', type=Path, metavar='PATH', help='.npy file (T, D), or a folder of them')
    source.add_argument('--stream', action='store_true', help='read frames from standard input, print rows')
    parser.add_argument('--segments', type=Path, metavar='PATH', help='.csv or .json of start, end[, label] of each '
                        'action, or a folder of them; without, the head infers the actions, or a recording is one')
    parser.add_argument('--fps', metavar='F', help='feature frames per second, for times in seconds; default: what '
                        'features.json next to the features says')
    parser.add_argument('--unit', choices=[FRAMES, SECONDS], help='times of --segments; default: seconds if the frame '
                        'rate is known')
    parser.add_argument('--task', metavar='NAME', help='what is done in the recordings, one of the tasks of the run')
    parser.add_argument('-o', '--output', type=Path, metavar='FOLDER', help=f'default {DEFAULT_OUTPUT}')
    parser.add_argument('--overwrite', action='store_true', help='replace results that exist')
    parser.add_argument('--format', choices=FORMATS, default=CSV, help='of the rows: CSV (default) or JSON lines')
    parser.add_argument('--skip_bad', action='store_true', help='with --stream: go on after a bad line, and count them')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined',
                        help='lowest total loss (default) or lowest alignment loss')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda', 'cuda:1', ...")
    arguments = parser.parse_args(argv)
    if arguments.unit and not arguments.segments:
        parser.error('--unit: concerns the times of --segments, which are missing; leave it out')
    if arguments.skip_bad and not arguments.stream:
        parser.error('--skip_bad: concerns the lines of --stream; leave it out')
    if arguments.stream and (arguments.segments or arguments.output or arguments.overwrite):
        parser.error('--stream: not with --segments, -o or --overwrite: actions are marked in the stream, and results '
                     'go to standard output')
    return arguments


def predict_files(run: TrainedRun, arguments: argparse.Namespace, fps: Fraction | None) -> None:
    """Write what is predicted of recordings in files."""
    out = arguments.output or DEFAULT_OUTPUT
    requests = plan_requests(run, arguments.features, arguments.segments, out,
                             FileOptions(fps, arguments.unit, arguments.format, arguments.overwrite))
    if arguments.segments is None and not run.head.offers_filter:
        LOGGER.warning('no --segments: each recording counts as one action, from its first frame to its last. That '
                       'fits recordings cut to one action; of a longer one it says little, for the head has learned '
                       'progress within single actions, and does not infer where they start and end')
    ahead = 0
    with option('--task'):
        task = run.check_task(arguments.task)
    for request, prediction in write_predictions(run, requests, task, out):
        ahead = max(ahead, frames_ahead(run, prediction))
        print(f'{request.features.stem}: {len(prediction.rows)} frames, actions: {len(prediction.actions)} -> '
              f'{", ".join(map(str, request.outputs))}')
    print(f'{run.checkpoint}.pt (epoch {run.epoch}); the encoder sees {ahead} frames ahead')


def predict_stream(run: TrainedRun, arguments: argparse.Namespace, fps: Fraction | None) -> None:
    """Print what is predicted of frames from standard input, each row as soon as it is known."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f'--stream: {NAME} is {"closed" if sys.stdin is None else "a terminal"}, expected frames; pipe '
                        'them in')
    # As the files are, whatever the terminal says: labels may be any text.
    sys.stdout.reconfigure(encoding='utf-8', newline='')
    boundaries = 'inferred unless marked' if run.head.offers_filter else 'where they are marked'
    LOGGER.info('%s.pt (epoch %d); the progress of a frame comes %d frames after it; boundaries are %s', run.checkpoint,
                run.epoch, run.delay, boundaries)
    with option('--task'):
        task = run.check_task(arguments.task)
    streams = RecordingStreams(run, task, fps=fps, name=NAME)
    try:
        serve(streams, sys.stdin.buffer, run.rank, sys.stdout, arguments.format, skip_bad=arguments.skip_bad)
    except BrokenPipeError:
        # Whoever read the rows has enough; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        with option('--device'):
            device = choose_device(arguments.device)
        with option('--fps'):
            fps = parse_rate(arguments.fps) if arguments.fps else None
        with option('-f'):
            run = load_run(arguments.folder, arguments.checkpoint_type, device)
        (predict_stream if arguments.stream else predict_files)(run, arguments, fps)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
