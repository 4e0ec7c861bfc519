"""Extract features from videos: python -m tools.extract SOURCE NAME.

SOURCE is a folder of videos, or one video. Features are written to ``$DATASET_PATH/NAME/features``, one file per video,
with ``features.json``, which describes how they were extracted. Existing files are kept, so an interrupted extraction
can be continued; ``--shard I/N`` or torchrun distributes the videos over several processes or machines.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist
from tqdm import tqdm

from configs.paths import check_new_name, environment_path
from models.image_encoders import BATCH_SIZES, DEFAULT_ENCODER, ImageEncoder, build_image_encoder
from recordings.feature_files import FEATURE_NDIM, FRAME_NDIM, open_recording
from recordings.feature_info import KINDS, FeatureInfo, check_folder, claim_folder
from recordings.feature_writer import FeatureWriter, remove_partial_files
from recordings.rates import exact_number
from recordings.video import import_av
from tools.video_batches import Shard, Video, VideoBatch, choose_shard, find_videos, read_videos
from utils.command_line import OneLineParser, choose_device, option, run_command
from utils.errors import UserError
from utils.folders import make_folder
from utils.logging import get_logger, set_up_logging
from utils.text import short_text

LOGGER = get_logger(__name__)
FEATURES, FRAMES = KINDS
MAX_FPS = 1000
MAX_BATCH_SIZE, MAX_WORKERS = 4096, 256  # memory and processes are proportional to them
LONGEST_WAIT = timedelta(days=30)  # maximum wait for the slowest process under torchrun


@dataclass
class Extraction:
    """Results of one process so far.

    Attributes:
        folder: folder of the features.
        written: recording -> number of frames, for the files written.
        kept: recordings whose files already existed.
        mistakes: one line per video that could not be read.
    """

    folder: Path
    written: dict[str, int] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def build_parser() -> OneLineParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog='python -m tools.extract', description='Extract features from videos. Writes to '
                           '$DATASET_PATH/NAME. Requires the packages of requirements-video.txt.')
    parser.add_argument('source', metavar='SOURCE', type=Path, help='folder of videos, or a video')
    parser.add_argument('name', metavar='NAME', help='name of the dataset')
    parser.add_argument('--encoder', default=DEFAULT_ENCODER, metavar='E', help='image encoder: '
                        f'{DEFAULT_ENCODER} (default), or hf:NAME_OR_FOLDER for a model of the package transformers')
    parser.add_argument('--fps', default='4', metavar='F', help='feature frames per second of the video, default 4; '
                        'also 30000/1001')
    parser.add_argument('--frames', action='store_true', help='write the maps of the encoder to NAME/frames, for '
                        '--resnet50')
    parser.add_argument('--float16', action='store_true', help='write half precision, which halves the file size')
    parser.add_argument('--batch_size', type=int, metavar='N', help='number of images encoded at once, default '
                        f'{BATCH_SIZES["cpu"]}, on a GPU {BATCH_SIZES["cuda"]}')
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


def describe(encoder: ImageEncoder, arguments: argparse.Namespace) -> FeatureInfo:
    """Return the description of the features that an encoder computes with these options."""
    return FeatureInfo(encoder=encoder.name, version=encoder.version, fps=arguments.fps, image_size=encoder.image_size,
                       kind=FRAMES if arguments.frames else FEATURES, shape=encoder.shape(maps=arguments.frames),
                       dtype='float16' if arguments.float16 else 'float32')


def is_whole(path: Path, info: FeatureInfo) -> bool:
    """Return True if a feature file exists, is not truncated, and has the described shape and dtype."""
    try:
        array = open_recording(path, FEATURE_NDIM if info.kind == FEATURES else FRAME_NDIM)
    except UserError as error:
        if path.exists():
            LOGGER.warning('%s; the file is written again', error)
        return False
    return array.shape[1:] == info.shape and array.dtype == info.dtype


class _Progress:
    """Progress bar over the bytes of the videos: the number of frames is not known before decoding."""

    def __init__(self, videos: Sequence[Video], shard: Shard) -> None:
        self._sizes = [video.path.stat().st_size for video in videos]
        self._read = [0] * len(videos)
        self._finished = 0
        self._bar = tqdm(total=sum(self._sizes), unit='B', unit_scale=True, disable=None, dynamic_ncols=True,
                         desc='extract' if shard.count == 1 else f'extract {shard}')

    def update(self, batch: VideoBatch) -> None:
        ended = batch.images is None
        read = self._sizes[batch.video] if ended else min(batch.bytes_read, self._sizes[batch.video])
        self._bar.update(max(0, read - self._read[batch.video]))
        self._read[batch.video] = max(read, self._read[batch.video])
        if ended:
            self._finished += 1
            self._bar.set_postfix_str(f'{self._finished}/{len(self._sizes)} videos')

    def close(self) -> None:
        self._bar.close()


def extract(videos: Sequence[Video], encoder: ImageEncoder, info: FeatureInfo, done: Extraction, *, batch_size: int,
            workers: int, progress: _Progress) -> None:
    """Write the features of videos; each file is moved into place when its video has been read to the end.

    Args:
        videos: videos to read.
        encoder: encoder of their images.
        info: description of the folder.
        done: results to update; one line per video that cannot be read is added to its ``mistakes`` and logged.
        batch_size: number of images encoded at once.
        workers: number of processes that decode.
        progress: progress bar, updated with every batch.

    Raises:
        UserError: a file cannot be written, or the description of the folder has changed in the meantime.
    """
    writers: dict[int, FeatureWriter] = {}
    try:
        for batch in read_videos(videos, fps=info.fps, image_size=info.image_size, batch_size=batch_size,
                                 workers=workers):
            path = done.folder / f'{videos[batch.video].name}.npy'
            if batch.images is not None:
                if batch.video not in writers:
                    writers[batch.video] = FeatureWriter(path, info.shape, info.dtype)
                writers[batch.video].append(encoder.encode(batch.images, maps=info.kind == FRAMES))
            elif batch.mistake:
                done.mistakes.append(batch.mistake)
                LOGGER.error('%s', batch.mistake)
                if batch.video in writers:
                    writers.pop(batch.video).abandon()
            else:
                # Extraction may take days: somebody may have replaced the folder since it was claimed.
                check_folder(done.folder, info)
                writers[batch.video].finish()
                done.written[path.stem] = writers.pop(batch.video).num_frames
            progress.update(batch)
    finally:
        for writer in writers.values():
            writer.abandon()
        progress.close()


def extract_shard(arguments: argparse.Namespace, shard: Shard) -> tuple[Extraction, FeatureInfo]:
    """Write the missing features of this process's videos.

    Args:
        arguments: command line, checked.
        shard: part of the videos that this process handles.

    Returns:
        The results, and the description of the features.

    Raises:
        UserError: see :func:`extract`; or there are no videos, a package is missing, or the folder contains other
            features.
    """
    import_av()
    videos = shard.take(find_videos(arguments.source))
    with option('--device'):
        device = choose_device(_device_name(arguments.device, os.environ))
    with option('--encoder'):
        encoder = build_image_encoder(arguments.encoder, device)
        info = describe(encoder, arguments)
    done = Extraction(environment_path('DATASET_PATH') / arguments.name / info.kind)
    make_folder(done.folder, 'set DATASET_PATH to a folder that can be written to')
    claim_folder(done.folder, info)
    remove_partial_files(done.folder, {video.name for video in videos})
    done.kept = [name for _, name in videos if is_whole(done.folder / f'{name}.npy', info)]
    kept = set(done.kept)
    missing = [video for video in videos if video.name not in kept]
    if missing:
        batch_size = arguments.batch_size or BATCH_SIZES['cpu' if device.type == 'cpu' else 'cuda']
        extract(missing, encoder, info, done, batch_size=batch_size, workers=arguments.workers,
                progress=_Progress(missing, shard))
    return done, info


def _device_name(name: str, environment: Mapping[str, str]) -> str:
    """Return the name of the device; under torchrun, 'auto' assigns each process its own GPU."""
    if name == 'auto' and torch.cuda.is_available():
        return f'cuda:{int(environment.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'
    return name


def print_summary(name: str, done: Extraction, info: FeatureInfo) -> None:
    """Print what was written and the next command."""
    frames = sum(done.written.values())
    size = ' x '.join(map(str, info.shape))
    print(f'Wrote {len(done.written)} recordings ({frames:,} frames of {size} values, {info.fps} per second) to '
          f'{done.folder}; {len(done.kept)} already existed.')
    if not done.mistakes:
        print(f'Next, with annotations in a CSV file (recording, start, end, label):\n\n'
              f'python -m tools.import_segments {name} ANNOTATIONS.csv')


def _wait_for_others(environment: Mapping[str, str]) -> None:
    """Under torchrun, wait for all processes: torchrun stops all of them as soon as one ends with an error."""
    if 'TORCHELASTIC_RUN_ID' in environment and int(environment.get('WORLD_SIZE', 1)) > 1:
        dist.init_process_group('gloo', timeout=LONGEST_WAIT)
        dist.barrier()
        dist.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = build_parser().parse_args(argv)
        set_up_logging()
        check_arguments(arguments)
        try:
            done, info = extract_shard(arguments, choose_shard(arguments.shard, os.environ))
        except UserError:
            _wait_for_others(os.environ)
            raise
        _wait_for_others(os.environ)
        print_summary(arguments.name, done, info)
        if done.mistakes:
            raise UserError(f'{len(done.mistakes)} of the videos cannot be read (listed above); the others are '
                            'written: repair or remove the listed videos, and run the command again')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
