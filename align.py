"""Alignment of recordings of one task: python align.py A B ... [-f RUN] [--labels FILE] [--video OUT]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recordings.rates import FRAMES, SECONDS, parse_rate
from utils.command_line import OneLineParser, choose_device, option, run_command
from utils.logging import set_up_logging


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog=Path(__file__).name, description='Match the frames of recordings to those of a '
                           'reference, and carry its labels over.')
    parser.add_argument('recordings', nargs='+', type=Path, metavar='PATH',
                        help='.npy file (T, D), folder of them, or video (needs -f); two recordings or more')
    parser.add_argument('-f', '--folder', type=Path, metavar='RUN', help='run folder, as printed by training, whose '
                        'encoder embeds the recordings; default: the features as they are')
    parser.add_argument('--reference', metavar='NAME', help='name of the reference; default: of the annotated '
                        'recordings, or of all, the one that the others are closest to')
    parser.add_argument('--keep_order', action='store_true', help='the recordings show the same steps in the same '
                        'order: matches never run backward, and no step is left out')
    parser.add_argument('--labels', type=Path, metavar='FILE', help='labels of the reference to carry over: a table '
                        'with start, end, label[, recording], or an annotation file')
    parser.add_argument('--annotations', type=Path, metavar='OUT', help='with --labels: annotation file to write; '
                        'default: annotations.json in the folder for results')
    parser.add_argument('--task', metavar='NAME', help='with --labels: task in that file; default: that of --labels, '
                        'or the only task of the run')
    parser.add_argument('--video', type=Path, metavar='OUT', help='write the videos side by side, synchronized')
    parser.add_argument('--fps', metavar='F', help='feature frames per second, for times in seconds; default: from '
                        'features.json next to the features')
    parser.add_argument('--unit', choices=[FRAMES, SECONDS],
                        help='unit of the times in a table of --labels; default: seconds if the frame rate is known')
    parser.add_argument('-o', '--output', type=Path, metavar='FOLDER', default=Path('alignments'),
                        help='folder for results; default: alignments')
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'],
                        help='with -f: lowest total loss (default) or lowest alignment loss')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda', 'cuda:1', ...")
    arguments = parser.parse_args(argv)
    if arguments.labels is None and (arguments.annotations or arguments.task or arguments.unit):
        parser.error('--annotations, --task and --unit: apply to --labels, which is missing; leave them out')
    if arguments.checkpoint_type and not arguments.folder:
        parser.error('--checkpoint_type: applies to the run of -f, which is missing; give it, or leave it out')
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        # Slow imports, after help and option errors.
        from alignment.command import align
        from prediction import load_run

        with option('--device'):
            device = choose_device(arguments.device)
        with option('--fps'):
            fps = parse_rate(arguments.fps) if arguments.fps is not None else None
        run = None
        if arguments.folder:
            with option('-f'):
                run = load_run(arguments.folder, arguments.checkpoint_type or 'combined', device, needs_head=False)
        align(arguments, run, fps)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
