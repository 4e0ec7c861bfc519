"""Rows from files, streams and Python, compared."""

import csv
import io
import json

import pytest

from prediction import FrameProgress

TEXT = ('recording', 'step', 'next_step')


def read_rows(text, form='csv'):
    """The rows that predict.py wrote, as dicts of values."""
    if form == 'jsonl':
        return [json.loads(line) for line in text.splitlines()]
    return [{name: None if cell == '' else cell if name in TEXT else json.loads(cell) for name, cell in row.items()}
            for row in csv.DictReader(io.StringIO(text))]


def assert_equal_rows(rows, expected):
    """Each a list of rows or of dicts of them; equal to 3e-5, seconds to two milliseconds.

    The rounding of embeddings, which a network computes in batches of other sizes, is the larger part of that.
    """
    assert len(rows) == len(expected) > 0
    for pair in zip(rows, expected, strict=True):
        one, other = (row._asdict() if isinstance(row, FrameProgress) else row for row in pair)
        assert list(one) == list(other)
        for name, value in one.items():
            if type(value) is float:
                tolerance = 2e-3 if name.endswith('_s') else 3e-5
                assert value == pytest.approx(other[name], rel=1e-4 if name.endswith('_s') else 0, abs=tolerance), name
            else:
                assert value == other[name], name
