"""Recognize what label files contain besides one label per frame: header lines, frame numbers, scores, ranges."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
# Words of a first line that names the column of labels, without case; and other words of such lines.
HEADERS = {'label', 'labels', 'action', 'actions', 'phase', 'phases', 'step', 'steps', 'class', 'classes', 'gt',
           'groundtruth', 'truth', 'annotation', 'annotations', 'activity', 'gesture', 'category'}
OTHER_WORDS = {'frame', 'frames', 'index', 'id', 'ids', 'time', 'timestamp', 'score', 'confidence', 'start', 'end',
               'name', 'names', 'number', 'no', 'nr', 'ground', 'image', 'file', 'filename', 'video'}
MANY_LINES = 20  # a shorter file may have a new label in most lines
_PLACE = r'\d+(?:\.\d+)?'
_BETWEEN = r'\s*(?:-|–|:|\.\.|[\s,;]\s*)\s*'
# '1-30 SIL', '31 187 G1', '[0, 10] SIL', '0.0-1.5 SIL', 'SIL 0 10'
_RANGES = (re.compile(rf'[\[(]?({_PLACE}){_BETWEEN}({_PLACE})[\])]?[\s,;:]+(?![\s,;:])', re.ASCII),
           re.compile(rf'.*\S[\s,;:]+[\[(]?({_PLACE}){_BETWEEN}({_PLACE})[\])]?\s*$', re.ASCII))
_CLOCK = re.compile(r'\d+(:\d{1,2}){1,2}([.,]\d+)?', re.ASCII)
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
_SEPARATOR = re.compile(r'\s*[\t,;]\s*|\s+')


def one_column(path: Path, lines: Sequence[str], known: Collection[str] | None) -> list[str]:
    """Return the labels of a label file, without quotes, its header line, and its column of frame numbers.

    Args:
        path: file, for messages.
        lines: its lines, none of them empty.
        known: labels of the mapping, which are labels as they are; None if there is no mapping.

    Raises:
        UserError: the lines are ranges of frames, a list, or a label next to a score, a time, or the name of a picture.
    """
    if known is not None and set(lines) <= {*known}:
        return list(lines)
    lines = _without_quotes(path, lines)
    # One line is not enough to tell a header from a label; a label that comes back later is a label.
    has_header = len(lines) > 1 and _is_header(lines, known or ())
    body = list(lines[1:] if has_header else lines)
    _refuse_ranges(path, body)
    labels = _without_frame_numbers(body)
    if labels is body and not has_header and not re.search(r'\d', body[0]) and (
            rest := _without_frame_numbers(body[1:])) != body[1:]:
        # Frame numbers that begin in the second line show that the first one is a header, whatever its words are.
        has_header, labels = True, rest
    if has_header or labels is not body:
        left_out = ' and '.join([f'the line {lines[0]!r:.60}'] * has_header
                                + ['the column of frame numbers'] * (labels is not body))
        LOGGER.info('%s: %s is not read as a label', path, left_out)
    _refuse_other_columns(path, labels)
    if len(labels) >= MANY_LINES and 2 * len(set(labels)) > len(labels):
        raise UserError(f'{path}: {len(set(labels))} of {len(labels)} lines are different, such as {labels[0][:40]!r} '
                        f'and {labels[1][:40]!r}, expected one label per frame; remove other columns than the label')
    return labels


def _without_quotes(path: Path, lines: Sequence[str]) -> list[str]:
    """Return the lines without the quotes or the comma that all of them have.

    Raises:
        UserError: the file is a list of a programming language, such as JSON.
    """
    if lines[0].startswith(('[', '{')) and lines[-1].endswith((']', '}', '],', '},')) and re.search('["\',]', lines[0]):
        raise UserError(f'{path}: line 1 is {lines[0][:60]!r}, a list, expected one label per frame; write one label '
                        'per line, without brackets and quotes')
    body = lines[1:] if len(lines) > 1 else lines  # the header of a table may have no quotes
    for sign in ('"', "'"):
        if all(len(line) > 1 and line[0] == line[-1] == sign and sign not in line[1:-1] for line in body):
            return [line.strip(sign) for line in lines]
    if all(line[-1] in ',;' for line in lines):
        return [line[:-1].rstrip() or line for line in lines]
    return list(lines)


def _is_header(lines: Sequence[str], known: Collection[str]) -> bool:
    if lines[0] in lines[1:] or lines[0] in known:
        return False
    if lines[0].startswith('#'):  # a comment; no other line is one
        return not any(line.startswith('#') for line in lines[1:])
    words = [word for cell in _SEPARATOR.split(lines[0]) for word in re.split(r'[_.-]', cell.casefold())]
    return (len(words) <= 6 and any(word in HEADERS for word in words)
            and all(word in HEADERS or word in OTHER_WORDS for word in words))


def _refuse_ranges(path: Path, lines: Sequence[str]) -> None:
    for pattern in _RANGES:
        found = [pattern.match(line) for line in lines]
        if not all(found):
            continue
        bounds = [(float(match[1]), float(match[2])) for match in found]
        # Frame numbers next to a class number look like ranges, too, but they overlap. So do clock times.
        if all(start < end or len(bounds) > 1 and start == end for start, end in bounds) and all(
                end <= start for (_, end), (start, _) in zip(bounds, bounds[1:], strict=False)) and not all(
                start == end for start, end in bounds) and not _CLOCK.match(_SEPARATOR.split(lines[0])[0]):
            raise UserError(f'{path}: line 1 is {lines[0][:60]!r}, a range of frames, expected one label per frame; '
                            f'import {path.parent} as a folder of tables instead (SOURCE), with start, end and label '
                            'separated by blanks, --unit frames and, if frames count from 1 or ends are included, '
                            '--first_frame 1 and --inclusive_ends')


def _without_frame_numbers(lines: list[str]) -> list[str]:
    """Return the labels of lines with a frame number in front or behind; the lines if they have no number."""
    if len(lines) < 2:
        return lines
    for place in (0, -1):
        split = [_SEPARATOR.split(line, maxsplit=1) if place == 0 else _split_last(line) for line in lines]
        if not all(len(cells) == 2 and cells[place].isdecimal() for cells in split):
            continue
        numbers = [int(cells[place]) for cells in split]
        step = numbers[1] - numbers[0]
        if step > 0 and numbers == list(range(numbers[0], numbers[0] + step * len(lines), step)):
            return [cells[1 + place].strip() for cells in split]
    return lines


def _split_last(line: str) -> list[str]:
    *_, last = _SEPARATOR.finditer(line) if _SEPARATOR.search(line) else [None]
    return [line] if last is None else [line[:last.start()], line[last.end():]]


def _refuse_other_columns(path: Path, labels: Sequence[str]) -> None:
    """Refuse lines of a label and a number or name that is different from line to line, or the same score in all."""
    split = [_SEPARATOR.split(label) for label in labels]
    if len(labels) < 3 or not all(len(cells) > 1 for cells in split):
        return
    for place in (-1, 0):
        cells = [row[place] for row in split]
        others = {tuple(row[1:] if place == 0 else row[:-1]) for row in split}
        if all(map(_NUMBER.fullmatch, cells)):
            # The same score in all lines: a label could end in '1', but not all labels in '1.0'.
            other = len(set(cells)) > max(2, len(others)) or (
                len(set(cells)) == 1 < len(others) and '.' in cells[0])
            what = 'a label and a number such as a score or a time'
        else:
            other = (len(set(cells)) == len(cells) > 2 * len(others) > 2
                     and all(re.search(r'\d', cell) for cell in cells))
            what = f'a label and a {"time" if _CLOCK.fullmatch(cells[0]) else "name such as that of a picture"}'
        if other:
            raise UserError(f'{path}: line 1 is {labels[0][:60]!r}, {what}, expected one label per frame; remove the '
                            'other column')
