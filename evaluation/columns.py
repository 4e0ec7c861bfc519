"""Descriptions of table columns and their better direction, registered next to the functions that compute them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Described = TypeVar('Described')
COUNT_PREFIX = 'num_'  # of the names of columns that are counts, not metrics


class Column(NamedTuple):
    """Description of a column.

    Attributes:
        better: 'higher' or 'lower'; '' if neither is better, for example for a count or a baseline.
        text: description in one line.
    """

    better: str
    text: str

    @property
    def arrow(self) -> str:
        """The direction of better values as an arrow after a no-break space; empty if there is no such direction."""
        return {'higher': '\N{NO-BREAK SPACE}↑', 'lower': '\N{NO-BREAK SPACE}↓'}.get(self.better, '')


# (table, column) -> description. Filled when the modules that compute the columns are imported.
_COLUMNS: dict[tuple[str, str], Column] = {}


def describe(table: str, columns: dict[str, tuple[str, str]]) -> None:
    """Register descriptions of a table's columns: name -> ('higher', 'lower' or '', description in one line)."""
    for name, entry in columns.items():
        _COLUMNS[table, name] = Column(*entry)


def describes(table: str, **columns: tuple[str, str]) -> Callable[[Described], Described]:
    """Return a decorator that registers the columns that a function computes, see :func:`describe`."""
    def decorate(function: Described) -> Described:
        describe(table, columns)
        return function

    return decorate


def column_of(table: str, name: str) -> Column:
    """Return the description of a column; without text and direction if the column is not registered."""
    return _COLUMNS.get((table, name), Column('', ''))


def described_columns(table: str) -> list[str]:
    """Return the names of a table's described columns."""
    return [name for described, name in _COLUMNS if described == table]


def best_places(values: Sequence[float], better: str) -> set[int]:
    """Return the indices of the best values; empty if no direction is better or all values present agree."""
    present = {value for value in values if value == value}  # NaN differs from itself
    if not better or len(present) < 2:
        # Fewer than two distinct values: all are equally good, and marking them would suggest a difference.
        return set()
    best = max(present) if better == 'higher' else min(present)
    return {place for place, value in enumerate(values) if value == best}
