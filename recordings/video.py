"""Videos read frame by frame, sampled by their time stamps: files, and whatever else FFmpeg opens."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from utils.errors import UserError
from utils.logging import get_logger

if TYPE_CHECKING:
    import av

LOGGER = get_logger(__name__)
# FFmpeg reads playlists and text files as videos too; a file must not make it open other files or addresses.
FILE_OPTIONS = {'protocol_whitelist': 'file'}
PLAYLIST_MARKS = (b'#EXTM3U', b'ffconcat')
TEXT_FORMAT = 'tty'
FALLBACK_RATE = Fraction(25)  # of a source that tells neither time stamps nor a rate
TIME_TOLERANCE = Fraction(1, 1000)  # Matroska rounds time stamps to milliseconds
MAX_GAP = 600  # seconds without a frame; more is a broken time stamp
MAX_BACKWARD = 1  # seconds; less is jitter, more is a clock that was set back
MISSING_END = 0.02, Fraction(1, 2)  # fraction of the duration and seconds that may be missing at the end


class SampledFrame(NamedTuple):
    """One frame of a video at the feature rate.

    Attributes:
        index: number of the frame, from 0.
        time: start of the interval that it represents, in seconds since the first frame of the video: index / fps.
        image: RGB, upright, (H, W, 3), uint8.
    """

    index: int
    time: float
    image: np.ndarray


def import_av() -> ModuleType:
    """Return the package ``av``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(f'reading videos needs the package av ({error}); install it with: pip install -r '
                        'requirements-video.txt') from error
    return av


class VideoReader:
    """A video source, to be used as a context manager.

    Frames are decoded one at a time, so memory does not grow with the length of the video.

    Args:
        source: a file; or, as text, what FFmpeg opens: a camera such as ``/dev/video0``, an address, or ``-`` for
            standard input.
        threads: that decode.

    Raises:
        UserError: the source cannot be opened, or has no pictures.
    """

    def __init__(self, source: Path | str, threads: int = 1) -> None:
        self._av = import_av()
        self.source = source
        self.bytes_read = 0  # position of the last packet in a file
        self._is_file = Path(source).is_file()
        self._container = self._open()
        try:
            self._stream = self._find_stream(threads)
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> 'av.container.InputContainer':
        path = Path(self.source)
        if self._is_file:
            _check_start(path)
        options = {'metadata_errors': 'ignore'}
        if str(self.source) == '-':
            name = 'pipe:0'
        elif self._is_file:
            name, options['options'] = str(path.absolute()), FILE_OPTIONS
        else:
            name, options['format'] = str(self.source), 'v4l2' if str(self.source).startswith('/dev/video') else None
        try:
            return self._av.open(name, **options)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _find_stream(self, threads: int) -> 'av.VideoStream':
        """Return the first video stream that is not a cover picture."""
        if self._container.format.name == TEXT_FORMAT:
            raise UserError(f'{self.source}: is a text file, expected a video')
        cover = self._av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            kinds = sorted({stream.type for stream in self._container.streams}) or ['no streams']
            raise UserError(f'{self.source}: has no pictures (only {", ".join(kinds)}), expected a video; take the '
                            'file of the camera')
        streams[0].thread_count, streams[0].thread_type = threads, 'AUTO'
        return streams[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._container.close()

    def _unreadable(self, error: Exception) -> UserError:
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, FileNotFoundError):
            return UserError(f'{self.source}: no such file, expected a video')
        return UserError(f'{self.source}: cannot be read as a video ({reason}); it may be damaged, cut off, or not a '
                         'video: copy it again, or convert it with ffmpeg')

    @property
    def rate(self) -> Fraction:
        """Frames per second as the source declares them; of a variable rate, their average or a guess."""
        stream = self._stream
        return stream.guessed_rate or stream.average_rate or stream.base_rate or FALLBACK_RATE

    def decoded(self) -> Iterator[tuple[Fraction, Fraction, 'av.VideoFrame']]:
        """Yield start, end if nothing follows (both in seconds since the first frame), and every decoded frame.

        Starts never decrease. Can be iterated over once.

        Raises:
            UserError: the source is damaged, holds no frame, or ends long before the end that it declares.
        """
        clock = _Clock(1 / self.rate)
        for frame in self._frames():
            yield *clock.place(frame), frame
        if clock.jumps:
            LOGGER.warning('%s: %d time stamps jump; the video goes on there without a gap', self.source, clock.jumps)
        self._check_end(clock.end)

    def _frames(self) -> Iterator['av.VideoFrame']:
        try:
            for packet in self._container.demux(self._stream):
                self.bytes_read = max(self.bytes_read, packet.pos or 0)
                yield from packet.decode()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _check_end(self, end: Fraction | None) -> None:
        """Refuse a file without frames, and one that was cut off."""
        if end is None:
            raise UserError(f'{self.source}: no frame can be decoded, expected at least one; copy it again')
        declared = self._declared_duration() if self._is_file else None
        fraction, seconds = MISSING_END
        if declared and end < declared - max(seconds, fraction * declared):
            raise UserError(f'{self.source}: ends after {float(end):.1f} of {float(declared):.1f} seconds; it is cut '
                            'off: copy it again, or keep what is there with: ffmpeg -i IN -c copy OUT')

    def _declared_duration(self) -> Fraction | None:
        """Return the length of the pictures by the file's header, in seconds; None if it does not tell."""
        stream = self._stream
        if self._container.format.name == 'avi' and stream.frames:  # its duration is guessed from the file's size
            return stream.frames / self.rate
        if stream.duration:
            return stream.duration * stream.time_base
        if text := stream.metadata.get('DURATION'):  # of Matroska, as hours:minutes:seconds
            hours, minutes, seconds = text.split(':')
            return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
        if self._container.duration and len(self._container.streams) == 1:
            return Fraction(self._container.duration, self._av.time_base)
        return None

    def sample(self, fps: Fraction | float, image_size: int | None = None) -> Iterator[SampledFrame]:
        """Yield the frames at a constant rate, whatever the rate of the source.

        Frame k is the picture that a player shows at (k + 1/2) / fps seconds, the center of its interval; a picture
        shown for longer is repeated. The number of frames is the duration times ``fps``, rounded, and at least 1. A
        live source yields a frame as soon as the next picture arrives.

        Args:
            fps: frames per second, above 0.
            image_size: height and width that the whole picture is scaled to, without regard to its shape; None keeps
                its size.

        Raises:
            UserError: see :meth:`decoded`.
        """
        fps = Fraction(fps)
        index, shown, image, end = 0, None, None, Fraction(0)
        for start, end, frame in self.decoded():  # noqa: B007 (the last end counts)
            while shown is not None and (index + Fraction(1, 2)) / fps + TIME_TOLERANCE < start:
                image = self._to_image(shown, image_size) if image is None else image
                yield SampledFrame(index, float(index / fps), image)
                index += 1
            shown, image = frame, None  # most pictures are never sampled, so they are converted when needed
        while index == 0 or (index + Fraction(1, 2)) / fps + TIME_TOLERANCE < end:
            image = self._to_image(shown, image_size) if image is None else image
            yield SampledFrame(index, float(index / fps), image)
            index += 1

    def _to_image(self, frame: 'av.VideoFrame', image_size: int | None) -> np.ndarray:
        try:
            return to_image(frame, image_size)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error


