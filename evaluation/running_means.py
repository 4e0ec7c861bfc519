"""Means over recordings that are not kept: a sum and a number per column."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from evaluation.columns import COUNT_PREFIX
from utils.tables import Row


class RunningMeans:
    """Means of the columns of rows that are added one by one; its size does not depend on the number of rows."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)  # in the order in which columns first appear
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, row: Mapping[str, float | np.ndarray]) -> None:
        """Add a row of numbers, or of arrays (n,) of which every entry counts; NaN does not count."""
        for column, values in row.items():
            known = np.atleast_1d(np.asarray(values, dtype=np.float64))
            known = known[~np.isnan(known)]
            self._sums[column] += float(known.sum())
            self._counts[column] += len(known)

    def row(self) -> Row:
        """Return the mean of each column, NaN without a value; the sum of the columns ``num_*``, which are counts."""
        return {column: int(total) if column.startswith(COUNT_PREFIX)
                else total / self._counts[column] if self._counts[column] else float('nan')
                for column, total in self._sums.items()}
