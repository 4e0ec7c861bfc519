"""Fit the standardization of features to the training recordings, before the first epoch."""

from collections.abc import Iterable

from torch import nn

from recordings.json_dataset import RecordingDataset


def fit_standardizer(model: nn.Module, datasets: Iterable[RecordingDataset]) -> None:
    """Fit a model's standardizer to training recordings; does nothing if it has none.

    Args:
        model: from ``build_model``.
        datasets: training recordings of each task, as training reads them.
    """
    if model.standardizer is not None:
        model.standardizer.fit(dataset[index][0] for dataset in datasets for index in range(len(dataset)))
