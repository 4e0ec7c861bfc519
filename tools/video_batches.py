"""Find the videos of a folder, choose this process's part, and read their frames in batches with several workers."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from recordings.annotations import check_name
from recordings.video import VideoReader
from utils.errors import UserError, name_some
from utils.logging import get_logger

LOGGER = get_logger(__name__)
VIDEO_ENDINGS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.ts', '.mts', '.m2ts', '.wmv',
                 '.flv', '.3gp', '.ogv', '.mxf', '.h264', '.h265', '.hevc', '.gif')
MAX_DECODING_THREADS = 4  # per video: more threads are hardly faster, and each keeps pictures in memory


class Video(NamedTuple):
    """Video file and the name of its recording."""

    path: Path
    name: str


@dataclass(frozen=True)
class Shard:
    """Part of the videos: every ``count``-th video, starting with video ``number``; 1 <= number <= count."""

    number: int = 1
    count: int = 1

    def take(self, videos: Sequence[Video]) -> list[Video]:
        """Return the videos of this shard; each video is in exactly one shard."""
        return list(videos[self.number - 1::self.count])

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'


class VideoBatch(NamedTuple):
    """Consecutive frames of one video.

    Attributes:
        video: position of the video in the list.
        images: images (B, S, S, 3), uint8; None in an additional last batch that marks the end of the video.
        bytes_read: number of bytes read from its file so far.
        mistake: reason why the video cannot be read (further); '' if there is no problem.
    """

    video: int
    images: np.ndarray | None
    bytes_read: int
    mistake: str = ''


def find_videos(source: Path) -> list[Video]:
    """Find the videos of a folder and its subfolders, sorted by name.

    A recording has the name of its file without extension; names of subfolders are prepended, joined by '_'.

    Args:
        source: folder, or a single file with any extension.

    Raises:
        UserError: there is no video, or two recordings would have the same name.
    """
    if not source.exists():
        raise UserError(f'SOURCE {source}: does not exist, expected a folder of videos or a video')
    if source.is_file():
        return [_named(source, source.parent)]
    shown = sorted(path for path in source.rglob('*')
                   if not any(part.startswith('.') for part in path.relative_to(source).parts))
    files = [path for path in shown if path.is_file()]
    # Links to videos that were moved, above all: their recordings would be missing without a word.
    if lost := [path.name for path in shown if not path.is_file() and path.suffix.lower() in VIDEO_ENDINGS]:
        LOGGER.warning('%s: %d entries are named like videos but are no files, and are left out: %s; correct links '
                       'that lead nowhere', source, len(lost), name_some(lost))
    videos = [_named(path, source) for path in files if path.suffix.lower() in VIDEO_ENDINGS]
    if not videos:
        raise UserError(f'SOURCE {source}: contains no video, expected files that end in {name_some(VIDEO_ENDINGS)}')
    if others := [path.name for path in files if path.suffix.lower() not in VIDEO_ENDINGS]:
        LOGGER.info('%d files of other kinds are left out: %s', len(others), name_some(others))
    seen: dict[str, Path] = {}
    for path, name in videos:
        if name.lower() in seen:  # some file systems are not case-sensitive
            raise UserError(f'{path}: its recording would have the same name as that of {seen[name.lower()]}; rename '
                            'one of them')
        seen[name.lower()] = path
    return sorted(videos, key=lambda video: video.name)


def _named(path: Path, root: Path) -> Video:
    name = '_'.join([*path.relative_to(root).parts[:-1], path.stem])
    check_name(str(path), name, 'recording')
    return Video(path, name)


def choose_shard(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Return the shard given by ``--shard I/N``, else by torchrun's variables RANK and WORLD_SIZE.

    Raises:
        UserError: the text is not I/N with 1 <= I <= N.
    """
    if text is None:
        return Shard(int(environment.get('RANK', 0)) + 1, int(environment.get('WORLD_SIZE', 1)))
    number, _, count = text.partition('/')
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f'--shard {text}: expected I/N with I from 1 to N, e.g. 1/4, 2/4, 3/4, 4/4')
    return Shard(int(number), int(count))


class _VideoBatches(IterableDataset):
    """Decode whole videos, each in one worker."""

    def __init__(self, videos: Sequence[Video], fps: Fraction, image_size: int, batch_size: int, threads: int) -> None:
        self._videos, self._fps, self._image_size = videos, fps, image_size
        self._batch_size, self._threads = batch_size, threads

    def __iter__(self) -> Iterator[VideoBatch]:
        worker = get_worker_info()
        # A worker decodes whole videos: the middle of a video cannot be decoded without what comes before.
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, len(self._videos), stride):
            try:
                yield from self._read(number)
            except UserError as mistake:
                # Passed on as a value: an exception would end the worker and with it all other videos.
                yield VideoBatch(number, None, 0, str(mistake))

    def _read(self, number: int) -> Iterator[VideoBatch]:
        images: list[np.ndarray] = []
        with VideoReader(self._videos[number].path, self._threads) as reader:
            for frame in reader.sample(self._fps, self._image_size):
                images.append(frame.image)
                if len(images) == self._batch_size:
                    yield VideoBatch(number, np.stack(images), reader.bytes_read)
                    images = []
            if images:
                yield VideoBatch(number, np.stack(images), reader.bytes_read)
            yield VideoBatch(number, None, reader.bytes_read)


def _same(batch: VideoBatch) -> VideoBatch:
    return batch


def read_videos(videos: Sequence[Video], *, fps: Fraction, image_size: int, batch_size: int, workers: int,
                ) -> Iterator[VideoBatch]:
    """Yield the frames of videos in batches of one video each; with several workers, videos alternate.

    The frames of a batch do not depend on the number of workers.

    Args:
        videos: videos to read.
        fps: frames to sample per second of video.
        image_size: height and width of the images, in pixels.
        batch_size: number of frames in a batch; the last batch of a video may have fewer.
        workers: number of processes that decode; 0: decode in this process.
    """
    workers = min(workers, len(videos))  # a video is decoded by one worker
    threads = max(1, min(MAX_DECODING_THREADS, (os.cpu_count() or 1) // max(1, workers)))
    dataset = _VideoBatches(videos, fps, image_size, batch_size, threads)
    # batch_size=None: the items are batches already, and _same leaves them as they are.
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, collate_fn=_same)
