"""Read videos frame by frame and sample them by their timestamps: files, and other sources that FFmpeg opens."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from utils.errors import UserError
from utils.logging import get_logger

if TYPE_CHECKING:
    import av

LOGGER = get_logger(__name__)
# FFmpeg also reads playlists and text files as videos; a file must not make it open other files or addresses.
FILE_OPTIONS = {'protocol_whitelist': 'file'}
PLAYLIST_MARKS = (b'#EXTM3U', b'ffconcat')
TEXT_FORMAT = 'tty'
FALLBACK_RATE = Fraction(25)  # if a source gives neither timestamps nor a rate
TIME_TOLERANCE = Fraction(1, 1000)  # Matroska rounds timestamps to milliseconds
MAX_GAP = 600  # seconds without a frame; a longer gap is a broken timestamp
MAX_BACKWARD = 1  # seconds; less is jitter, more is a clock that was set back
MISSING_END = 0.02, Fraction(1, 2)  # fraction of the duration and seconds that may be missing at the end


class SampledFrame(NamedTuple):
    """One frame of a video at the feature rate.

    Attributes:
        index: index of the frame, from 0.
        time: start of the interval that it represents, in seconds since the first frame of the video: index / fps.
        image: upright RGB image (H, W, 3), uint8.
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


def check_video_name(path: Path) -> None:
    """Check that a video can be written under a name, by its ending, before the pictures are there.

    Raises:
        UserError: no format of videos has this ending, or the package ``av`` is not installed.
    """
    av = import_av()
    with TemporaryDirectory() as folder:
        try:
            av.open(str(Path(folder) / f'video{path.suffix}'), 'w').close()
        except (av.FFmpegError, ValueError) as error:
            raise not_written(path, error) from error


def not_written(path: Path, error: Exception) -> UserError:
    """Return the error of a video that cannot be written."""
    return UserError(f'{path}: cannot be written as a video ({" ".join(str(error).split())[:200]}); expected a name '
                     'that ends in .mp4 or .mkv')


class VideoReader:
    """A video source, to be used as a context manager.

    Frames are decoded one at a time, so memory does not grow with the length of the video.

    Args:
        source: a file; or, as text, another source that FFmpeg opens: a camera such as ``/dev/video0``, an address, or
            ``-`` for standard input.
        threads: number of decoding threads.

    Raises:
        UserError: the source cannot be opened, or has no video stream.
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
            raise UserError(f'{self.source}: contains no video stream (only {", ".join(kinds)}), expected a video; '
                            "use the camera's file")
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
        """Frames per second that the source declares; if the rate varies, an average or a guess."""
        stream = self._stream
        return stream.guessed_rate or stream.average_rate or stream.base_rate or FALLBACK_RATE

    def decoded(self) -> Iterator[tuple[Fraction, Fraction, 'av.VideoFrame']]:
        """Yield (start, end, frame) for every decoded frame; times are in seconds since the first frame.

        Starts never decrease. The end is valid only if no frame follows. Can be iterated over once.

        Raises:
            UserError: the source is damaged, contains no frame, or ends long before the end that it declares.
        """
        clock = _Clock(1 / self.rate)
        for frame in self._frames():
            yield *clock.place(frame), frame
        if clock.jumps:
            LOGGER.warning('%s: %d timestamps jump; the video continues there without a gap', self.source, clock.jumps)
        self._check_end(clock.end)

    def _frames(self) -> Iterator['av.VideoFrame']:
        try:
            for packet in self._container.demux(self._stream):
                self.bytes_read = max(self.bytes_read, packet.pos or 0)
                yield from packet.decode()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _check_end(self, end: Fraction | None) -> None:
        """Check that the source has frames and is not truncated."""
        if end is None:
            raise UserError(f'{self.source}: no frame can be decoded, expected at least one; copy it again')
        declared = self._declared_duration() if self._is_file else None
        fraction, seconds = MISSING_END
        if declared and end < declared - max(seconds, fraction * declared):
            raise UserError(f'{self.source}: ends after {float(end):.1f} of {float(declared):.1f} seconds; it is cut '
                            'off: copy it again, or keep the part that exists with: ffmpeg -i IN -c copy OUT')

    def _declared_duration(self) -> Fraction | None:
        """Return the duration of the video stream by the file's header, in seconds; None if it is not given."""
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
        """Yield frames at a constant rate, independent of the rate of the source.

        Frame k is the picture that a player shows at (k + 1/2) / fps seconds, the center of its interval; a picture
        that is shown longer is repeated. The number of frames is the duration times ``fps``, rounded, and at least 1. A
        live source yields a frame as soon as the next picture arrives.

        Args:
            fps: frames per second, above 0.
            image_size: height and width that the whole picture is scaled to, regardless of its aspect ratio; None
                keeps its size.

        Raises:
            UserError: see :meth:`decoded`.
        """
        # Exact, because floats would put a time on either side of a boundary between pictures.
        fps = Fraction(fps)
        index, shown, image, end = 0, None, None, Fraction(0)
        for start, end, frame in self.decoded():  # noqa: B007 (the last end is used after the loop)
            # Sampling times before the next picture's start belong to the picture that is still shown.
            while shown is not None and (index + Fraction(1, 2)) / fps + TIME_TOLERANCE < start:
                image = self._to_image(shown, image_size) if image is None else image
                yield SampledFrame(index, float(index / fps), image)
                index += 1
            shown, image = frame, None  # most pictures are never sampled, so convert them only when needed
        # The last picture fills the intervals up to its end; a very short video still gives one frame.
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
    """Check that a file is readable, not empty, and not a playlist, which FFmpeg would try to follow for minutes.

    Raises:
        UserError: one of these checks fails.
    """
    try:
        with path.open('rb') as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); make it readable') from error
    if not start:
        raise UserError(f'{path}: is empty (0 bytes), expected a video; copy it again')
    if start.removeprefix(b'\xef\xbb\xbf').startswith(PLAYLIST_MARKS):
        raise UserError(f'{path}: is a playlist, expected a video; use the videos that it lists')


def to_image(frame: 'av.VideoFrame', image_size: int | None = None) -> np.ndarray:
    """Return a decoded frame as an upright RGB image, (H, W, 3), uint8.

    Args:
        frame: frame of any pixel format, bit depth, and camera rotation (a multiple of 90 degrees).
        image_size: see :meth:`VideoReader.sample`.
    """
    # Scale first, so that a 4k picture is never held as RGB. 'AREA' averages, so small pictures do not flicker.
    scaled = frame.reformat(width=image_size, height=image_size, format='rgb24', interpolation='AREA')
    quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise, as in np.rot90
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), quarter_turns))


class _Clock:
    """Place frames on a timeline that begins at 0 and never runs backward.

    Args:
        nominal: duration in seconds of frames that do not give their own.
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
        # The usual case: later than the frame before, by less than a gap.
        if self.start is None or self.start < start <= self.end + MAX_GAP:
            return start
        # A jump, forward or far backward: continue at the end of the frame before, from now on.
        if start > self.start or start < self.start - MAX_BACKWARD:
            self.jumps += 1
            self._offset = self.end - stamp
            return self.end
        return self.start  # a repeated timestamp, or one slightly before the previous frame's
