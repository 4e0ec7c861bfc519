"""Results by group of test recordings (people): how much they differ from one to the next."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from utils.tables import Row

RowOf = Callable[[Sequence[int]], Mapping[str, float]]


def rows_by_group(groups: Sequence[str], row_of: RowOf) -> dict[str, Row]:
    """Return a table's row for each group of test recordings.

    Args:
        groups: group of each test recording.
        row_of: returns the columns for some of the recordings, by index; what is fitted to training recordings stays.

    Returns:
        Group, sorted -> its columns.
    """
    return {group: dict(row_of([index for index, other in enumerate(groups) if other == group]))
            for group in sorted(set(groups))}


def spread_over_groups(rows: Mapping[str, Mapping[str, float]]) -> Row:
    """Return mean and spread of each column over groups that have a value.

    Args:
        rows: group -> columns.

    Returns:
        'num_groups', and ``<column>_mean`` and ``<column>_std`` (between groups, n - 1 in the denominator; NaN for
        fewer than two). Counts, whose names start with 'num_', are left out.
    """
    result: Row = {'num_groups': len(rows)}
    for column in dict.fromkeys(name for row in rows.values() for name in row if not name.startswith('num_')):
        values = [row[column] for row in rows.values() if column in row and not math.isnan(row[column])]
        result[f'{column}_mean'] = float(np.mean(values)) if values else math.nan
        result[f'{column}_std'] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return result
