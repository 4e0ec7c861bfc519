"""Paths of data and results from three environment variables, which are read on each call, never at import."""

import os
from dataclasses import dataclass
from pathlib import Path

from configs.choices import DATASETS
from configs.setting import SAFE_NAME
from utils.errors import UserError, name_some
from utils.files import expand_home

DEFAULTS = {'DATASET_PATH': './data', 'OUTPUT_PATH': './output', 'JSON_DPATH': './dset_jsons'}
# Datasets that are part of another dataset: name -> (dataset that contains it, suffix of its tasks).
PARTS_OF_DATASETS = {name: dataset.part_of for name, dataset in DATASETS.items() if dataset.part_of}
DEMO_HINT = "'python -m tools.demo demo' writes a demo dataset and says how to set the variables"


@dataclass(frozen=True)
class DatasetPaths:
    """Paths of the files of a dataset.

    Attributes:
        recordings: folder of ``<handle>.npy`` files.
        annotations: JSON file of the annotations.
        task_suffix: suffix of the names of the dataset's tasks; '' for all tasks.
    """

    recordings: Path
    annotations: Path
    task_suffix: str = ''

    @property
    def splits(self) -> Path:
        """Path of the split, which exists if it was written with the dataset."""
        return self.annotations.with_name(f'{self.annotations.stem}.splits.json')


def check_new_name(name: str, source: str) -> None:
    """Check the name of a new dataset.

    Args:
        name: name of the dataset.
        source: option or argument that the name comes from.

    Raises:
        UserError: training would refuse the name, or would read it as a part of another dataset.
    """
    if not SAFE_NAME.fullmatch(name):
        raise UserError(f'{source} {name[:60]!r}: expected letters, digits, ".", "_" and "-", 100 at most')
    if name in PARTS_OF_DATASETS:
        raise UserError(f'{source} {name}: stands for a part of {PARTS_OF_DATASETS[name][0]}; choose another name')


def environment_path(variable: str) -> Path:
    """Return the folder set by an environment variable, or its default (``./data``, ``./output``, ``./dset_jsons``).

    No shell expands ``~`` in a variable that a scheduler or an .env file sets, so it is expanded here.
    """
    return expand_home(Path(os.environ.get(variable) or DEFAULTS[variable]), f'{variable}=')


def dataset_paths(dataset: str, kind: str = 'features') -> DatasetPaths:
    """Find the files of a dataset under ``$DATASET_PATH`` and ``$JSON_DPATH``.

    Args:
        dataset: name of the dataset.
        kind: 'features' for ``(T, D)`` files, 'frames' for ``(T, C, H, W)`` files.

    Raises:
        UserError: a folder or the JSON file is missing.
    """
    name, suffix = PARTS_OF_DATASETS.get(dataset, (dataset, ''))
    annotations = _existing('JSON_DPATH', f'{name}.json')
    return DatasetPaths(_existing('DATASET_PATH', f'{name}/{kind}'), annotations, suffix)


def _existing(variable: str, relative: str) -> Path:
    """Return a path relative to the folder of an environment variable, and check that it exists."""
    root = environment_path(variable)
    state = 'set' if os.environ.get(variable) else 'unset: the default is used'
    # The folder first, so that the message names the outermost path that is missing.
    for path in (root, root / relative):
        if not path.exists():
            raise UserError(f'{variable}={root} ({state}): {path} does not exist; expected {root / relative}; '
                            f'{_datasets_in(root)}set {variable}, or start with the demo: {DEMO_HINT}')
    return root / relative


def _datasets_in(root: Path) -> str:
    """Return a part of a message that names the datasets with annotations in a folder; '' if there are no datasets."""
    names = sorted(path.stem for path in root.glob('*.json') if not path.stem.endswith('.splits'))
    return f'there are the datasets {name_some(names)}: choose one, ' if names else ''
