"""Read the rows of a CSV or JSON table, with the names of their columns."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recordings.segment_list import read_text
from utils.errors import UserError
from utils.files import read_json

DELIMITERS = ',;\t'
ENDINGS = ('.csv', '.json')


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
    """Rows and the names of their columns, in lower case and in the file's order."""

    names: list[str]
    rows: list[TableRow]


def read_rows(path: Path, default: Sequence[str], is_row: Callable[[Sequence[str]], bool]) -> Table:
    """Read a table.

    Args:
        path: a ``.json`` file is a list of lists or of objects; any other file is CSV with any of ``DELIMITERS``.
        default: column names, if the file does not give them.
        is_row: returns True if the cells of the first line of a CSV file are a row, False if they are column names.

    Raises:
        UserError: the file cannot be read, is empty, or a row has more cells than there are columns.
    """
    if path.suffix.lower() == '.json':
        return _read_json_rows(path, default)
    return _read_csv_rows(path, default, is_row)


def _read_csv_rows(path: Path, default: Sequence[str], is_row: Callable[[Sequence[str]], bool]) -> Table:
    text = read_text(path)
    header = next((line for line in text.splitlines() if line.strip()), '')
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [one_line(cell) for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f'{path}: line {reader.line_num}: not valid CSV ({error}); close each quote, and double a '
                        'quote within a quoted label') from error
    if not lines:
        raise UserError(f'{path}: is empty, expected rows of start, end and label')
    if is_row(lines[0][1]):
        names = list(default)[:max(len(cells) for _, cells in lines)]
    else:
        names = [cell.lower() for cell in lines[0][1]]
        lines = lines[1:]
    rows = []
    for number, cells in lines:
        if any(cells[len(names):]):
            raise UserError(f'{path}: line {number}: {len(cells)} cells, expected {", ".join(names)}; put a label that '
                            f'contains {delimiter!r} in quotes, or name all columns in the first line')
        rows.append(TableRow(f'line {number}', dict(zip(names, cells, strict=False))))
    return Table(names, rows)


def _read_json_rows(path: Path, default: Sequence[str]) -> Table:
    content = read_json(path, f'a list of {list(default)}')
    if not isinstance(content, list):
        raise UserError(f'{path}: {type(content).__name__} at the top, expected a list with an entry per segment')
    names, rows = {}, []
    for position, entry in enumerate(content):
        cells = dict(zip(default, entry, strict=False)) if isinstance(entry, list) else entry
        if not isinstance(cells, dict) or (isinstance(entry, list) and len(entry) > len(default)):
            raise UserError(f'{path}: segment {position} is {str(entry)[:60]!r}, expected {", ".join(default)}')
        cells = {name.lower(): one_line(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
        names.update(dict.fromkeys(cells))
        rows.append(TableRow(f'segment {position}', cells))
    return Table(list(names), rows)


def one_line(cell: str) -> str:
    """Join the lines of a cell: a cell in quotes may span several lines, a label may not."""
    return re.sub(r'\s*\n\s*', ' ', cell.strip())
