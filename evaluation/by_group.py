"""Results by group of test recordings (people), and their variation between groups."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluation.columns import COUNT_PREFIX, column_of
from evaluation.progress_metrics import finish_tables
from utils.tables import MEAN, Row

BY_GROUP_TABLE = 'by_group'
GROUP_PREFIX = 'group_'  # of the columns that hold the values of the groups
RowOf = Callable[[Sequence[int]], Mapping[str, float]]
RowsByGroup = dict[str, dict[str, Row]]  # task -> group -> row of a table


def rows_by_group(groups: Sequence[str], row_of: RowOf) -> dict[str, Row]:
    """Return a table's row for each group of test recordings.

    Args:
        groups: group of each test recording.
        row_of: returns the columns for a subset of the recordings, given by indices; predictors fitted to training
            recordings are not refitted.

    Returns:
        Group -> its columns, groups sorted.
    """
    # In one pass: if every recording is a group of its own, a pass per group would be quadratic.
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    return {group: dict(row_of(members[group])) for group in sorted(members)}


def by_group_rows(tables: Mapping[str, RowsByGroup]) -> list[Row]:
    """Return the rows of ``by_group.csv``: mean and spread over groups of each column of each table.

    Args:
        tables: name of the table -> task -> group -> row.

    Returns:
        A row per task, table and column, the tasks' MEAN last (over groups, of each group's mean over its tasks), with
        'task', 'table', 'column', 'num_groups' (that have a value), 'mean' and 'std' (between groups, n - 1 in the
        denominator; NaN for fewer than two), and ``group_<group>``, the value of each group. Counts, whose names
        start with 'num_', are left out.
    """
    # Groups of all tasks, so that all rows have the same columns; a task that does not test a group leaves it empty.
    groups = sorted({group for tasks in tables.values() for rows in tasks.values() for group in rows})
    result = []
    for name, tasks in tables.items():
        for task, rows in {**tasks, MEAN: _mean_over_tasks(name, tasks)}.items():
            # A dict instead of a set, to keep the columns in order.
            columns = dict.fromkeys(column for row in rows.values() for column in row)
            result += [{'task': task, 'table': name, 'column': column,
                        **_spread([row.get(column, math.nan) for row in rows.values()]),
                        **{f'{GROUP_PREFIX}{group}': rows.get(group, {}).get(column, math.nan) for group in groups}}
                       for column in columns if column != 'task' and not column.startswith(COUNT_PREFIX)]
    # The sort is stable: tasks, and the rows within them, keep their order; only MEAN moves to the end.
    return sorted(result, key=lambda row: row['task'] == MEAN)


def main_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the MEAN rows of the columns that a short overview shows: the first metric of each table, and skill."""
    means, main = [row for row in rows if row['task'] == MEAN], {}
    # Prefer columns with a direction: the others are baselines or have no description.
    for row in sorted(means, key=lambda row: not column_of(row['table'], row['column']).better):
        main.setdefault(row['table'], row['column'])  # the first one in this order stays
    return [row for row in means if row['column'] in (main[row['table']], 'skill')]


def _mean_over_tasks(name: str, tasks: RowsByGroup) -> dict[str, Row]:
    """Return group -> MEAN row of a table over the tasks that test the group."""
    groups = dict.fromkeys(group for rows in tasks.values() for group in rows)
    # Built like the MEAN row of a table, so that a group's skill is computed from its mean errors, too.
    return {group: finish_tables({name: [{'task': task, **rows[group]} for task, rows in tasks.items()
                                         if group in rows]})[name][-1] for group in groups}


def _spread(values: Sequence[float]) -> Row:
    """Return number, mean, and std of the values that are not NaN."""
    found = [value for value in values if not math.isnan(value)]
    # ddof=1: the groups are a sample; the std estimates the spread over all people, not over these.
    return {'num_groups': len(found), 'mean': float(np.mean(found)) if found else math.nan,
            'std': float(np.std(found, ddof=1)) if len(found) > 1 else math.nan}
