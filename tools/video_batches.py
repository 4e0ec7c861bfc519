"""Videos of a folder: which there are, which this process takes, and their frames in batches from several workers."""

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
MAX_DECODING_THREADS = 4  # of one video: more gain little, and each holds pictures


class Video(NamedTuple):
    """A video and the name of its recording."""

    path: Path
    name: str


@dataclass(frozen=True)
class Shard:
    """The part of the videos that this process takes: every ``count``-th one, from ``number``, 1 <= number <= count."""

    number: int = 1
    count: int = 1

    def take(self, videos: Sequence[Video]) -> list[Video]:
        """Return the videos of this shard; together the shards have each video once."""
        return list(videos[self.number - 1::self.count])

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'


class VideoBatch(NamedTuple):
    """Some frames of one video, in order.

    Attributes:
        video: its position in the list.
        images: (B, S, S, 3), uint8; None in the last batch of a video, which says that it ended.
        bytes_read: of its file so far.
        mistake: why it cannot be read, or goes on no further; '' if nothing is wrong.
    """

    video: int
    images: np.ndarray | None
    bytes_read: int
    mistake: str = ''


def find_videos(source: Path) -> list[Video]:
    """Find the videos of a folder and its subfolders, sorted by name.

    A recording is named by its file without ending; in subfolders their names come first, joined by '_'.

    Args:
        source: the folder; or one file, whatever its ending.

    Raises:
        UserError: there is no video, or two would have one name.
    """
    if not source.exists():
        raise UserError(f'SOURCE {source}: does not exist, expected a folder of videos or a video')
    if source.is_file():
        return [_named(source, source.parent)]
    files = sorted(path for path in source.rglob('*') if path.is_file()
                   and not any(part.startswith('.') for part in path.relative_to(source).parts))
    videos = [_named(path, source) for path in files if path.suffix.lower() in VIDEO_ENDINGS]
    if not videos:
        raise UserError(f'SOURCE {source}: holds no video, expected files that end in {name_some(VIDEO_ENDINGS)}')
    if others := [path.name for path in files if path.suffix.lower() not in VIDEO_ENDINGS]:
        LOGGER.info('%d files of other kinds are left out: %s', len(others), name_some(others))
    seen: dict[str, Path] = {}
    for path, name in videos:
        if name.lower() in seen:  # some systems do not tell letters of different case apart
            raise UserError(f'{path}: its recording would have the name of {seen[name.lower()]}; rename one')
        seen[name.lower()] = path
    return sorted(videos, key=lambda video: video.name)


def _named(path: Path, root: Path) -> Video:
    name = '_'.join([*path.relative_to(root).parts[:-1], path.stem])
    check_name(str(path), name, 'recording')
    return Video(path, name)


def choose_shard(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Return the shard that ``--shard I/N`` names, else that of torchrun's variables RANK and WORLD_SIZE.

    Raises:
        UserError: the text is not two numbers with 1 <= I <= N.
    """
    if text is None:
        return Shard(int(environment.get('RANK', 0)) + 1, int(environment.get('WORLD_SIZE', 1)))
    number, _, count = text.partition('/')
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f'--shard {text}: expected I/N with I from 1 to N, e.g. 1/4, 2/4, 3/4, 4/4')
    return Shard(int(number), int(count))


class _VideoBatches(IterableDataset):
    """Decodes whole videos, each in one worker."""

    def __init__(self, videos: Sequence[Video], fps: Fraction, image_size: int, batch_size: int, threads: int) -> None:
        self._videos, self._fps, self._image_size = videos, fps, image_size
        self._batch_size, self._threads = batch_size, threads

    def __iter__(self) -> Iterator[VideoBatch]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, len(self._videos), stride):
            try:
                yield from self._read(number)
            except UserError as mistake:
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
    """Yield the frames of videos in batches of one video each; batches of several videos come in turn.

    Which frames are in a batch does not depend on the number of workers.

    Args:
        videos: to be read.
        fps: frames per second of the video.
        image_size: height and width of the images, in pixels.
        batch_size: frames in a batch, except the last one of a video.
        workers: processes that decode; 0: this one.
    """
    workers = min(workers, len(videos))
    threads = max(1, min(MAX_DECODING_THREADS, (os.cpu_count() or 1) // max(1, workers)))
    dataset = _VideoBatches(videos, fps, image_size, batch_size, threads)
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, collate_fn=_same)
