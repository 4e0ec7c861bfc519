"""Read items of a byte stream: JSON lines and .npy arrays, distinguished by their first byte."""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from prediction.many_recordings import EndMarker, FrameRate, Item, RecordingMarker
from prediction.trackers import ActionMarker
from recordings.feature_lookup import VIDEO, binary_kind
from recordings.rates import parse_rate
from utils.errors import UserError, first_line
from utils.files import is_writable, unique_keys

NPY_FIRST_BYTE = b'\x93'  # not a valid first byte of UTF-8 text
MAX_FRAME_BYTES = 2**30  # a damaged header may ask for more memory than is available
MAX_LINE_BYTES = 2**20  # of a line that is not a frame, and of the frames of a run with few features
MAX_NUMBER_BYTES = 64  # of a number in a line; 25 are enough for float64
MAX_HEADER_BYTES = 10_000  # as in NumPy, which checks after it has read the header
NAME = 'standard input'
EXPECTED = ('expected a frame as a list of numbers, or one of {"action": true | false | "label", "ended": "label"}, '
            '{"recording": "name", "task": "task"}, {"end": "name"}, {"fps": number}')


def read_items(source: io.BufferedReader, ndim: int, on_bad_line: Callable[[UserError], None],
               width: int | None = None) -> Iterator[Item]:
    """Yield each item as soon as it has arrived.

    Args:
        source: a sequence of JSON lines (a list is a frame, an object is another item, a blank line is ignored) and of
            arrays as written by ``numpy.save`` (a single frame, or the frames of a recording).
        ndim: number of axes of a recording; a frame has ``ndim - 1`` axes.
        on_bad_line: called with the error if a line is not a valid item; reading continues if it returns.
        width: D of the features that the run reads, or C of its frames; it bounds the memory for an item.

    Raises:
        UserError: an array is damaged or truncated, so the start of the next item is unknown.
    """
    number, largest = 0, _largest_line(ndim, width)
    # peek does not consume the byte, and may return more than one. It is empty at the end of the stream.
    while first := source.peek(1)[:1]:
        number += 1
        if first == NPY_FIRST_BYTE:
            yield from _read_array(source, ndim, f'{NAME}: item {number}', width)
        elif (line := source.readline(largest + 1).strip(b'\r\n\t ')):
            try:
                if len(line) > largest:
                    _skip_line(source)
                    raise UserError(f'{NAME}: line {number}: more than {largest} bytes, {EXPECTED}; write one item per '
                                    'line')
                item = _parse_line(line, f'{NAME}: line {number}')
            except UserError as error:
                on_bad_line(error)
            else:
                yield item


def _largest_line(ndim: int, width: int | None) -> int:
    """Return the largest number of bytes of a line."""
    if width is None or ndim > 2:  # the height and width of maps are not known
        return MAX_FRAME_BYTES // 4
    return max(MAX_LINE_BYTES, width * MAX_NUMBER_BYTES)


def _skip_line(source: io.BufferedReader) -> None:
    """Read to the end of a line in parts, unless its end has been read."""
    while (part := source.readline(MAX_LINE_BYTES)) and not part.endswith(b'\n'):
        pass


def _parse_line(line: bytes, where: str) -> Item:
    try:
        # Decoded here: json.loads(bytes) would take UTF-16, in which lines do not end at the byte of a line end.
        content = json.loads(line.decode('utf-8-sig'), object_pairs_hook=unique_keys(where))
    except (ValueError, RecursionError) as error:
        what = binary_kind(line)
        fix = 'give videos and cameras to --video' if what == VIDEO else 'write one item per line'
        found = f'is {what}' if what else f'not valid JSON ({first_line(error)})'
        raise UserError(f'{where}: {found}, {EXPECTED}; {fix}') from error
    if isinstance(content, dict):
        return _parse_object(content, where)
    try:
        frame = np.asarray(content)
    except ValueError as error:
        raise UserError(f'{where}: lists of unequal length, {EXPECTED}') from error
    # Kinds float, int, and unsigned: lists of booleans or strings are not frames.
    if not isinstance(content, list) or frame.dtype.kind not in 'fiu':
        raise UserError(f'{where}: {str(content)[:60]}, {EXPECTED}')
    return frame.astype(np.float64)


