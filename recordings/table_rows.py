"""Read the rows of a CSV or JSON table; names of columns are interpreted by ``recordings.segment_tables``."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recordings.segment_list import read_text
from recordings.table_content import refuse_other_content
from recordings.times import looks_like_time
from utils.errors import UserError, name_some
from utils.files import read_json
from utils.logging import get_logger

LOGGER = get_logger(__name__)

# Delimiter -> its name in messages. A table without any of the others is separated by blanks.
DELIMITERS = {'\t': 'tabs', ';': 'semicolons', ',': 'commas', '|': 'vertical bars', ' ': 'blanks'}
EXCEL_SEPARATOR = re.compile('sep=([,;|\t])\r?\n', re.IGNORECASE)  # a first line that Excel writes
COMMENTS = ('#', '%', '//')
ENDINGS = ('.csv', '.tsv', '.json', '.txt')


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        place: place in the file, for messages: 'line 3', 'segment 2'.
        cells: name of the column -> value: text, or any JSON value.
    """

    place: str
    cells: dict[str, object]


@dataclass(frozen=True)
class Table:
    """Rows and the names of their columns, in lower case and in the file's order.

    Attributes:
        names: names of the columns.
        rows: rows of data.
        layout: how the file was read, for the log: 'separated by commas, without a header'.
    """

    names: list[str]
    rows: list[TableRow]
    layout: str


# Cells of all lines -> names of the columns if the first line is data, None if it is a header.
NameColumns = Callable[[Sequence[Sequence[str]]], Sequence[str] | None]


def read_rows(path: Path, default: Sequence[str], name_columns: NameColumns) -> Table:
    """Read a table.

    Args:
        path: a ``.json`` file is a list of lists or of objects; any other file is text with any of ``DELIMITERS``.
        default: column names of JSON lists.
        name_columns: decides whether the first line of a text file is a header; may raise UserError.

    Raises:
        UserError: the file cannot be read, is empty, or a row has more cells than there are columns.
    """
    if path.suffix.lower() == '.json':
        return _read_json_rows(path, default)
    return _read_text_rows(path, name_columns)


def _read_text_rows(path: Path, name_columns: NameColumns) -> Table:
    refuse_other_content(path)
    text = read_text(path)
    told = EXCEL_SEPARATOR.match(text)
    text = text[told.end():] if told else text
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(COMMENTS)), '')
    # If two delimiters are equally frequent, the first counts: the comma may be a decimal comma or part of a label.
    delimiter = max(DELIMITERS, key=lambda sign: first.count(sign) if sign != ' ' else 0)
    # Excel's first line tells; without it, the most frequent delimiter of the first line, or blanks.
    delimiter = told[1] if told else delimiter if delimiter in first else ' '
    lines, comments = _split_lines(path, ('\n' if told else '') + text, delimiter)
    if not lines:
        raise UserError(f'{path}: is empty, expected rows of start, end and label')
    found = name_columns([cells for _, cells in lines])
    names = list(found) if found is not None else [cell.lower() for cell in lines[0][1]]
    rows = []
    for number, cells in lines if found is not None else lines[1:]:
        if any(cells[len(names):]):
            raise UserError(f'{path}: line {number}: {len(cells)} cells, expected {", ".join(names)}; put a label that '
                            f'contains {delimiter!r} in quotes, or name all columns in the first line')
        rows.append(TableRow(f'line {number}', dict(zip(names, cells, strict=False))))
    _warn_of_comments(path, comments, len(names))
    layout = f'separated by {DELIMITERS[delimiter]}, {"with" if found is None else "without"} a header'
    left_out = f', {len(comments)} comment line{"s" if len(comments) > 1 else ""} left out' if comments else ''
    return Table(names, rows, layout + left_out)


Lines = list[tuple[int, list[str]]]  # number and cells of each line


def _split_lines(path: Path, text: str, delimiter: str) -> tuple[Lines, Lines]:
    """Return the lines that are neither empty nor a comment, and the comments."""
    comments, head = [], io.StringIO(text)
    kept, in_head = [], True
    for number, line in enumerate(head, 1):  # comments before the table may contain quotes that never close
        is_comment = in_head and line.lstrip().startswith(COMMENTS)
        in_head = in_head and (is_comment or not line.strip())
        if is_comment:
            comments.append((number, [line.strip()]))
        kept.append('\n' if is_comment else line)
    reader = csv.reader(iter(kept), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [one_line(cell) for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f'{path}: line {reader.line_num}: not valid CSV ({error}); close each quote, and double a '
                        'quote within a quoted label') from error
    rows = [(number, cells) for number, cells in lines if not cells[0].startswith(COMMENTS)]
    return rows, comments + [line for line in lines if line[1][0].startswith(COMMENTS)]


def _warn_of_comments(path: Path, comments: Lines, width: int) -> None:
    """Warn if comments look like segments of a recording or label whose name begins with a comment sign."""
    # A row that is commented out looks the same, so it is left out, but not without a word.
    alike = [f'line {number} ({", ".join(cells)[:60]})' for number, cells in comments
             if len(cells) == width and sum(map(looks_like_time, cells[1:])) > 1]
    if alike:
        LOGGER.warning('%s: %d lines begin with %s and are left out as comments, although they look like segments: %s; '
                       'if they are, rename what begins with this sign', path, len(alike), ', '.join(COMMENTS),
                       name_some(alike, 2))


def _read_json_rows(path: Path, default: Sequence[str]) -> Table:
    content = read_json(path, f'a list of {list(default)}')
    if not isinstance(content, list):
        raise UserError(f'{path}: {"a JSON object" if isinstance(content, dict) else type(content).__name__} at the '
                        f'top, expected a JSON list with an entry per segment, [{", ".join(default)}] or an object '
                        'with these keys; the JSON files of other tools and datasets are not read: convert them to '
                        'such a list or to CSV')
    names, rows = {}, []
    for position, entry in enumerate(content):
        cells = dict(zip(default, entry, strict=False)) if isinstance(entry, list) else entry
        if not isinstance(cells, dict) or (isinstance(entry, list) and len(entry) > len(default)):
            raise UserError(f'{path}: segment {position} is {str(entry)[:60]!r}, expected {", ".join(default)}')
        cells = {name.lower(): one_line(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
        names.update(dict.fromkeys(cells))
        rows.append(TableRow(f'segment {position}', cells))
    return Table(list(names), rows, 'a JSON list')


def one_line(cell: str) -> str:
    """Join the lines of a cell: a cell in quotes may span several lines, a label may not."""
    return re.sub(r'\s*\n\s*', ' ', cell.strip())
