"""Formats of a table that compares runs: text, Markdown, LaTeX, and CSV."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from utils.tables import DIGITS, align_columns

Values = dict[str, float]  # 'table.column' -> value, NaN if missing
TEX_ESCAPES = {'\\': r'\textbackslash{}', **{character: f'\\{character}' for character in '&%$#_{}'},
               '~': r'\textasciitilde{}', '^': r'\textasciicircum{}'}


@dataclass(frozen=True)
class Summary:
    """A row of the comparison.

    Attributes:
        name: of the configuration, or of the baseline.
        runs: number of runs; None for a baseline.
        means: column -> mean over the runs that have a value.
        spreads: column -> sample standard deviation over them; NaN for fewer than two.
    """

    name: str
    runs: int | None
    means: Values
    spreads: Values


def _cells(rows: Sequence[Summary], columns: Sequence[str]) -> list[list[str]]:
    """Return the cells of a table, its header first; a spread that is not there or 0 is not shown."""
    def show(row: Summary, column: str) -> str:
        mean, spread = row.means[column], row.spreads[column]
        if math.isnan(mean):
            return '-'
        return f'{mean:.{DIGITS}f}' + (f' ± {spread:.{DIGITS}f}' if spread >= 0.5 * 10 ** -DIGITS else '')

    names = [column.partition('.')[2] for column in columns]
    # The name of the table only if two tables have such a column: mae.
    header = [name if names.count(name) == 1 else column for name, column in zip(names, columns, strict=True)]
    return [['', 'runs', *header], *([row.name, '-' if row.runs is None else str(row.runs),
                                       *(show(row, column) for column in columns)] for row in rows)]


def as_text(rows: Sequence[Summary], columns: Sequence[str]) -> str:
    """Return an aligned table."""
    lines = ['  '.join(row).rstrip() for row in align_columns(_cells(rows, columns))]
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])


def as_markdown(rows: Sequence[Summary], columns: Sequence[str]) -> str:
    """Return a table in Markdown."""
    header, *others = ['| ' + ' | '.join(row) + ' |' for row in align_columns(_cells(rows, columns))]
    return '\n'.join([header, '|---|' + '---:|' * (len(columns) + 1), *others])


def as_latex(rows: Sequence[Summary], columns: Sequence[str]) -> str:
    """Return a ``tabular`` that needs no package."""
    def escape(text: str) -> str:
        return ''.join(TEX_ESCAPES.get(character, character) for character in text)

    header, *others = _cells(rows, columns)
    lines = [' & '.join([escape(row[0]), *(cell.replace('±', r'$\pm$') for cell in row[1:])]) + r' \\'
             for row in others]
    return '\n'.join([rf'\begin{{tabular}}{{l{"r" * (len(columns) + 1)}}}', r'\hline',
                      ' & '.join(map(escape, header)) + r' \\', r'\hline', *lines, r'\hline', r'\end{tabular}'])


def as_csv(rows: Sequence[Summary], columns: Sequence[str]) -> str:
    """Return CSV with all digits; mean and std of a column are two columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['name', 'runs', *(name for column in columns for name in (column, f'{column}_std'))])
    for row in rows:
        values = [value for column in columns for value in (row.means[column], row.spreads[column])]
        writer.writerow([row.name, row.runs, *(None if math.isnan(value) else value for value in values)])
    return text.getvalue().rstrip('\n')


WRITERS: dict[str, Callable[[Sequence[Summary], Sequence[str]], str]] = {
    '.csv': as_csv, '.tex': as_latex, '.md': as_markdown}
