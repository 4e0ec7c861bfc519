"""Split of an imported dataset: bundles that come with it, or a random split, with groups of recordings."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.generic_config import CONFIG
from recordings.groups import Groups, groups_by_regex
from recordings.splits import Splits, make_splits
from tools.frame_labels import read_bundles
from tools.import_pairing import bundled_splits
from utils.command_line import option
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)


def read_bundle_parts(arguments: argparse.Namespace, default: Path) -> dict[str, list[str]] | None:
    """Return part -> recordings of the bundles; None if there are no bundles and no option asks for them.

    Args:
        arguments: parsed options of the import.
        default: folder of the bundles unless an option names it.
    """
    folder = arguments.bundles or default
    if not folder.is_dir() and arguments.bundles is None and arguments.split is None:
        if arguments.val_share:
            raise UserError(f'--val_share: only applies to bundles, but there is no {folder}; name it with --bundles')
        return None
    number, parts = read_bundles(folder, arguments.split)
    counts = ', '.join(f'{len(names)} {part}' for part, names in parts.items())
    LOGGER.info('split %d of %s: %s', number, folder, counts)
    return parts


def choose_groups(arguments: argparse.Namespace, names: Sequence[str]) -> Groups:
    """Return recording -> group; empty without --group_regex.

    Raises:
        UserError: --group_regex finds no group in a name.
    """
    if not arguments.group_regex:
        return {}
    with option('--group_regex'):
        return groups_by_regex(names, arguments.group_regex)


def choose_splits(parts: Mapping[str, Sequence[str]] | None, tasks: Mapping[str, str], val_share: float,
                   groups: Groups) -> Splits:
    """Return the split of the bundles, or a random split if there are no bundles; with the recordings' groups."""
    if parts is None:
        by_task: dict[str, list[str]] = {}
        for name, task in tasks.items():
            by_task.setdefault(task, []).append(name)
        return make_splits(by_task, CONFIG.TRAIN_SPLIT, CONFIG.SEED, groups)
    splits = bundled_splits(parts, tasks, val_share, groups)
    if not splits:
        raise UserError('the train bundle names none of the imported recordings; choose another --split')
    return splits
