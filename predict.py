"""Progress of new recordings: python predict.py -f RUN --features my.npy | --video IN | --stream."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recordings.rates import parse_rate
from recordings.table_options import TABLE_OPTIONS, check_frame_options
from recordings.times import UNITS
from utils.command_line import OneLineParser, choose_device, option, run_command
from utils.files import CSV, ROW_FORMATS
from utils.logging import set_up_logging


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog=Path(__file__).name, description='Progress within actions, frame by frame.')
    parser.add_argument('-f', '--folder', type=Path, required=True, help='run folder, as printed by training')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--features', type=Path, metavar='PATH', help='.npy file (T, D), or a folder of them')
    source.add_argument('--video', metavar='IN', help='video file; or a camera (/dev/video0), a pipe (-) or an '
                        'address, whose rows are printed as pictures arrive')
    source.add_argument('--stream', action='store_true', help='read frames from standard input and print rows')
    parser.add_argument('--overlay', type=Path, metavar='OUT', help='with --video: write the video with the '
                        'predictions below its picture')
    parser.add_argument('--srt', type=Path, metavar='OUT', help='with --video: write subtitles')
    parser.add_argument('--segments', type=Path, metavar='PATH',
                        help='table (.csv, .tsv, .json, .txt) of start, end[, label] of each action, or a folder of '
                        'tables; default: the head infers the actions, or, if it cannot, each recording is a single '
                        'action')
    parser.add_argument('--fps', metavar='F', help='feature frames per second, for times in seconds; default: from '
                        'features.json next to the features')
    parser.add_argument('--unit', choices=UNITS,
                        help='unit of the times of --segments; default: seconds if the frame rate is known')
    for name, keywords in TABLE_OPTIONS.items():
        parser.add_argument(f'--{name}', **{**keywords, 'help': f'with --segments: {keywords["help"]}'})
    parser.add_argument('--task', metavar='NAME', help='task of the recordings, one of the tasks of the run')
    parser.add_argument('-o', '--output', type=Path, metavar='FOLDER', help='folder for results; default: predictions')
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    parser.add_argument('--format', choices=ROW_FORMATS, default=CSV,
                        help='format of the rows: CSV (default) or JSON lines')
    parser.add_argument('--skip_bad', action='store_true', help='with --stream: skip and count bad lines')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined',
                        help='lowest total loss (default) or lowest alignment loss')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda', 'cuda:1', ...")
    arguments = parser.parse_args(argv)
    for name in ('unit', *TABLE_OPTIONS):
        if getattr(arguments, name) and not arguments.segments:
            parser.error(f'--{name}: applies to the times of --segments, which are missing; leave it out')
    check_frame_options(arguments)
    if arguments.skip_bad and not arguments.stream:
        parser.error('--skip_bad: applies to the lines of --stream; leave it out')
    if arguments.stream and (arguments.segments or arguments.output or arguments.overwrite):
        parser.error('--stream: not with --segments, -o or --overwrite: actions are marked in the stream, and results '
                     'go to standard output')
    if (arguments.overlay or arguments.srt) and not arguments.video:
        parser.error('--overlay and --srt: apply to --video; leave them out')
    if arguments.video and arguments.fps:
        parser.error('--fps: not with --video, which is read at the frame rate of the run; leave it out')
    if arguments.video and not Path(arguments.video).is_file() and (
            arguments.overlay or arguments.srt or arguments.segments or arguments.output or arguments.overwrite):
        parser.error(f'--video {arguments.video}: is not a file, so its rows are only printed; leave --overlay, --srt, '
                     '--segments, -o and --overwrite out, or give a file')
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        # Slow imports, after help and option errors.
        from prediction import load_run
        from prediction.command import predict_files, predict_stream, predict_video

        with option('--device'):
            device = choose_device(arguments.device)
        with option('--fps'):
            fps = parse_rate(arguments.fps) if arguments.fps is not None else None
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
