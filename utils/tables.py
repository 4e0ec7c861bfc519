"""Tables of metrics: a row per task and a MEAN row, as CSV and as text."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files import atomic_path

MEAN = 'MEAN'
DIGITS = 4  # decimals shown
Row = dict[str, str | float]


def with_mean_row(rows: Sequence[Row]) -> list[Row]:
    """Append the mean of each column over the tasks that have a value."""
    means: Row = {'task': MEAN}
    for column in list(rows[0])[1:]:
        values = [row[column] for row in rows if not math.isnan(row[column])]
        means[column] = sum(values) / len(values) if values else math.nan
    return [*rows, means]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write a table as CSV; a value that there is not stays empty."""
    with atomic_path(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({column: '' if _absent(value) else value for column, value in row.items()} for row in rows)


def format_table(rows: Sequence[Mapping], title: str) -> str:
    """Return a table as aligned text under its title."""
    cells = [[str(column) for column in rows[0]], *([show_value(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ['  '.join(cell.ljust(width) if column == 0 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in cells]
    return '\n'.join([title, lines[0], '-' * len(lines[0]), *lines[1:]])


def _absent(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def show_value(value: object) -> str:
    """Return a value of a table as text: numbers with DIGITS decimals, a dash for one that there is not."""
    if _absent(value):
        return '-'
    return f'{value:.{DIGITS}f}' if isinstance(value, float) else str(value)