def _parse_object(content: Mapping[str, object], where: str) -> Item:
    item = _action_marker(content) or _recording_item(content) or _frame_rate(content)
    if item is None:
        raise UserError(f'{where}: {json.dumps(content)[:60]}, {EXPECTED}')
    if any(isinstance(text, str) and not is_writable(text) for text in content.values()):
        raise UserError(f'{where}: {json.dumps(content)[:60]} contains an unpaired surrogate, which cannot be written '
                        'as UTF-8; rename it')
    return item


def _action_marker(content: Mapping[str, object]) -> ActionMarker | None:
    action, ended = content.get('action'), content.get('ended')
    if not set(content) <= {'action', 'ended'} or not isinstance(action, bool | str) or not isinstance(
            ended, str | None):
        return None
    return ActionMarker(action if isinstance(action, str) else None, action is not False, ended)


def _recording_item(content: Mapping[str, object]) -> RecordingMarker | EndMarker | None:
    if set(content) == {'end'} and isinstance(content['end'], str):
        return EndMarker(content['end'])
    recording, task = content.get('recording'), content.get('task')
    if set(content) <= {'recording', 'task'} and isinstance(recording, str) and isinstance(task, str | None):
        return RecordingMarker(recording, task)
    return None


def _frame_rate(content: Mapping[str, object]) -> FrameRate | None:
    rate = content.get('fps')
    # bool is a subclass of int, but true is not a frame rate.
    if set(content) != {'fps'} or isinstance(rate, bool) or not isinstance(rate, int | float | str):
        return None
    try:
        return FrameRate(parse_rate(str(rate)))
    except (UserError, OverflowError):
        return None


def _read_header(source: io.BufferedReader) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array: shape, Fortran order, and dtype.

    Raises:
        Exception: the header is damaged.
    """
    version = np.lib.format.read_magic(source)
    size = 2 if version == (1, 0) else 4
    length = source.read(size)
    count = int.from_bytes(length, 'little')
    if count > MAX_HEADER_BYTES:
        raise ValueError(f'{count} bytes long')
    header = io.BytesIO(length + source.read(count))
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return read_header[version](header)


def _read_array(source: io.BufferedReader, ndim: int, where: str, width: int | None) -> Iterator[np.ndarray]:
    """Yield the frames of an array, each as soon as its bytes have arrived."""
    try:
        shape, fortran_order, dtype = _read_header(source)
    except Exception as error:  # numpy raises many types of exceptions if a header is damaged
        raise UserError(f'{where}: its header cannot be read as .npy ({first_line(error)}); write it with numpy.save'
                        ) from error
    if any(size < 0 for size in shape):
        raise UserError(f'{where}: its header says {shape}, expected sizes of at least 0; write it with numpy.save')
    if dtype.kind != 'f' or dtype.itemsize not in (2, 4, 8) or not dtype.isnative or fortran_order:
        raise UserError(f'{where}: {dtype}{" in Fortran order" if fortran_order else ""}, expected float16, float32 or '
                        'float64 in C order and the byte order of this machine; convert it')
    # An array with one axis less is a single frame.
    count, frame_shape = (shape[0], shape[1:]) if len(shape) == ndim else (1, shape)
    largest = MAX_FRAME_BYTES if width is None or ndim > 2 else _largest_line(ndim, width)
    if math.prod(frame_shape) * dtype.itemsize > largest:
        raise UserError(f'{where}: frames of shape {frame_shape}, expected at most {largest} bytes per frame; '
                        'write it with numpy.save')
    for index in range(count):
        content = source.read(wanted := math.prod(frame_shape) * dtype.itemsize)
        if len(content) < wanted:
            raise UserError(f'{where}: frame {index} of {count} is cut off after {len(content)} bytes, expected '
                            f'{wanted}; write whole frames')
        yield np.frombuffer(content, dtype).reshape(frame_shape).copy()  # torch needs writable memory
