"""Parse annotated times strictly: numbers of frames, seconds or milliseconds, clock times, and time codes."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from recordings.rates import FRAMES, SECONDS

MILLISECONDS = 'milliseconds'
UNITS = (FRAMES, SECONDS, MILLISECONDS)
# ASCII digits only: Fraction would also take '1/2', '1_000' and the digits of other scripts.
NUMBER = re.compile(r'[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,4})?', re.ASCII)
CLOCK = re.compile(r'(?:(\d+):)?(\d+):(\d{1,2}(?:[.,]\d*)?)', re.ASCII)  # [hours:]minutes:seconds
TIME_CODE = re.compile(r'(\d+):(\d{1,2}):(\d{1,2}):(\d{1,3})', re.ASCII)  # hours:minutes:seconds:frames
DROP_FRAME = re.compile(r'\d+:\d{1,2}:\d{1,2};\d{1,3}', re.ASCII)
# '1,000' and '1.000' are either a thousand or one; '0,500' and '1234,5' can only be decimals.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}([.,' \u00a0\u202f\u2019_]\d{3})+([.,]\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r'[+-]?(0\d*,\d+|\d{4,},\d+|\d+,(\d{1,2}|\d{4,}))', re.ASCII)


class TimeFormatError(ValueError):
    """A cell is not a time of the expected unit; the message continues '... is X, '."""


@dataclass(frozen=True)
class TimeFormat:
    """How a table writes times.

    Attributes:
        unit: one of ``UNITS``.
        decimal_comma: True if a comma in a number is known to be a decimal comma.
        timecode_rate: frames per second that the last field of hours:minutes:seconds:frames counts; None: such times
            are refused.
    """

    unit: str = FRAMES
    decimal_comma: bool = False
    timecode_rate: Fraction | None = None


def parse_time(cell: object, form: TimeFormat) -> Fraction:
    """Return a time in frames if the unit is frames, otherwise in seconds.

    Args:
        cell: cell of a table, text or a JSON number.
        form: how the table writes times.

    Raises:
        TimeFormatError: the cell is not a time in this unit, or its value is ambiguous.
    """
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise TimeFormatError(_expected(form))
    text = str(cell).strip()
    if form.unit == SECONDS and ':' in text:
        return _clock(text, form)
    if any(pattern.fullmatch(text) for pattern in (CLOCK, TIME_CODE, DROP_FRAME)):
        advice = '' if form.unit == FRAMES else '; the unit of clock times is seconds'  # for frames, the caller has one
        raise TimeFormatError(f'a clock time, {_expected(form)}{advice}')
    # A JSON number or a clock time cannot have a thousands separator.
    if isinstance(cell, str) and _is_ambiguous(text, form):
        raise TimeFormatError('which may have a thousands separator; expected plain digits with a decimal point if '
                              'needed, such as 1000 or 1.5')
    if not NUMBER.fullmatch(text):
        raise TimeFormatError(_expected(form))
    number = Fraction(text.replace(',', '.'))
    if form.unit == FRAMES and number.denominator != 1:
        raise TimeFormatError(_expected(form))
    return number / 1000 if form.unit == MILLISECONDS else number


def _expected(form: TimeFormat) -> str:
    return f'expected a {"whole " if form.unit == FRAMES else ""}number of {form.unit}'


def _is_ambiguous(text: str, form: TimeFormat) -> bool:
    """Return True if a number may have a thousands separator."""
    if not THOUSANDS.fullmatch(text):
        return False
    if form.unit == FRAMES:  # whole numbers: neither sign can be a decimal one
        return True
    separators = {letter for letter in text if not letter.isdigit()} - {'+', '-'}
    # One decimal point is common in times; a single comma is only decimal if another cell of the table shows it.
    return not (separators == {'.'} and text.count('.') == 1
                or separators == {','} and text.count(',') == 1 and form.decimal_comma)


def _clock(text: str, form: TimeFormat) -> Fraction:
    """Return the seconds of [hours:]minutes:seconds or hours:minutes:seconds:frames."""
    if DROP_FRAME.fullmatch(text):
        raise TimeFormatError('a drop-frame time code; expected hours:minutes:seconds.fraction: export the times so')
    if match := TIME_CODE.fullmatch(text):
        return _time_code(*map(int, match.groups()), form.timecode_rate)
    match = CLOCK.fullmatch(text)
    if not match:
        raise TimeFormatError('expected seconds, or minutes:seconds or hours:minutes:seconds, with a decimal point')
    hours, minutes, seconds = match[1], int(match[2]), Fraction(match[3].replace(',', '.'))
    # The first field has no limit: a video of 90 minutes may be written as 90:00.
    if seconds >= 60 or (hours is not None and minutes >= 60):
        raise TimeFormatError('expected fields after a colon below 60')
    return int(hours or 0) * 3600 + minutes * 60 + seconds


def _time_code(hours: int, minutes: int, seconds: int, frames: int, rate: Fraction | None) -> Fraction:
    """Return the seconds of a time code without dropped frames, which counts round(rate) frames per second."""
    if rate is None:
        raise TimeFormatError('hours:minutes:seconds:frames; expected the frames per second of its last field '
                              '(--timecode_fps), or times as hours:minutes:seconds.fraction')
    nominal = math.floor(rate + Fraction(1, 2))
    if minutes >= 60 or seconds >= 60 or frames >= max(nominal, 1):
        raise TimeFormatError(f'expected minutes and seconds below 60 and frames below {nominal}')
    # At 30000/1001 a time code of one second is 30 frames, which last 1.001 s.
    return (((hours * 60 + minutes) * 60 + seconds) * nominal + frames) / rate


def looks_like_time(cell: object) -> bool:
    """Return True if a cell is a time in any unit, also one that would be refused as ambiguous."""
    text = str(cell).strip()
    return any(pattern.fullmatch(text) for pattern in (NUMBER, CLOCK, TIME_CODE, DROP_FRAME, THOUSANDS))


def shows_decimal_comma(cell: object) -> bool:
    """Return True if a cell can only be a number with a decimal comma."""
    return isinstance(cell, str) and bool(DECIMAL_COMMA.fullmatch(cell.strip()))