def _check_start(path: Path) -> None:
    """Refuse an unreadable or empty file, and a playlist, which FFmpeg would try to follow for minutes.

    Raises:
        UserError: see above.
    """
    try:
        with path.open('rb') as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); make it readable') from error
    if not start:
        raise UserError(f'{path}: is empty (0 bytes), expected a video; copy it again')
    if start.removeprefix(b'\xef\xbb\xbf').startswith(PLAYLIST_MARKS):
        raise UserError(f'{path}: is a playlist, expected a video; give the videos that it names')


def to_image(frame: 'av.VideoFrame', image_size: int | None = None) -> np.ndarray:
    """Return a decoded frame as an upright RGB image, (H, W, 3), uint8.

    Args:
        frame: of any pixel format, bit depth, and rotation by the camera (in steps of 90 degrees).
        image_size: see :meth:`VideoReader.sample`.
    """
    # Scaling first: a 4k picture is never held as RGB. 'AREA' averages, so small pictures do not flicker.
    scaled = frame.reformat(width=image_size, height=image_size, format='rgb24', interpolation='AREA')
    quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise, as in np.rot90
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), quarter_turns))


class _Clock:
    """Places frames on a time line that begins at 0 and never runs backward.

    Args:
        nominal: duration of a frame that does not tell its own, in seconds.
    """

    def __init__(self, nominal: Fraction) -> None:
        self.nominal = nominal
        self.jumps = 0
        self.start: Fraction | None = None
        self.end: Fraction | None = None
        self._offset: Fraction | None = None

    def place(self, frame: 'av.VideoFrame') -> tuple[Fraction, Fraction]:
        """Return start and end of the next frame in seconds."""
        duration = frame.duration * frame.time_base if frame.duration else self.nominal
        start = self.end or Fraction(0)
        if frame.pts is not None:
            start = self._from_stamp(frame.pts * frame.time_base)
        self.start, self.end = start, start + duration
        return self.start, self.end

    def _from_stamp(self, stamp: Fraction) -> Fraction:
        if self._offset is None:
            self._offset = (self.end or Fraction(0)) - stamp
        start = stamp + self._offset
        if self.start is None or self.start < start <= self.end + MAX_GAP:
            return start
        if start > self.start or start < self.start - MAX_BACKWARD:
            self.jumps += 1
            self._offset = self.end - stamp
            return self.end
        return self.start  # a doubled or slightly late time stamp
