"""Write a video with the predictions below its picture: steps, bars with intervals, remaining time."""

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from prediction.captions import caption
from prediction.frame_progress import FrameProgress
from recordings.video import VideoReader, import_av, not_written, to_image
from utils.files import atomic_path
from utils.fonts import Lettering

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import OutputContainer

MIN_WIDTH = 320  # pixels; a narrower picture gets a margin
LETTERS = 34  # height of a letter is this fraction of the width
MIN_LETTER = 12  # pixels
LINE, BAR, MARGIN = 1.35, 0.7, 0.4  # in letters
BACKGROUND, TEXT, MUTED, TRACK = (24, 24, 28), (245, 245, 245), (150, 150, 155), (64, 64, 70)
STEP_COLOR, OVERALL_COLOR, UNKNOWN_COLOR = (239, 108, 77), (79, 155, 217), (130, 130, 130)
TIME_BASE = Fraction(1, 90000)  # clock of MPEG, fine enough for any frame rate


class Panel:
    """Draws rows as pictures of equal size.

    Args:
        width: width of the pictures in pixels.
    """

    def __init__(self, width: int) -> None:
        self._letter = max(MIN_LETTER, round(width / LETTERS))
        self._lettering = Lettering(self._letter)
        self.width = width
        height = self._letter * (3 * LINE + 2 * BAR + 2 * MARGIN)
        self.height = 2 * round(height / 2)  # encoders take even sizes

    def draw(self, row: FrameProgress) -> np.ndarray:
        """Return the picture of a row, (H, W, 3), uint8."""
        image = Image.new('RGB', (self.width, self.height), BACKGROUND)
        canvas, words, unit = ImageDraw.Draw(image), caption(row), self._letter
        top = MARGIN * unit
        for left, right, values, color in (
                (words.step, words.step_remaining, (row.progress, row.progress_low, row.progress_high), STEP_COLOR),
                (words.overall, words.overall_remaining, (row.overall, row.overall_low, row.overall_high),
                 OVERALL_COLOR)):
            if left:
                self._write(canvas, top, left, right)
                self._draw_bar(canvas, top + LINE * unit, values, UNKNOWN_COLOR if row.unknown else color)
            top += (LINE + BAR) * unit
        self._write(canvas, top, words.next_step, '', MUTED)
        return np.asarray(image)

    def _write(self, canvas: ImageDraw.ImageDraw, top: float, left: str, right: str,
               color: tuple[int, int, int] = TEXT) -> None:
        """Write a text at each end of a line; the left text is truncated to the available width."""
        start, end = MARGIN * self._letter, self.width - MARGIN * self._letter
        font = self._lettering.font(right)
        end -= font.getlength(right)
        canvas.text((end, top), right, MUTED, font)
        room, font = end - start - self._letter, self._lettering.font(left)
        if font.getlength(left) > room:
            # Letter by letter, because letters of the font differ in width.
            while left and font.getlength(f'{left}…') > room:
                left = left[:-1]
            left += '…'
        canvas.text((start, top), left, color, font)

    def _draw_bar(self, canvas: ImageDraw.ImageDraw, top: float, values: Sequence[float | None],
                  color: tuple[int, int, int]) -> None:
        """Draw a bar from 0 to 1, filled up to the value, with the interval as a paler bar on top."""
        start, length = MARGIN * self._letter, self.width - 2 * MARGIN * self._letter
        bottom = top + BAR * self._letter

        def fill(low: float, high: float, shade: tuple[int, ...], inset: float = 0) -> None:
            canvas.rectangle((start + length * low, top + inset, start + length * high, bottom - inset), shade)

        value, low, high = values
        fill(0, 1, TRACK)
        if value is None:
            return
        fill(0, value, color)
        if low is not None and high is not None:
            pale = tuple((channel + 255) // 2 for channel in color)
            fill(max(0, low), min(1, high), pale, inset=BAR * self._letter / 3)
        mark = max(1, self._letter / 12)
        canvas.rectangle((start + length * value - mark, top - mark, start + length * value + mark, bottom + mark),
                         TEXT)


def write_overlay(source: Path, path: Path, rows: Sequence[FrameProgress], fps: Fraction) -> None:
    """Write a copy of a video with the predictions below the picture, at the video's frame rate, without sound.

    Args:
        source: the video.
        path: file to write, atomically; its suffix determines the format.
        rows: rows of the video.
        fps: feature frames per second of the rows.

    Raises:
        UserError: the video cannot be read, or the overlay cannot be written.
    """
    av, numbers = import_av(), [row.frame for row in rows]
    try:
        with atomic_path(path) as temporary, VideoReader(source) as reader, av.open(str(temporary), 'w') as container:
            output: VideoStream | None = None
            panel, drawn, last = Panel(MIN_WIDTH), None, -1
            for start, _, frame in reader.decoded():
                picture = to_image(frame)
                if output is None:
                    panel = Panel(2 * (max(picture.shape[1], MIN_WIDTH) // 2))  # even, as for the height
                    output = _add_stream(container, reader, panel, picture.shape[0])
                # The last row at or before the picture: a prediction must not be shown before its frame.
                number = max(0, bisect_right(numbers, start * fps) - 1)
                # Videos have several pictures per row, so draw each row once.
                if drawn is None or drawn[0] != number:
                    drawn = number, panel.draw(rows[number])
                # Encoders refuse time stamps that do not increase, which damaged videos contain.
                pts = max(last + 1, round(start / TIME_BASE))
                last = pts
                shown = av.VideoFrame.from_ndarray(_compose(picture, drawn[1], output.height), format='rgb24')
                shown.pts, shown.time_base = pts, TIME_BASE
                container.mux(output.encode(shown))
            if output is not None:
                container.mux(output.encode())  # pictures that the encoder has held back
    except (av.FFmpegError, ValueError) as error:
        raise not_written(path, error) from error


def _add_stream(container: 'OutputContainer', reader: VideoReader, panel: Panel,
                picture_height: int) -> 'VideoStream':
    """Add the video stream of the overlay to an open container."""
    stream = container.add_stream('libx264', rate=reader.rate, options={'crf': '20', 'preset': 'veryfast'})
    # yuv420p stores color at half resolution, so height and width must be even.
    stream.width, stream.height = panel.width, 2 * (picture_height // 2) + panel.height
    stream.pix_fmt, stream.codec_context.time_base = 'yuv420p', TIME_BASE
    return stream


def _compose(picture: np.ndarray, panel: np.ndarray, height: int) -> np.ndarray:
    """Return the picture above the panel, (height, width, 3), centered, with odd rows and columns cropped."""
    whole = np.zeros((height, panel.shape[1], 3), np.uint8)
    room = height - panel.shape[0]
    picture = picture[:room, :panel.shape[1]]
    left = (panel.shape[1] - picture.shape[1]) // 2
    whole[:picture.shape[0], left:left + picture.shape[1]] = picture
    whole[room:] = panel
    return whole
