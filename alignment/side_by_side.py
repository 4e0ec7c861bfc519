"""Write a video of the reference with the other recordings next to it, each at the moment matched to it."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from alignment.labels import Labels
from alignment.matching import partners
from alignment.output import Alignment
from alignment.played import KeptPictures, played_times, scale_to
from alignment.recordings import AlignedRecording
from recordings.video import VideoReader, import_av, not_written
from utils.files import atomic_path
from utils.fonts import Lettering

LARGEST_RATE = Fraction(15)  # pictures per second
TILE_HEIGHT, LINE, MARGIN, LETTER = 360, 26, 6, 18  # pixels
ONE_ROW = 3  # tiles up to which there is a single row; more form a square
NARROWEST = 240  # pixels, so that captions fit
BACKGROUND, TEXT, MUTED, WARNING = (24, 24, 28), (245, 245, 245), (150, 150, 155), (239, 108, 77)
DIMMED = 0.35  # brightness of a picture without a match
NO_MATCH = 'no match'


class Tile(NamedTuple):
    """One recording at one moment: its picture (H, W, 3), name, step, and the time in it; None if it has no match."""

    picture: np.ndarray
    name: str
    step: str
    time: Fraction | None


def draw_tile(tile: Tile, width: int, lettering: Lettering) -> np.ndarray:
    """Return a picture of the given width with two lines below it, (H, width, 3); dimmed if there is no match."""
    height = tile.picture.shape[0]
    whole = Image.new('RGB', (width, height + 2 * LINE + MARGIN), BACKGROUND)
    shown = tile.picture if tile.time is not None else (tile.picture * DIMMED).astype(np.uint8)
    left = (width - shown.shape[1]) // 2
    whole.paste(Image.fromarray(shown), (left, 0))
    canvas = ImageDraw.Draw(whole)
    clock = '' if tile.time is None else f'{float(tile.time):.1f} s'
    start = min(left, (width - NARROWEST) // 2) + MARGIN
    end = max(left + shown.shape[1], (width + NARROWEST) // 2)
    canvas.text((start, height + MARGIN / 2), tile.name, TEXT, lettering.font(tile.name))
    font = lettering.font(clock)
    canvas.text((end - MARGIN - font.getlength(clock), height + MARGIN / 2), clock, MUTED, font)
    step, color = (NO_MATCH, WARNING) if tile.time is None else (tile.step, MUTED)
    canvas.text((start, height + LINE + MARGIN / 2), step, color, lettering.font(step))
    return np.asarray(whole)


def arrange(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Arrange tiles of equal size in rows, (H, W, 3), with even sides, as encoders need them."""
    count = len(tiles) if len(tiles) <= ONE_ROW else math.ceil(math.sqrt(len(tiles)))
    rows = [tiles[start:start + count] for start in range(0, len(tiles), count)]
    height, width = tiles[0].shape[:2]
    whole = np.full((len(rows) * height, len(rows[0]) * width, 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        whole[number * height:(number + 1) * height, :len(row) * width] = np.concatenate(row, axis=1)
    return np.pad(whole, ((0, len(whole) % 2), (0, whole.shape[1] % 2), (0, 0)))


class _Player:
    """The tiles of one aligned recording while the reference plays.

    Args:
        alignment: the recording.
        reference: the reference.
        rate: pictures per second.
        count: number of pictures that the reference may have.
    """

    def __init__(self, alignment: Alignment, reference: AlignedRecording, rate: Fraction, count: int) -> None:
        self._alignment, self._rate = alignment, rate
        self._times = played_times(reference, alignment.recording, partners(alignment.matches, len(reference.frames)),
                                   [number / rate for number in range(count)])
        indices = [int(time * rate) for time in self._times if time is not None]
        self.pictures = KeptPictures(alignment.recording, rate, indices, TILE_HEIGHT)
        self._shown = indices[0] if indices else 0  # before the first match: the picture that will be matched first

    def tile(self, number: int) -> Tile:
        """Return the tile next to a picture of the reference."""
        time = self._times[min(number, len(self._times) - 1)]
        if time is not None:
            self._shown = int(time * self._rate)
        recording = self._alignment.recording
        step = '' if time is None else step_at(self._alignment.labels, recording, time)
        return Tile(self.pictures.picture(self._shown), recording.name, step, time)


def step_at(labels: Labels | None, recording: AlignedRecording, time: Fraction) -> str:
    """Return the step of a recording at a time in seconds; '' if it has none."""
    position = max(0, bisect_right(recording.frames, time * recording.fps) - 1)
    return labels[position] or '' if labels else ''


def write_side_by_side(path: Path, reference: AlignedRecording, labels: Labels | None,
                       alignments: Sequence[Alignment]) -> None:
    """Write the video, without sound, at the pace of the reference.

    Args:
        path: file to write, atomically; its suffix determines the format.
        reference: the reference; its source, like those of all recordings, is a video.
        labels: labels of the reference's used frames; None if it is not annotated.
        alignments: the other recordings.

    Raises:
        UserError: a video cannot be read, or the result cannot be written.
    """
    av = import_av()
    lettering = Lettering(LETTER)
    try:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(path))
            reader = stack.enter_context(VideoReader(reference.source))
            rate = min(reader.rate, LARGEST_RATE)
            count = int(reference.num_frames / reference.fps * rate) + 1
            players = [_Player(alignment, reference, rate, count) for alignment in alignments]
            for player in players:
                stack.enter_context(player.pictures)
            container = stack.enter_context(av.open(str(temporary), 'w'))
            output, width = None, 0
            for frame in reader.sample(rate):
                time = frame.index / rate
                tiles = [Tile(scale_to(frame.image, TILE_HEIGHT), f'{reference.name} (reference)',
                              step_at(labels, reference, time), time), *(one.tile(frame.index) for one in players)]
                width = width or max(NARROWEST, *(tile.picture.shape[1] for tile in tiles))
                picture = arrange([draw_tile(tile, width, lettering) for tile in tiles])
                output = output or _add_stream(container, rate, picture)
                shown = av.VideoFrame.from_ndarray(picture, format='rgb24')
                shown.pts, shown.time_base = frame.index, 1 / rate
                container.mux(output.encode(shown))
            container.mux(output.encode())
    except (av.FFmpegError, ValueError) as error:
        raise not_written(path, error) from error


def _add_stream(container: object, rate: Fraction, picture: np.ndarray) -> object:
    """Add the video stream to an open container."""
    stream = container.add_stream('libx264', rate=rate, options={'crf': '20', 'preset': 'veryfast'})
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt, stream.codec_context.time_base = 'yuv420p', 1 / rate
    return stream
