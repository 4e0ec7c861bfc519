"""Feature extraction: decode the videos of a shard, encode their frames, write one feature file per video."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist
from tqdm import tqdm

from configs.paths import environment_path
from models.image_encoders import ImageEncoder, build_image_encoder
from recordings.feature_files import FEATURE_NDIM, FRAME_NDIM, open_recording
from recordings.feature_info import IMAGE_BATCH_SIZES, KINDS, FeatureInfo, check_folder, claim_folder
from recordings.feature_writer import FeatureWriter, remove_partial_files
from recordings.video import import_av
from tools.video_batches import Shard, Video, VideoBatch, find_videos, read_videos
from utils.command_line import choose_device, option
from utils.errors import UserError
from utils.folders import make_folder
from utils.logging import get_logger

LOGGER = get_logger(__name__)
FEATURES, FRAMES = KINDS
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
    # Videos alternate if several workers decode, so several files are open at a time.
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
        batch_size = arguments.batch_size or IMAGE_BATCH_SIZES['cpu' if device.type == 'cpu' else 'cuda']
        extract(missing, encoder, info, done, batch_size=batch_size, workers=arguments.workers,
                progress=_Progress(missing, shard))
    return done, info


def _device_name(name: str, environment: Mapping[str, str]) -> str:
    """Return the name of the device; under torchrun, 'auto' assigns each process its own GPU."""
    if name == 'auto' and torch.cuda.is_available():
        return f'cuda:{int(environment.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'
    return name


def wait_for_others(environment: Mapping[str, str]) -> None:
    """Under torchrun, wait for all processes: torchrun stops all of them as soon as one ends with an error."""
    if 'TORCHELASTIC_RUN_ID' in environment and int(environment.get('WORLD_SIZE', 1)) > 1:
        dist.init_process_group('gloo', timeout=LONGEST_WAIT)
        dist.barrier()
        dist.destroy_process_group()
