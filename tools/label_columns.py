"""Recognize what label files contain besides one label per frame: header lines, frame numbers, scores, ranges."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
# First lines that name the column of labels, without case.
HEADERS = {'label', 'labels', 'action', 'actions', 'phase', 'phases', 'step', 'steps', 'class', 'classes', 'gt',
           'groundtruth', 'ground_truth', 'annotation', 'activity', 'gesture', 'category'}
MANY_LINES = 20  # a shorter file may have a new label in most lines
_RANGE = re.compile(r'(\d+)\s*(?:-|–|:|\.\.|[\s,;]\s*)\s*(\d+)[\s,;:]+\S', re.ASCII)  # '1-30 SIL', '31 187 G1'
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
_SEPARATOR = re.compile(r'\s*[\t,;]\s*|\s+')


def one_column(path: Path, lines: Sequence[str], known: Collection[str] | None) -> list[str]:
    """Return the labels of a label file, without its header line and its column of frame numbers.

    Args:
        path: file, for messages.
        lines: its lines, none of them empty.
        known: labels of the mapping, which are labels as they are; None if there is no mapping.

    Raises:
        UserError: the lines are ranges of frames, or a label with a score.
    """
    if known is not None and set(lines) <= {*known}:
        return list(lines)
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
    _refuse_scores(path, labels)
    if len(labels) >= MANY_LINES and 2 * len(set(labels)) > len(labels):
        raise UserError(f'{path}: {len(set(labels))} of {len(labels)} lines are different, such as {labels[0][:40]!r} '
                        f'and {labels[1][:40]!r}, expected one label per frame; remove other columns than the label')
    return labels


def _is_header(lines: Sequence[str], known: Collection[str]) -> bool:
    cells = [cell.casefold() for cell in _SEPARATOR.split(lines[0])]
    if lines[0] in lines[1:] or lines[0] in known or not 1 <= len(cells) <= 4:
        return False
    return any(cell in HEADERS for cell in cells) and all(
        cell in HEADERS or cell in ('frame', 'frames', 'index', 'id', 'time', 'score', 'confidence', 'start', 'end')
        for cell in cells)


def _refuse_ranges(path: Path, lines: Sequence[str]) -> None:
    bounds = [(int(match[1]), int(match[2])) for line in lines if (match := _RANGE.match(line))]
    if len(bounds) < len(lines) or not all(start <= end for start, end in bounds):
        return
    # Frame numbers next to a class number look like ranges, too, but they overlap.
    if all(end <= start for (_, end), (start, _) in zip(bounds, bounds[1:], strict=False)):
        raise UserError(f'{path}: line 1 is {lines[0][:60]!r}, a range of frames, expected one label per frame; import '
                        f'{path.parent} as a folder of tables instead (SOURCE), with start, end and label separated by '
                        'blanks, --unit frames and, if frames count from 1 or ends are included, --first_frame 1 and '
                        '--inclusive_ends')


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


def _refuse_scores(path: Path, labels: Sequence[str]) -> None:
    """Refuse lines of a label and a number that is different from line to line."""
    split = [_SEPARATOR.split(label) for label in labels]
    if len(labels) < 3 or not all(len(cells) > 1 for cells in split):
        return
    for place in (-1, 0):
        cells = [row[place] for row in split]
        if all(map(_NUMBER.fullmatch, cells)) and len(set(cells)) > max(2, len({row[-1 - place] for row in split})):
            raise UserError(f'{path}: line 1 is {labels[0][:60]!r}, a label and a number such as a score or a time, '
                            'expected one label per frame; remove the other column')
