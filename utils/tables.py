"""Tables of metrics with a row per task and a MEAN row, as CSV and as text."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files import write_csv
from utils.text import printable

MEAN = 'MEAN'
DIGITS = 4  # decimals shown
Row = dict[str, str | float]


def with_mean_row(rows: Sequence[Row]) -> list[Row]:
    """Append a row with the mean of each column over the tasks that have a value."""
    means: Row = {'task': MEAN}
    for column in list(rows[0])[1:]:
        # A task without a value neither counts as 0 nor makes the mean NaN.
        values = [row[column] for row in rows if not math.isnan(row[column])]
        means[column] = sum(values) / len(values) if values else math.nan
    return [*rows, means]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write a table as CSV; missing values are empty cells."""
    write_csv(path, rows[0], ([None if _absent(row[column]) else row[column] for column in rows[0]] for row in rows))


def format_table(rows: Sequence[Mapping], title: str) -> str:
    """Format a table as aligned text below its title."""
    cells = [[str(column) for column in rows[0]], *([show_value(value) for value in row.values()] for row in rows)]
    lines = ['  '.join(row) for row in align_columns(cells)]
    return '\n'.join([title, lines[0], '-' * len(lines[0]), *lines[1:]])


def align_columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[list[str]]:
    """Pad the cells of each column to the same width.

    Args:
        rows: cells of each row; all rows have the same number of cells.
        left: number of columns that are left-aligned; the others are right-aligned.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) if position < left else cell.rjust(width)
             for position, (cell, width) in enumerate(zip(row, widths, strict=True))] for row in rows]


def _absent(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def show_value(value: object) -> str:
    """Format a value of a table on one line: floats with DIGITS decimals, `-` if missing."""
    if _absent(value):
        return '-'
    return f'{value:.{DIGITS}f}' if isinstance(value, float) else printable(str(value))
