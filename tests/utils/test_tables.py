"""Tables: the MEAN row, CSV and text."""

import csv
import math

import numpy as np
import pytest

from evaluation import evaluate
from evaluation.baselines import BASELINES
from utils.tables import format_table, with_mean_row, write_table

NAN = math.nan
ROWS = [{'task': 'tea', 'count': 3, 'mae': 0.25, 'mae_long': NAN, 'none': NAN},
        {'task': 'pie', 'count': 4, 'mae': 0.75, 'mae_long': np.float64(0.5), 'none': NAN}]


def test_mean_is_over_the_tasks_that_have_a_value():
    *tasks, mean = with_mean_row(ROWS)
    assert tasks == ROWS and list(mean) == list(ROWS[0])
    assert mean == pytest.approx({'task': 'MEAN', 'count': 3.5, 'mae': 0.5, 'mae_long': 0.5, 'none': NAN}, nan_ok=True)


def test_csv_has_full_precision_and_empty_cells(tmp_path):
    path = tmp_path / 'table.csv'
    write_table(with_mean_row([{**ROWS[0], 'task': 'tea, "hot"', 'mae': 1 / 3}, ROWS[1]]), path)
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['task'] for row in rows] == ['tea, "hot"', 'pie', 'MEAN']
    assert float(rows[0]['mae']) == 1 / 3 and rows[0]['count'] == '3'
    assert [row['mae_long'] for row in rows] == ['', '0.5', '0.5'] and {row['none'] for row in rows} == {''}
    assert [other.name for other in tmp_path.iterdir()] == ['table.csv'], 'no temporary file is left'


def test_text_is_aligned_and_shows_missing_values():
    title, header, rule, *rows = format_table(ROWS, 'progress').splitlines()
    assert title == 'progress' and set(rule) == {'-'} and {len(line) for line in (header, rule, *rows)} == {len(rule)}
    assert header.split() == list(ROWS[0])
    assert rows[0].split() == ['tea', '3', '0.2500', '-', '-'] and rows[1].split()[-2:] == ['0.5000', '-']


def test_skill_of_the_mean_row_is_computed_from_the_means():
    def row(task, mae, **baselines):
        columns = {f'baseline_{name}': baselines.get(name, 0.9) for name in BASELINES}
        return {'task': task, 'mae': mae, **columns, 'skill': 0.123}

    tables = evaluate.finish_tables({'action_progress': [row('tea', 0.1, constant=0.2, average_index=0.4),
                                                         row('pie', 0.3, constant=0.8, average_index=0.4)],
                                     'ogpe': [{'task': 'tea', 'ogpe': 0.5}], 'empty': []})
    assert set(tables) == {'action_progress', 'ogpe'}
    *tasks, mean = tables['action_progress']
    assert mean['mae'] == pytest.approx(0.2) and mean['task'] == 'MEAN'
    # The best baseline of the MEAN row is average-index at 0.4, though tea alone has a better one.
    assert mean['skill'] == pytest.approx(1 - 0.2 / 0.4)
    assert [task['skill'] for task in tasks] == [0.123, 0.123]
