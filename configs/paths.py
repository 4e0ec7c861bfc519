"""Where data and results lie: the three environment variables, read when asked and never at import."""

import os
from dataclasses import dataclass
from pathlib import Path

from configs.choices import DATASETS
from configs.setting import SAFE_NAME
from utils.errors import UserError, name_some

DEFAULTS = {'DATASET_PATH': './data', 'OUTPUT_PATH': './output', 'JSON_DPATH': './dset_jsons'}
# Datasets that are part of another one: name -> (dataset that contains it, suffix of its tasks).
PARTS_OF_DATASETS = {name: dataset.part_of for name, dataset in DATASETS.items() if dataset.part_of}
DEMO_HINT = "'python -m tools.demo demo' writes a demo dataset and says how to set the variables"


@dataclass(frozen=True)
class DatasetPaths:
    """Files of a dataset.

    Attributes:
        recordings: folder of ``<handle>.npy`` files.
        annotations: the JSON file.
        task_suffix: ending of the names of the tasks that belong to the dataset; '' for all.
    """

    recordings: Path
    annotations: Path
    task_suffix: str = ''

    @property
    def splits(self) -> Path:
        """The split that may have been written with the dataset."""
        return self.annotations.with_name(f'{self.annotations.stem}.splits.json')


def check_new_name(name: str, source: str) -> None:
    """Refuse what cannot name a dataset that is to be written.

    Args:
        name: of the dataset.
        source: option or argument that it comes from.

    Raises:
        UserError: training would refuse the name, or take it for a part of another dataset.
    """
    if not SAFE_NAME.fullmatch(name):
        raise UserError(f'{source} {name[:60]!r}: expected letters, digits, ".", "_" and "-", 100 at most')
    if name in PARTS_OF_DATASETS:
        raise UserError(f'{source} {name}: stands for a part of {PARTS_OF_DATASETS[name][0]}; choose another')


def environment_path(variable: str) -> Path:
    """Return the folder that ``variable`` names, or its default (``./data``, ``./output``, ``./dset_jsons``)."""
    return Path(os.environ.get(variable) or DEFAULTS[variable])


def dataset_paths(dataset: str, kind: str = 'features') -> DatasetPaths:
    """Find the files of a dataset under ``$DATASET_PATH`` and ``$JSON_DPATH``.

    Args:
        dataset: name of the dataset.
        kind: 'features' for ``(T, D)`` files, 'frames' for ``(T, C, H, W)`` ones.

    Raises:
        UserError: a folder or the JSON file is missing.
    """
    name, suffix = PARTS_OF_DATASETS.get(dataset, (dataset, ''))
    annotations = _existing('JSON_DPATH', f'{name}.json')
    return DatasetPaths(_existing('DATASET_PATH', f'{name}/{kind}'), annotations, suffix)


def _existing(variable: str, relative: str) -> Path:
    """Return the path below the variable's folder, which must exist."""
    root = environment_path(variable)
    state = 'set' if os.environ.get(variable) else 'unset: the default is used'
    for path in (root, root / relative):
        if not path.exists():
            raise UserError(f'{variable}={root} ({state}): {path} does not exist; expected {root / relative}; '
                            f'{_datasets_in(root)}set {variable}, or start with the demo: {DEMO_HINT}')
    return root / relative


def _datasets_in(root: Path) -> str:
    """Name the datasets whose annotations lie in a folder, if there are any, as a part of a message."""
    names = sorted(path.stem for path in root.glob('*.json') if not path.stem.endswith('.splits'))
    return f'there are the datasets {name_some(names)}: choose one, ' if names else ''
