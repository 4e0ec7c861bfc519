"""What the columns of the tables are and which way is better; each is described next to the function behind it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Described = TypeVar('Described')


class Column(NamedTuple):
    """What a column holds.

    Attributes:
        better: 'higher' or 'lower'; '' if neither is, as for a count or a baseline.
        text: one line.
    """

    better: str
    text: str

    @property
    def arrow(self) -> str:
        """The direction of better values as an arrow after a hard space; empty if there is none."""
        return {'higher': '\N{NO-BREAK SPACE}↑', 'lower': '\N{NO-BREAK SPACE}↓'}.get(self.better, '')


_COLUMNS: dict[tuple[str, str], Column] = {}


def describe(table: str, columns: dict[str, tuple[str, str]]) -> None:
    """Register what columns of a table are: name -> ('higher', 'lower' or '', one line)."""
    for name, entry in columns.items():
        _COLUMNS[table, name] = Column(*entry)


def describes(table: str, **columns: tuple[str, str]) -> Callable[[Described], Described]:
    """Return a decorator that registers the columns of a table which a function computes, see :func:`describe`."""
    def decorate(function: Described) -> Described:
        describe(table, columns)
        return function

    return decorate


def column_of(table: str, name: str) -> Column:
    """Return what a column is; without text or direction if it is not described, as a metric that was just added."""
    return _COLUMNS.get((table, name), Column('', ''))


def described_columns(table: str) -> list[str]:
    """Return the names of a table's described columns."""
    return [name for described, name in _COLUMNS if described == table]


def best_places(values: Sequence[float], better: str) -> set[int]:
    """Return the indices of the best values; empty if no direction is better or all values present agree."""
    present = {value for value in values if value == value}  # NaN differs from itself
    if not better or len(present) < 2:
        return set()
    best = max(present) if better == 'higher' else min(present)
    return {place for place, value in enumerate(values) if value == best}
