"""Which time of a recording to show while the reference plays, and its pictures at those times."""

import io
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from tempfile import TemporaryFile
from typing import Self

import numpy as np
from PIL import Image

from alignment.matching import UNMATCHED
from alignment.recordings import AlignedRecording
from recordings.video import VideoReader

SMOOTH = 8  # used frames between consecutive partners up to which playing is smooth; above that it is a jump
QUALITY = 90  # of JPEG


def played_times(reference: AlignedRecording, recording: AlignedRecording, partners: Sequence[int],
                 times: Iterable[Fraction]) -> list[Fraction | None]:
    """Return the time of a recording to show at each time of the reference, in seconds; None if it has no match.

    Between two used frames of the reference, time runs evenly from partner to partner, unless the recording jumps.

    Args:
        reference: the reference, with a known frame rate.
        recording: the recording, with a known frame rate.
        partners: used frame of the recording for each of the reference's, or ``UNMATCHED``.
        times: seconds since the reference began.
    """
    starts = [Fraction(frame) / reference.fps for frame in reference.frames]
    own = [Fraction(frame) / recording.fps for frame in recording.frames]
    played: list[Fraction | None] = []
    for time in times:
        position = max(0, bisect_right(starts, time) - 1)
        here = partners[position]
        if here == UNMATCHED:
            played.append(None)
            continue
        found = own[here]
        after = partners[position + 1] if position + 1 < len(partners) else UNMATCHED
        if after != UNMATCHED and 0 <= after - here <= SMOOTH:
            done = (time - starts[position]) / (starts[position + 1] - starts[position])
            found += done * (own[after] - found)
        played.append(found)
    return played


class KeptPictures:
    """Pictures of a video, compressed in a temporary file, so that they can be shown in any order.

    Args:
        recording: recording whose source is a video.
        rate: pictures per second.
        wanted: indices of the pictures to keep, at that rate; the last picture stands for later ones.
        height: height that pictures are scaled to.
    """

    def __init__(self, recording: AlignedRecording, rate: Fraction, wanted: Iterable[int], height: int) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._places: dict[int, tuple[int, int]] = {}
        chosen, last = set(wanted), max(wanted, default=0)
        with VideoReader(recording.source) as reader:
            for frame in reader.sample(rate):
                if frame.index in chosen or not self._places:
                    self._keep(frame.index, scale_to(frame.image, height))
                if frame.index >= last:
                    break

    def _keep(self, index: int, image: np.ndarray) -> None:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, 'JPEG', quality=QUALITY)
        self._places[index] = self._file.tell(), buffer.tell()
        self._file.write(buffer.getbuffer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def picture(self, index: int) -> np.ndarray:
        """Return a kept picture (H, W, 3), uint8, or else the one before it."""
        start, length = self._places[max((kept for kept in self._places if kept <= index),
                                         default=min(self._places))]
        self._file.seek(start)
        return np.asarray(Image.open(io.BytesIO(self._file.read(length))).convert('RGB'))


def scale_to(image: np.ndarray, height: int) -> np.ndarray:
    """Scale a picture (H, W, 3) to a height, with its aspect ratio."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
