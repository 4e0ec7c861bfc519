"""Progress of new recordings: python predict.py -f RUN --features my.npy | --video IN | --stream."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from prediction import Prediction, TrainedRun, load_run
from prediction.captions import write_subtitles
from prediction.files import (
    FRAMES,
    SECONDS,
    FileOptions,
    frames_ahead,
    plan_requests,
    refuse_existing,
    write_predictions,
)
from prediction.many_recordings import RecordingStreams
from prediction.overlay import write_overlay
from prediction.row_writer import CSV, FORMATS, RowWriter
from prediction.serve import serve
from prediction.standard_input import NAME
from prediction.video import RunEncoder, extract_video, live_rows
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
    source.add_argument('--video', metavar='IN', help='video file; or a camera (/dev/video0), a pipe (-) or an '
                        'address: then rows are printed as pictures arrive')
    source.add_argument('--stream', action='store_true', help='read frames from standard input, print rows')
    parser.add_argument('--overlay', type=Path, metavar='OUT', help='with --video: write the video with what is '
                        'predicted below its picture')
    parser.add_argument('--srt', type=Path, metavar='OUT', help='with --video: write subtitles')
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
    if (arguments.overlay or arguments.srt) and not arguments.video:
        parser.error('--overlay and --srt: concern --video; leave them out')
    if arguments.video and arguments.fps:
        parser.error('--fps: not with --video, which is read at the frame rate of the run; leave it out')
    if arguments.video and not Path(arguments.video).is_file() and (
            arguments.overlay or arguments.srt or arguments.segments or arguments.output or arguments.overwrite):
        parser.error(f'--video {arguments.video}: is not a file, so its rows are only printed; leave --overlay, --srt, '
                     '--segments, -o and --overwrite out, or give a file')
    return arguments


def predict_files(run: TrainedRun, arguments: argparse.Namespace, fps: Fraction | None, features: Path,
                  use: Callable[[Prediction], None] = lambda prediction: None) -> None:
    """Write what is predicted of recordings in files.

    Args:
        run: from ``load_run``.
        arguments: of the command line.
        fps: feature frames per second, if given.
        features: file or folder.
        use: is called with each prediction when it is written.
    """
    out = arguments.output or DEFAULT_OUTPUT
    requests = plan_requests(run, features, arguments.segments, out,
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
        use(prediction)
    print(f'{run.checkpoint}.pt (epoch {run.epoch}); the encoder sees {ahead} frames ahead')


def predict_video(run: TrainedRun, arguments: argparse.Namespace) -> None:
    """Write what is predicted of a video, or print the rows of a live source."""
    encoder, source = RunEncoder(run), Path(arguments.video)
    if not source.is_file():
        with option('--task'):
            task = run.check_task(arguments.task)
        with rows_to_stdout():
            writer = RowWriter(sys.stdout, arguments.format)
            for row in live_rows(run, encoder, arguments.video, task):
                writer.write(row)
                sys.stdout.flush()
        return
    results = [arguments.overlay, arguments.srt]
    if not arguments.overwrite:  # before the video is read, which takes time
        out = arguments.output or DEFAULT_OUTPUT
        refuse_existing([*filter(None, results), *(out / f'{source.stem}.{ending}' for ending in
                                                   (arguments.format, 'json', 'png'))])
    if source.resolve() in [path.resolve() for path in results if path]:
        raise UserError(f'{source}: would be replaced by its own overlay or subtitles; choose another name')

    def use(prediction: Prediction) -> None:
        if arguments.srt:
            write_subtitles(arguments.srt, prediction.rows, encoder.info.fps)
        if arguments.overlay:
            write_overlay(source, arguments.overlay, prediction.rows, encoder.info.fps)

    with TemporaryDirectory() as folder:
        predict_files(run, arguments, None, extract_video(source, encoder, Path(folder)), use)


@contextmanager
def rows_to_stdout() -> Iterator[None]:
    """Prepare standard output for rows, and end quietly if its reader leaves."""
    # As the files are, whatever the terminal says: labels may be any text.
    sys.stdout.reconfigure(encoding='utf-8', newline='')
    try:
        yield
    except BrokenPipeError:
        # Whoever read the rows has enough; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def predict_stream(run: TrainedRun, arguments: argparse.Namespace, fps: Fraction | None) -> None:
    """Print what is predicted of frames from standard input, each row as soon as it is known."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f'--stream: {NAME} is {"closed" if sys.stdin is None else "a terminal"}, expected frames; pipe '
                        'them in')
    boundaries = 'inferred unless marked' if run.head.offers_filter else 'where they are marked'
    LOGGER.info('%s.pt (epoch %d); the progress of a frame comes %d frames after it; boundaries are %s', run.checkpoint,
                run.epoch, run.delay, boundaries)
    with option('--task'):
        task = run.check_task(arguments.task)
    streams = RecordingStreams(run, task, fps=fps, name=NAME)
    with rows_to_stdout():
        serve(streams, sys.stdin.buffer, run.rank, sys.stdout, arguments.format, skip_bad=arguments.skip_bad)


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
        if arguments.stream:
            predict_stream(run, arguments, fps)
        elif arguments.video:
            predict_video(run, arguments)
        else:
            predict_files(run, arguments, fps, arguments.features)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
