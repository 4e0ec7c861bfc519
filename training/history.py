"""Losses per epoch: means over batches, the table losses.csv, and curves to draw."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from utils.files import write_csv
from utils.loss_entry import LossTerms

COLUMNS = ('epoch', 'lambda', 'train_total', 'train_alignment', 'train_progress', 'val_total', 'val_alignment',
           'val_progress', 'seconds')
COMPONENTS = ('total', 'alignment', 'progress')


def total_of(means: Mapping[str, Tensor], progress_weight: float) -> Tensor:
    """Return alignment + lambda * progress of mean losses; a missing progress loss counts as 0."""
    return means['alignment_loss'] + progress_weight * means.get('progress_loss', 0.0)


class ComponentMeans:
    """Mean of each loss term over the batches that have it; an absent term never counts as 0."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        # A dict as an ordered set; it also holds the terms that no batch had data for.
        self._names: dict[str, None] = {}

    def add(self, terms: LossTerms) -> None:
        """Add the loss terms of a batch."""
        for name, value in terms.items():
            self._names[name] = None
            if name in terms.present:
                self._sums[name] += float(value.detach())
                self._counts[name] += 1

    def merge(self, all_gather: Callable[[object], list]) -> None:
        """Merge the sums and counts of all processes of the run.

        Args:
            all_gather: returns the values of all processes as a list.
        """
        # Sums and counts instead of means, because processes may have different numbers of batches with a term.
        parts = all_gather((dict(self._sums), dict(self._counts), self._names))
        self._sums, self._counts, self._names = defaultdict(float), defaultdict(int), {}
        for sums, counts, names in parts:
            self._names.update(names)
            for name in counts:
                self._sums[name] += sums[name]
                self._counts[name] += counts[name]

    def means(self, progress_weight: float) -> dict[str, Tensor]:
        """Return the means as 0-d float64 tensors, and the total computed from them.

        Args:
            progress_weight: lambda.

        Returns:
            Name of the term -> mean, without terms that no batch had; 'total_loss' is alignment + lambda * progress,
            and a missing progress loss counts as 0. The alignment loss is 0 if no batch had it. Empty if no batch was
            added.
        """
        if not self._names:
            return {}
        means = {name: torch.tensor(self._sums[name] / self._counts[name], dtype=torch.float64)
                 for name in self._names if self._counts[name]}
        # Without alignment (weight 0, or batches of one recording) the total consists of progress alone.
        means.setdefault('alignment_loss', torch.zeros((), dtype=torch.float64))
        means['total_loss'] = total_of(means, progress_weight)
        return means


class History:
    """Rows of losses.csv, one per epoch."""

    def __init__(self, rows: list[dict] | None = None) -> None:
        self.rows = rows or []

    def add(self, epoch: int, progress_weight: float | None, train: Mapping[str, Tensor], val: Mapping[str, Tensor],
            seconds: float, chosen: Mapping[str, float] | None = None) -> dict:
        """Add an epoch and return its row.

        Args:
            epoch: counted from 1.
            progress_weight: lambda of the epoch; None without progress.
            train: means over the training batches.
            val: means over the validation batches; empty without validation.
            seconds: wall time of the epoch.
            chosen: weights chosen by the progress head, by name; stored as 'chosen' if not empty.
        """
        row = {'epoch': epoch, 'lambda': progress_weight}
        for part, means in (('train', train), ('val', val)):
            row.update({f'{part}_{name}': float(means[f'{name}_loss']) if f'{name}_loss' in means else None
                        for name in COMPONENTS})
        self.rows.append({**row, 'seconds': round(seconds, 3), **({'chosen': dict(chosen)} if chosen else {})})
        return self.rows[-1]

    def curves(self, part: str) -> dict[str, list[float]]:
        """Return the losses of 'train' or 'val' as lists; NaN if an epoch lacks a loss, empty if all epochs lack it."""
        curves = {f'{name}_loss': [row[f'{part}_{name}'] for row in self.rows] for name in COMPONENTS}
        # A gap in the curve at an epoch without a value; no curve if no epoch has one.
        return {name: [math.nan if value is None else value for value in values] if set(values) != {None} else []
                for name, values in curves.items()}

    def write_csv(self, path: Path) -> None:
        """Write losses.csv; missing values are empty."""
        write_csv(path, COLUMNS, ([row[column] for column in COLUMNS] for row in self.rows))

    def write_chosen(self, path: Path) -> None:
        """Write the weights chosen by the progress head, a row per epoch; write nothing if there are no weights."""
        names = dict.fromkeys(name for row in self.rows for name in row.get('chosen', ()))
        if names:
            write_csv(path, ['epoch', *names],
                      ([row['epoch'], *(row.get('chosen', {}).get(name) for name in names)] for row in self.rows))
