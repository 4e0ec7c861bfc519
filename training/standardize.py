"""Fit the standardization of features to the training recordings, before the first epoch."""

from collections.abc import Mapping

from torch import nn
from torch.utils.data import DataLoader


def fit_standardizer(model: nn.Module, loaders: Mapping[str, DataLoader]) -> None:
    """Fit a model's standardizer to the recordings of the training loaders; does nothing if it has none.

    Args:
        model: from ``build_model``.
        loaders: task -> loader; only its dataset is used.
    """
    if model.standardizer is not None:
        datasets = [loader.dataset for loader in loaders.values()]
        model.standardizer.fit(dataset[index][0] for dataset in datasets for index in range(len(dataset)))
