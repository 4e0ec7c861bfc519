"""Predict videos: encode them with the image encoder that the run's features were extracted with."""

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from models.image_encoders import ImageEncoder, build_image_encoder
from prediction.frame_progress import FrameProgress
from prediction.live import ProgressStream
from prediction.trained_run import TrainedRun
from recordings.feature_files import FEATURE_NDIM
from recordings.feature_info import IMAGE_BATCH_SIZES, KINDS, FeatureInfo, write_feature_info
from recordings.feature_writer import FeatureWriter
from recordings.video import SampledFrame, VideoReader
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
FEATURES, FRAMES = KINDS
MAX_LATE = 2.0  # seconds; a live source that is later is worth a warning


class RunEncoder:
    """The image encoder of a run, and the format of its features.

    Args:
        run: from ``load_run``.

    Attributes:
        info: description of the run's features.

    Raises:
        UserError: the run does not describe how its features were made, or the encoder cannot be built or has
            different weights now.
    """

    def __init__(self, run: TrainedRun) -> None:
        if run.feature_info is None:
            raise UserError(f'the run {run.name} has no features.json, which describes how its features were made; '
                            'expected a run that was trained on features of tools.extract: extract and train again, '
                            'or give --features')
        self.info: FeatureInfo = run.feature_info
        expected = FEATURES if run.ndim == FEATURE_NDIM else FRAMES
        if self.info.kind != expected:
            raise UserError(f'the run {run.name} reads {expected}, but its features.json describes {self.info.kind}; '
                            'train the run again')
        self._encoder: ImageEncoder = build_image_encoder(self.info.encoder, run.device)
        # Other weights give other features: predictions would be wrong without any error.
        if self._encoder.version != self.info.version:
            raise UserError(f'the image encoder {self.info.encoder} has weights {self._encoder.version} here, but the '
                            f'run {run.name} was trained on features of {self.info.version}; install the same weights')
        self.batch_size = IMAGE_BATCH_SIZES['cpu' if run.device.type == 'cpu' else 'cuda']

    def encode(self, frames: Iterable[SampledFrame]) -> np.ndarray:
        """Return the features (B, D) or maps (B, C, H, W) of frames, in the precision of the run's features."""
        images = np.stack([frame.image for frame in frames])  # (B, S, S, 3)
        return self._encoder.encode(images, maps=self.info.kind == FRAMES).astype(self.info.dtype)


def extract_video(source: Path, encoder: RunEncoder, folder: Path) -> Path:
    """Write the features of a video as ``tools.extract`` does, and return the path of the file.

    Args:
        source: the video.
        encoder: encoder of the run.
        folder: folder for the features and their description.

    Raises:
        UserError: the video cannot be read, or the features cannot be written.
    """
    path = folder / f'{source.stem}.npy'
    writer = FeatureWriter(path, encoder.info.shape, encoder.info.dtype)
    try:
        with VideoReader(source) as reader:
            frames = reader.sample(encoder.info.fps, encoder.info.image_size)
            # Batches until an empty one; frames is an iterator, so that only one batch is in memory.
            for batch in iter(lambda: list(itertools.islice(frames, encoder.batch_size)), []):
                writer.append(encoder.encode(batch))
    except BaseException:  # Ctrl-C, too: leave no partial file
        writer.abandon()
        raise
    writer.finish()
    # Prediction reads the frame rate from this description.
    write_feature_info(folder, encoder.info)
    return path


class LiveDelay:
    """Measures how long after its picture each row comes, and how late rows are by the timestamps of the source.

    Args:
        source: name of the source, for messages.

    Attributes:
        late: seconds by which the last picture was later than its timestamp says, relative to the first picture; 0 if a
            source is faster than its timestamps, such as a file in a pipe.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._seconds, self._count, self._longest = 0.0, 0, 0.0
        self._origin: float | None = None  # clock at which the first picture arrived, minus its timestamp
        self.late = self._latest = 0.0

    def add(self, timestamp: float, arrived: float, done: float) -> None:
        """Take the timestamp of a picture and the clock when it arrived and when its row was there, all in seconds."""
        self._seconds, self._count = self._seconds + done - arrived, self._count + 1
        self._longest = max(self._longest, done - arrived)
        self._origin = arrived - timestamp if self._origin is None else self._origin
        self.late = max(0.0, arrived - timestamp - self._origin)
        if self._latest < MAX_LATE <= self.late:
            LOGGER.warning('%s: pictures are %.0f s late; they arrive faster than this machine processes them (%.0f ms '
                           'each), or the source stalled. Extract and train with a lower --fps, or use a GPU',
                           self._source, self.late, 1e3 * self._seconds / self._count)
        self._latest = max(self._latest, self.late)

    def log(self, frames_ahead: int) -> None:
        """Log the delays of all rows."""
        LOGGER.info('%s: %d frames; a row came %.0f ms after its picture on average, %.0f ms at most, and %d frames '
                    'later for what the encoder sees ahead; pictures were at most %.1f s late', self._source,
                    self._count, 1e3 * self._seconds / max(1, self._count), 1e3 * self._longest, frames_ahead,
                    self._latest)


def live_rows(run: TrainedRun, encoder: RunEncoder, source: str, task: str | None) -> Iterator[FrameProgress]:
    """Yield the rows of a camera, pipe, or address while its pictures arrive; log the delay at the end.

    Args:
        run: from ``load_run``.
        encoder: encoder of the run.
        source: any source that FFmpeg can open; '-' for standard input.
        task: task of the recording, if known.

    Raises:
        UserError: the source cannot be read.
    """
    stream, delay = ProgressStream(run, task, fps=encoder.info.fps, name=source), LiveDelay(source)
    with VideoReader(source) as reader:
        for frame in reader.sample(encoder.info.fps, encoder.info.image_size):
            arrived = time.perf_counter()
            rows = stream.push(torch.from_numpy(encoder.encode([frame])[0]))
            delay.add(frame.time, arrived, time.perf_counter())
            yield from rows
    yield from stream.finish()
    delay.log(run.delay)
