"""Frames and markers from a stream of bytes: JSON lines and .npy arrays, told apart by their first byte."""

import io
import json
import math
from collections.abc import Iterator

import numpy as np

from prediction.live import ActionMarker
from utils.errors import UserError, first_line
from utils.files import is_writable

NPY_FIRST_BYTE = b'\x93'  # no text begins with it
MAX_FRAME_BYTES = 2**30  # a damaged header may ask for more than there is memory
NAME = 'standard input'
EXPECTED = 'expected a frame as a list of numbers, or a marker {"action": true | false | "label", "ended": "label"}'


def read_items(source: io.BufferedReader, rank: int) -> Iterator[np.ndarray | ActionMarker]:
    """Yield each frame and marker as soon as it has arrived.

    Args:
        source: a sequence of JSON lines (a list is a frame, an object a marker, a blank line nothing) and of arrays as
            ``numpy.save`` writes them (one frame, or a recording whose frames come one after the other).
        rank: axes of a recording; a frame has one less.

    Raises:
        UserError: an item is neither, or is cut off.
    """
    number = 0
    while first := source.peek(1)[:1]:
        number += 1
        if first == NPY_FIRST_BYTE:
            yield from _read_array(source, rank, f'{NAME}: item {number}')
        elif (line := source.readline().strip()):
            yield _parse_line(line, f'{NAME}: line {number}')


def _parse_line(line: bytes, where: str) -> np.ndarray | ActionMarker:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where}: not valid JSON ({error}), {EXPECTED}; write one item a line') from error
    if isinstance(content, dict):
        return _parse_marker(content, where)
    try:
        frame = np.asarray(content)
    except ValueError as error:
        raise UserError(f'{where}: lists of unequal length, {EXPECTED}') from error
    if not isinstance(content, list) or frame.dtype.kind not in 'fiu':
        raise UserError(f'{where}: {str(content)[:60]}, {EXPECTED}')
    return frame.astype(np.float64)


def _parse_marker(content: dict, where: str) -> ActionMarker:
    action, ended = content.get('action'), content.get('ended')
    if not set(content) <= {'action', 'ended'} or not isinstance(action, bool | str) or not isinstance(
            ended, str | None):
        raise UserError(f'{where}: {json.dumps(content)[:60]}, {EXPECTED}')
    if any(isinstance(label, str) and not is_writable(label) for label in (action, ended)):
        raise UserError(f'{where}: {json.dumps(content)[:60]} holds half a character, which cannot be written as '
                        'UTF-8; rename the label')
    return ActionMarker(action if isinstance(action, str) else None, action is not False, ended)


def _read_array(source: io.BufferedReader, rank: int, where: str) -> Iterator[np.ndarray]:
    """Yield the frames of one array, each as soon as its bytes are there."""
    try:
        version = np.lib.format.read_magic(source)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = read_header[version](source)
    except Exception as error:  # numpy raises many kinds at damaged headers
        raise UserError(f'{where}: its header cannot be read as .npy ({first_line(error)}); write it with numpy.save'
                        ) from error
    if any(size < 0 for size in shape):
        raise UserError(f'{where}: its header says {shape}, expected sizes of at least 0; write it with numpy.save')
    if dtype.kind != 'f' or not dtype.isnative or fortran_order:
        raise UserError(f'{where}: {dtype}{" in Fortran order" if fortran_order else ""}, expected float16, float32 or '
                        'float64 in C order and the byte order of this machine; convert it')
    count, frame_shape = (shape[0], shape[1:]) if len(shape) == rank else (1, shape)
    if math.prod(frame_shape) * dtype.itemsize > MAX_FRAME_BYTES:
        raise UserError(f'{where}: frames of shape {frame_shape}, expected {MAX_FRAME_BYTES} bytes a frame at most; '
                        'write it with numpy.save')
    for index in range(count):
        content = source.read(wanted := math.prod(frame_shape) * dtype.itemsize)
        if len(content) < wanted:
            raise UserError(f'{where}: frame {index} of {count} is cut off after {len(content)} bytes, expected '
                            f'{wanted}; write whole frames')
        yield np.frombuffer(content, dtype).reshape(frame_shape).copy()  # torch wants memory that it may write
