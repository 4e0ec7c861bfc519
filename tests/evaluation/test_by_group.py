"""Results by group of recordings."""

import math

import pytest

from evaluation.by_group import by_group_rows, rows_by_group


def test_groups_are_scored_apart():
    errors = [0.1, 0.3, 0.5, 0.4]
    rows = rows_by_group(['ann', 'bob', 'ann', 'bob'], lambda indices: {
        'num_recordings': len(indices), 'mae': sum(errors[index] for index in indices) / len(indices)})
    assert rows == {'ann': {'num_recordings': 2, 'mae': pytest.approx(0.3)},
                    'bob': {'num_recordings': 2, 'mae': pytest.approx(0.35)}}


def test_the_spread_is_of_groups_and_the_mean_row_of_their_means_over_tasks():
    tables = {'ogpe': {'tea': {'ann': {'num_recordings': 2, 'ogpe': 0.1}, 'bob': {'num_recordings': 1, 'ogpe': 0.3}},
                       'pie': {'ann': {'num_recordings': 1, 'ogpe': 0.5}}}}
    rows = by_group_rows(tables)
    assert [(row['task'], row['table'], row['column']) for row in rows] == [
        (task, 'ogpe', 'ogpe') for task in ('tea', 'pie', 'MEAN')]
    assert rows[0] == pytest.approx({'task': 'tea', 'table': 'ogpe', 'column': 'ogpe', 'num_groups': 2, 'mean': 0.2,
                                     'std': 0.2 / math.sqrt(2), 'group_ann': 0.1, 'group_bob': 0.3})
    assert (rows[1]['num_groups'], rows[1]['mean']) == (1, 0.5)
    assert math.isnan(rows[1]['std']) and math.isnan(rows[1]['group_bob'])
    # 0.3 is the mean of ann's tasks; bob does one of them.
    assert rows[2] == pytest.approx({'task': 'MEAN', 'table': 'ogpe', 'column': 'ogpe', 'num_groups': 2, 'mean': 0.3,
                                     'std': 0, 'group_ann': 0.3, 'group_bob': 0.3})


def test_groups_without_a_value_do_not_count():
    rows = by_group_rows({'unsegmented': {'tea': {'ann': {'mae': 0.2, 'edit': math.nan},
                                                  'bob': {'mae': math.nan, 'edit': math.nan}}}})
    found = {(row['task'], row['column']): row for row in rows}
    for task in ('tea', 'MEAN'):
        assert (found[task, 'mae']['num_groups'], found[task, 'mae']['mean']) == (1, 0.2)
        assert found[task, 'edit']['num_groups'] == 0 and math.isnan(found[task, 'edit']['mean'])
        assert math.isnan(found[task, 'mae']['std'])


def test_the_skill_of_a_group_is_that_of_its_mean_errors():
    names = ('constant', 'average_index', 'cumulative_distance', 'survival')
    task_rows = [{'mae': mae, **{f'baseline_{name}': baseline for name in names}, 'skill': 1 - mae / baseline}
                 for mae, baseline in ((0.1, 0.2), (0.3, 0.4))]
    rows = by_group_rows({'action_progress': {'tea': {'ann': task_rows[0]}, 'pie': {'ann': task_rows[1]}}})
    skills = {row['task']: row['mean'] for row in rows if row['column'] == 'skill'}
    assert skills == pytest.approx({'tea': 0.5, 'pie': 0.25, 'MEAN': 1 - 0.2 / 0.3})
