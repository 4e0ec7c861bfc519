"""Recognize the columns of a table by their names, which may carry a unit: start_frame, Begin Time - msec."""

import re
from collections.abc import Mapping, Sequence

from recordings.rates import FRAMES, SECONDS
from recordings.times import MILLISECONDS, UNITS

# Accepted names, first the name used here.
LABEL_NAMES = ('label', 'action', 'step', 'class', 'name', 'annotation', 'phase', 'activity', 'gesture')
RECORDING_NAMES = ('recording', 'video', 'video_id', 'video_name', 'handle', 'file', 'filename')
COLUMNS = ('start', 'end', 'label', 'recording')
_WORDS = {'start': ('start', 'begin', 'onset', 'from', 'beginning'),
          'end': ('end', 'stop', 'offset', 'to')}
_NEUTRAL = ('time', 'times', 't', 'at', 'number', 'no', 'nr', 'idx', 'index', 'pos', 'position')
# Word of a column's name -> units that its times can have.
_UNIT_WORDS = {
    **dict.fromkeys(('frame', 'frames', 'framenumber', 'fr'), {FRAMES}),
    **dict.fromkeys(('s', 'sec', 'secs', 'second', 'seconds', 'hh', 'ss', 'hms', 'timecode', 'clock'), {SECONDS}),
    **dict.fromkeys(('ms', 'msec', 'msecs', 'millis', 'millisecond', 'milliseconds'), {MILLISECONDS}),
    **dict.fromkeys(('timestamp', 'timestamps'), {SECONDS, MILLISECONDS})}
_ALL_WORDS = sorted({*_WORDS['start'], *_WORDS['end'], *_NEUTRAL, *_UNIT_WORDS, 'mm'}, key=len, reverse=True)
_JOINED = re.compile('|'.join(_ALL_WORDS))


def units_of(name: str, column: str) -> frozenset[str] | None:
    """Return the units that the times of a column can have.

    Args:
        name: name of the column in the file, such as 'start_frame' or 'End Time - ss.msec'.
        column: 'start' or 'end'.

    Returns:
        A subset of ``UNITS``, all of them if the name carries no unit; None if the name is not that of such a column.
    """
    words = _words(name)
    if words is None or not any(word in _WORDS[column] for word in words):
        return None
    return _units(words)


def unit_in_name(name: str) -> frozenset[str]:
    """Return the units that a column's name allows, whatever the column; all if it carries no unit."""
    return _units([word for word in re.findall('[a-z]+', name.lower()) if word in _UNIT_WORDS])


def _units(words: Sequence[str]) -> frozenset[str]:
    if 'hh' in words or 'ss' in words:  # ELAN: 'Begin Time - hh:mm:ss.ms', 'Begin Time - ss.msec'
        return frozenset({SECONDS})
    units = set(UNITS)
    for word in words:
        units &= _UNIT_WORDS.get(word, set(UNITS))
    return frozenset(units)


def _words(name: str) -> list[str] | None:
    """Return the known words of a column's name, also of a joined one such as 'startframe'; None if one is unknown."""
    found: list[str] = []
    for word in re.findall('[a-z]+', name.lower()):
        parts = [word] if word in _ALL_WORDS else _JOINED.findall(word)
        if ''.join(parts) != word:
            return None
        found += parts
    return found or None


def find_time_column(names: Sequence[str], column: str, unit: str) -> tuple[str | None, list[str]]:
    """Choose a column of times by its name.

    Args:
        names: names of the table's columns.
        column: 'start' or 'end'.
        unit: unit of the times.

    Returns:
        The column whose name carries the unit, else the first one without a unit, or None; and the columns that
        would fit if they had that unit.
    """
    units = {name: found for name in names if (found := units_of(name, column)) is not None}
    fitting = [name for name, found in units.items() if unit in found]
    chosen = min(fitting, key=lambda name: len(units[name]), default=None)  # the first of the most specific
    return chosen, [name for name in units if name not in fitting]


def find_named_column(names: Sequence[str], accepted: Sequence[str], taken: Mapping[str, str]) -> str | None:
    """Return the first accepted spelling that is a column, 'Video ID' for 'video_id'; None if there is no such."""
    spelled = {re.sub(r'[\s-]+', '_', name): name for name in reversed(names) if name not in taken.values()}
    return next((spelled[name] for name in accepted if name in spelled), None)
