"""Annotated times: formats, units, what is ambiguous, and what the names of columns say."""

from fractions import Fraction

import pytest

from recordings.rates import FRAMES, SECONDS
from recordings.time_columns import find_time_column, units_of
from recordings.times import MILLISECONDS, UNITS, TimeFormat, TimeFormatError, looks_like_time, parse_time

FILM = Fraction(30000, 1001)


@pytest.mark.parametrize(('cell', 'unit', 'expected'), [
    ('12', FRAMES, 12), ('12.0', FRAMES, 12), (12.0, FRAMES, 12), ('1e3', FRAMES, 1000), ('1000', FRAMES, 1000),
    ('1.5', SECONDS, Fraction(3, 2)), ('1,5', SECONDS, Fraction(3, 2)), ('.5', SECONDS, Fraction(1, 2)),
    (' 2. ', SECONDS, 2), ('1.234', SECONDS, Fraction(1234, 1000)), ('0,500', SECONDS, Fraction(1, 2)),
    ('1234,567', SECONDS, Fraction(1234567, 1000)), (1000.125, SECONDS, Fraction(8001, 8)),
    ('1500', MILLISECONDS, Fraction(3, 2)), ('62,5', MILLISECONDS, Fraction(1, 16)),
    ('0:01.5', SECONDS, Fraction(3, 2)), ('90:15', SECONDS, 5415), ('1:02:03', SECONDS, 3723),
    ('00:00:00.14', SECONDS, Fraction(14, 100)), ('00:00:01,500', SECONDS, Fraction(3, 2)),
    ('100:59:59', SECONDS, 363599)])
def test_times_are_parsed_exactly(cell, unit, expected):
    assert parse_time(cell, TimeFormat(unit)) == expected and looks_like_time(cell)


@pytest.mark.parametrize(('cell', 'unit', 'reason'), [
    ('1,000', FRAMES, 'thousands'), ('1.000', FRAMES, 'thousands'), ('12,345', SECONDS, 'thousands'),
    ('1,234.5', SECONDS, 'thousands'), ('1.234,5', SECONDS, 'thousands'), ('1.234.567', SECONDS, 'thousands'),
    ("1'000", FRAMES, 'thousands'), ('1 000', FRAMES, 'thousands'), ('1\u00a0000', MILLISECONDS, 'thousands'),
    ('1_000', FRAMES, 'thousands'), ('1,000,000', MILLISECONDS, 'thousands'),
    ('1/2', SECONDS, 'a number of seconds'), ('12_5', SECONDS, 'a number of seconds'), ('nan', SECONDS, 'number'),
    ('inf', SECONDS, 'number'), ('', FRAMES, 'a whole number of frames'), ('\u0661', FRAMES, 'whole number'),
    ('12s', SECONDS, 'number of sec'), ('1:30', FRAMES, 'clock time, expected'), ('1.5', FRAMES, 'whole number'),
    ('0:05', MILLISECONDS, 'clock time, .*; the unit of'), (True, SECONDS, 'number'), (None, FRAMES, 'number'),
    ('0:60', SECONDS, 'below 60'), ('1:75:00', SECONDS, 'below 60'), ('0:59.99:1', SECONDS, 'minutes:seconds'),
    ('-0:01', SECONDS, 'minutes:seconds'), ('0:1:2:3:4', SECONDS, 'minutes:seconds'),
    ('00:00:01:12', SECONDS, '--timecode_fps'), ('00:00:01;12', SECONDS, 'drop-frame')])
def test_times_that_are_refused(cell, unit, reason):
    with pytest.raises(TimeFormatError, match=reason):
        parse_time(cell, TimeFormat(unit))


def test_a_comma_is_decimal_if_another_cell_shows_it():
    form = TimeFormat(SECONDS, decimal_comma=True)
    assert parse_time('12,345', form) == Fraction(12345, 1000)
    for cell in ('1,234.5', '1,234,567'):
        with pytest.raises(TimeFormatError, match='thousands'):
            parse_time(cell, form)
    with pytest.raises(TimeFormatError, match='thousands'):
        parse_time('12,345', TimeFormat(FRAMES, decimal_comma=True))


@pytest.mark.parametrize(('cell', 'rate', 'expected'), [
    ('00:00:01:00', 25, 1), ('00:00:02:12', 25, Fraction(62, 25)), ('01:00:00:00', 24, 3600),
    # 30 frames are counted per second, and they last 1.001 seconds.
    ('00:00:01:00', FILM, Fraction(1001, 1000)), ('00:01:00:15', FILM, 1815 / FILM)])
def test_time_codes_count_frames_at_their_own_rate(cell, rate, expected):
    assert parse_time(cell, TimeFormat(SECONDS, timecode_rate=Fraction(rate))) == expected


@pytest.mark.parametrize('cell', ['00:00:01:25', '00:60:00:00', '00:00:60:00'])
def test_fields_of_time_codes_are_limited(cell):
    with pytest.raises(TimeFormatError, match='below 60 and frames below 25'):
        parse_time(cell, TimeFormat(SECONDS, timecode_rate=Fraction(25)))


@pytest.mark.parametrize(('name', 'column', 'units'), [
    ('start', 'start', UNITS), ('start_time', 'start', UNITS), ('offset', 'end', UNITS), ('t_start', 'start', UNITS),
    ('start_frame', 'start', [FRAMES]), ('startframe', 'start', [FRAMES]), ('frame_start', 'start', [FRAMES]),
    ('stop_frame', 'end', [FRAMES]), ('end_sec', 'end', [SECONDS]), ('end [s]', 'end', [SECONDS]),
    ('startsec', 'start', [SECONDS]), ('begin time - hh:mm:ss.ms', 'start', [SECONDS]),
    ('begin time - ss.msec', 'start', [SECONDS]), ('end time - msec', 'end', [MILLISECONDS]),
    ('start_ms', 'start', [MILLISECONDS]), ('stop_timestamp', 'end', [SECONDS, MILLISECONDS]),
    ('start', 'end', None), ('starter', 'start', None), ('duration', 'end', None), ('label', 'start', None)])
def test_names_of_columns_carry_units(name, column, units):
    assert units_of(name, column) == (None if units is None else frozenset(units))


def test_the_column_of_the_unit_is_preferred():
    names = ['start', 'start_frame', 'start_timestamp']
    assert [find_time_column(names, 'start', unit)[0] for unit in UNITS] == ['start_frame', 'start_timestamp',
                                                                            'start_timestamp']
    assert find_time_column(['start_frame', 'stop_frame'], 'start', SECONDS) == (None, ['start_frame'])
