"""Decide which line of a table is its header and which column is which; a missing header is asked for, not guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recordings.rates import FRAMES
from recordings.time_columns import (
    LABEL_NAMES,
    RECORDING_NAMES,
    find_named_column,
    find_time_column,
    unit_in_name,
    units_of,
)
from recordings.times import looks_like_time
from utils.errors import UserError

UNNAMED = ('start', 'end', 'label')  # columns of a table without column names, in this order


@dataclass(frozen=True)
class TableColumns:
    """What a table's columns are expected to be.

    Attributes:
        unit: unit of the times.
        given: 'start', 'end', 'label', 'recording' -> name or number of the column, if the user names it.
        needs_labels: True if there must be a column of labels.
        column_advice: what the user can do about an unknown column; '{}' is the column; added to the message.
        unit_advice: what the user can do about another unit; added to the message.
    """

    unit: str
    given: Mapping[str, str]
    needs_labels: bool
    column_advice: str = ''
    unit_advice: str = ''


def name_columns(path: Path, lines: Sequence[Sequence[str]], wanted: TableColumns) -> Sequence[str] | None:
    """Return the names of the columns if the first line is data, or None if the first line is a header.

    Args:
        path: file, for messages.
        lines: cells of all lines, at least one.
        wanted: what the columns are expected to be.

    Raises:
        UserError: there is no header, and the columns could have another order than start, end, label.
    """
    first = [cell.lower() for cell in lines[0]]
    # Without column names, two columns are enough if segments do not need labels.
    least = len(UNNAMED) if wanted.needs_labels else len(UNNAMED) - 1
    if wanted.given and all(name.isdecimal() for name in wanted.given.values()) and not {
            *wanted.given.values()} <= {*first}:
        return [str(number) for number in range(1, max(len(line) for line in lines) + 1)]
    # Both columns of times have known names: a header, even if a label looks like a number.
    recognized = all(any(units_of(cell, column) for cell in first) for column in ('start', 'end'))
    if recognized or not any(map(looks_like_time, first)):
        return None
    if wanted.given and {name.lower() for name in wanted.given.values()} <= {*first}:
        return None
    in_order = len(first) >= least and all(map(looks_like_time, first[:2]))
    # A third column of numbers may be a time as well: label, start, end is as common as start, end, label.
    if in_order and not wanted.given and any(len(line) < 3 or not looks_like_time(line[2]) for line in lines):
        return UNNAMED[:max(len(line) for line in lines)]
    numbers = ' '.join(f'{column}={number}' for number, column in enumerate(UNNAMED, 1))
    by_number = f', or number the columns: --columns {numbers}' if wanted.column_advice else ''
    raise UserError(f'{path}: its first line ({", ".join(lines[0])[:80]}) contains times, so the file has no header, '
                    'and the order of its columns is not certain; expected a header such as '
                    f'recording,start,end,label: add it{by_number}')


def choose_columns(path: Path, names: Sequence[str], wanted: TableColumns) -> dict[str, str]:
    """Return 'start', 'end', 'label', 'recording' -> name of the column in the file, for those that the table has.

    Args:
        path: file, for messages.
        names: names of the table's columns, in lower case.
        wanted: what the columns are expected to be.

    Raises:
        UserError: a column is missing or ambiguous, or its name contradicts the unit of the times.
    """
    columns: dict[str, str] = {}
    for column, name in wanted.given.items():
        columns[column] = _given_column(path, names, column, name.lower(), wanted)
    for column in ('start', 'end'):
        if column not in columns:
            columns[column] = _time_column(path, names, column, wanted)
    if 'recording' not in columns and (found := find_named_column(names, RECORDING_NAMES, columns)):
        columns['recording'] = found
    if 'label' not in columns:
        if found := find_named_column(names, LABEL_NAMES, columns):
            columns['label'] = found
        # The column of labels may be missing, but a column whose name could be a misspelling of it is not ignored.
        elif wanted.needs_labels or not set(names) <= {*columns.values()}:
            raise _missing(path, names, 'label', ', '.join(LABEL_NAMES), wanted)
    if twice := next((name for name in columns.values() if names.count(name) > 1), None):
        raise UserError(f'{path}: the column {twice} occurs {names.count(twice)} times, expected it once; rename one')
    chosen = {column: columns[column] for column in ('recording', *UNNAMED) if column in columns}
    if shared := next((name for name in chosen.values() if [*chosen.values()].count(name) > 1), None):
        roles = ' and '.join(column for column, name in chosen.items() if name == shared)
        raise UserError(f'{path}: the column {shared} is given as {roles}, expected a column for each; correct '
                        '--columns')
    return chosen


def _given_column(path: Path, names: Sequence[str], column: str, name: str, wanted: TableColumns) -> str:
    if name not in names:
        raise _missing(path, names, column, name, wanted)
    # The whole name 's' is rather short for start than for seconds.
    if column in ('start', 'end') and len(name) > 1 and wanted.unit not in (allowed := unit_in_name(name)):
        raise _other_unit(path, [name], allowed, wanted)
    return name


def _time_column(path: Path, names: Sequence[str], column: str, wanted: TableColumns) -> str:
    found, others = find_time_column(names, column, wanted.unit)
    if found:
        return found
    if others:
        raise _other_unit(path, others, units_of(others[0], column) or frozenset(), wanted)
    raise _missing(path, names, column, {'start': 'start, start_time, begin, onset, from',
                                         'end': 'end, end_time, stop, offset, to'}[column], wanted)


def _other_unit(path: Path, names: Sequence[str], units: frozenset[str], wanted: TableColumns) -> UserError:
    found = ' or '.join(sorted(units)) or 'several units'
    advice = wanted.unit_advice if wanted.unit == FRAMES else ''
    return UserError(f'{path}: {" and ".join(names)} is in {found}, expected {wanted.unit}{advice}; give the unit of '
                     'the column, or rename it')


def _missing(path: Path, names: Sequence[str], column: str, accepted: str, wanted: TableColumns) -> UserError:
    found = f'the columns {", ".join(names)}' if names else 'no column'
    return UserError(f'{path}: found {found}; expected one for the {column} ({accepted}); rename it'
                     f'{wanted.column_advice.format(column)}')
