"""Losses per epoch: means over batches, the table losses.csv, and the curves that are drawn."""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from utils.files import atomic_path
from utils.loss_entry import LossTerms

COLUMNS = ('epoch', 'lambda', 'train_total', 'train_alignment', 'train_progress', 'val_total', 'val_alignment',
           'val_progress', 'seconds')
COMPONENTS = ('total', 'alignment', 'progress')


def total_of(means: Mapping[str, Tensor], progress_weight: float) -> Tensor:
    """Return alignment + lambda * progress of means, where progress that is left out counts 0."""
    return means['alignment_loss'] + progress_weight * means.get('progress_loss', 0.0)


class ComponentMeans:
    """Mean of each loss term over the batches that have it; an absent term never counts as 0."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._names: dict[str, None] = {}

    def add(self, terms: LossTerms) -> None:
        """Count one batch."""
        for name, value in terms.items():
            self._names[name] = None
            if name in terms.present:
                self._sums[name] += float(value.detach())
                self._counts[name] += 1

    def merge(self, all_gather: Callable[[object], list]) -> None:
        """Count what every process of the run has counted, too.

        Args:
            all_gather: brings together what the processes hold, in a list.
        """
        parts = all_gather((dict(self._sums), dict(self._counts), self._names))
        self._sums, self._counts, self._names = defaultdict(float), defaultdict(int), {}
        for sums, counts, names in parts:
            self._names.update(names)
            for name in counts:
                self._sums[name] += sums[name]
                self._counts[name] += counts[name]

    def means(self, progress_weight: float) -> dict[str, Tensor]:
        """Return the means as 0-d float64 tensors, the total being formed from them.

        Args:
            progress_weight: lambda.

        Returns:
            The terms' names -> mean, those that no batch had left out; 'total_loss' = alignment + lambda * progress,
            where what is left out counts 0. The alignment is 0, too, where no batch had it. Empty where no batch was
            counted.
        """
        if not self._names:
            return {}
        means = {name: torch.tensor(self._sums[name] / self._counts[name], dtype=torch.float64)
                 for name in self._names if self._counts[name]}
        means.setdefault('alignment_loss', torch.zeros((), dtype=torch.float64))
        means['total_loss'] = total_of(means, progress_weight)
        return means


class History:
    """Rows of losses.csv, one per epoch."""

    def __init__(self, rows: list[dict] | None = None) -> None:
        self.rows = rows or []

    def add(self, epoch: int, progress_weight: float | None, train: Mapping[str, Tensor], val: Mapping[str, Tensor],
            seconds: float) -> dict:
        """Add an epoch and return its row.

        Args:
            epoch: counted from 1.
            progress_weight: lambda of the epoch; None without progress.
            train: means over the training batches.
            val: means over the validation batches; empty without validation.
            seconds: wall time of the epoch.
        """
        row = {'epoch': epoch, 'lambda': progress_weight}
        for part, means in (('train', train), ('val', val)):
            row.update({f'{part}_{name}': float(means[f'{name}_loss']) if f'{name}_loss' in means else None
                        for name in COMPONENTS})
        self.rows.append({**row, 'seconds': round(seconds, 3)})
        return self.rows[-1]

    def curves(self, part: str) -> dict[str, list[float]]:
        """Return the losses of 'train' or 'val' as lists, NaN in epochs that lack one; empty where all do."""
        curves = {f'{name}_loss': [row[f'{part}_{name}'] for row in self.rows] for name in COMPONENTS}
        return {name: [math.nan if value is None else value for value in values] if set(values) != {None} else []
                for name, values in curves.items()}

    def write_csv(self, path: Path) -> None:
        """Write losses.csv; absent values are empty."""
        with atomic_path(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
