"""Extract features from videos: python -m tools.extract SOURCE NAME.

SOURCE is a folder of videos, or one video. Features are written to ``$DATASET_PATH/NAME/features``, one file per video,
with ``features.json``, which describes how they were extracted. Existing files are kept, so an interrupted extraction
can be continued; ``--shard I/N`` or torchrun distributes the videos over several processes or machines.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.paths import check_new_name
from recordings.feature_info import DEFAULT_IMAGE_ENCODER, IMAGE_BATCH_SIZES
from recordings.rates import exact_number
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.logging import set_up_logging
from utils.standard_streams import say
from utils.text import short_text

if TYPE_CHECKING:
    from recordings.feature_info import FeatureInfo
    from tools.extraction import Extraction

MAX_FPS = 1000
MAX_BATCH_SIZE, MAX_WORKERS = 4096, 256  # memory and processes are proportional to them


def build_parser() -> OneLineParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog='python -m tools.extract', description='Extract features from videos. Writes to '
                           '$DATASET_PATH/NAME. Requires the packages of requirements-video.txt.')
    parser.add_argument('source', metavar='SOURCE', type=Path, help='folder of videos, or a video')
    parser.add_argument('name', metavar='NAME', help='name of the dataset')
    parser.add_argument('--encoder', default=DEFAULT_IMAGE_ENCODER, metavar='E', help='image encoder: '
                        f'{DEFAULT_IMAGE_ENCODER} (default), or hf:NAME_OR_FOLDER for a model of the package '
                        'transformers')
    parser.add_argument('--fps', default='4', metavar='F', help='feature frames per second of the video, default 4; '
                        'also 30000/1001')
    parser.add_argument('--frames', action='store_true', help='write the maps of the encoder to NAME/frames, for '
                        '--resnet50')
    parser.add_argument('--float16', action='store_true', help='write half precision, which halves the file size')
    parser.add_argument('--batch_size', type=int, metavar='N', help='number of images encoded at once, default '
                        f'{IMAGE_BATCH_SIZES["cpu"]}, on a GPU {IMAGE_BATCH_SIZES["cuda"]}')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='number of processes that decode videos, '
                        'default 1; 0 decodes in the main process')
    parser.add_argument('--device', default='auto', help='auto (default), cpu, cuda, cuda:1, ...')
    parser.add_argument('--shard', metavar='I/N', help='take every N-th video, from the I-th (1 to N); default: all, '
                        "or torchrun's part")
    return parser


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check the ranges of the options, and parse ``fps``.

    Raises:
        UserError: an option is out of range.
    """
    check_new_name(arguments.name, 'NAME')
    fps = exact_number(arguments.fps)
    if fps is None or not 0 < fps <= MAX_FPS:
        raise UserError(f'--fps {short_text(arguments.fps)}: expected a number above 0 and at most {MAX_FPS}')
    arguments.fps = fps
    for name, least, most in (('batch_size', 1, MAX_BATCH_SIZE), ('workers', 0, MAX_WORKERS)):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise UserError(f'--{name} {value}: expected {least} to {most}')


def print_summary(name: str, done: 'Extraction', info: 'FeatureInfo') -> None:
    """Print what was written and the next command."""
    frames = sum(done.written.values())
    size = ' x '.join(map(str, info.shape))
    say(f'Wrote {len(done.written)} recordings ({frames:,} frames of {size} values, {info.fps} per second) to '
        f'{done.folder}; {len(done.kept)} already existed.')
    if not done.mistakes:
        say(f'Next, with annotations in a CSV file (recording, start, end, label):\n\n'
            f'python -m tools.import_segments {shlex.quote(name)} ANNOTATIONS.csv')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = build_parser().parse_args(argv)
        set_up_logging()
        check_arguments(arguments)
        from tools.extraction import extract_shard, wait_for_others
        from tools.video_batches import choose_shard

        try:
            done, info = extract_shard(arguments, choose_shard(arguments.shard, os.environ))
        except UserError:
            wait_for_others(os.environ)
            raise
        wait_for_others(os.environ)
        print_summary(arguments.name, done, info)
        if done.mistakes:
            raise UserError(f'{len(done.mistakes)} of the videos cannot be read (listed above); the others are '
                            'written: repair or remove the listed videos, and run the command again')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
