"""Split the recordings of each task into train, validation and test recordings."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.errors import UserError
from utils.files import read_json
from utils.logging import get_logger

LOGGER = get_logger(__name__)
PARTS = ('train', 'val', 'test')
Splits = dict[str, dict[str, list[str]]]


def make_splits(handles: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int) -> Splits:
    """Split the recordings of each task at random.

    Args:
        handles: task -> handles of its recordings.
        shares: fractions of train, val and test recordings; they sum to 1.
        seed: random seed; a task's split does not depend on the other tasks.

    Returns:
        task -> part -> handles. Each task has at least one training recording, and at least one test recording if it
        has two recordings or more and the test fraction is above 0.
    """
    splits = {}
    for task, names in handles.items():
        shuffled = sorted(names)
        random.Random(f'{seed}/{task}').shuffle(shuffled)
        total = len(shuffled)
        test = min(total - 1, max(1, round(shares[2] * total))) if shares[2] > 0 else 0
        val = min(total - 1 - test, round(shares[1] * total))
        splits[task] = {'train': sorted(shuffled[test + val:]), 'val': sorted(shuffled[test:test + val]),
                        'test': sorted(shuffled[:test])}
    return splits


def load_splits(path: Path, handles: Mapping[str, Sequence[str]]) -> Splits:
    """Read a split file and check it against the recordings of the dataset.

    Args:
        path: JSON ``{"splits": {task: {"train": [...], "val": [...], "test": [...]}}}``.
        handles: task -> handles of its recordings.

    Returns:
        task -> part -> handles, for the tasks in both the file and ``handles``. Recordings that are missing in the file
        are not used.

    Raises:
        UserError: the file cannot be read or has a wrong structure, names an unknown recording, names a recording
            twice, or leaves a task without training recordings.
    """
    splits = {}
    for task, parts in read_splits(path).items():
        if task not in handles:
            LOGGER.warning('%s: task %s is not among the loaded tasks; its split is not used', path, task)
            continue
        splits[task] = _check_task(path, task, parts, handles[task])
    for task in handles:
        if task not in splits:
            LOGGER.warning('%s: task %s is missing in the file and is left out', path, task)
    if not splits:
        raise UserError(f'{path}: contains none of the tasks {", ".join(handles)}; expected at least one of them')
    return splits


def load_run_splits(path: Path) -> Splits:
    """Read the split that a run was trained with, from its run folder.

    Raises:
        UserError: the file cannot be read or has a wrong structure.
    """
    splits = _under_splits(read_json(path, 'the split that training stores in its run folder', 'train again'), path)
    for task, parts in splits.items():
        _check_parts(f'{path}: task {task!r:.60}', parts)
    return splits


def read_splits(path: Path) -> Mapping:
    """Return the object under "splits" of a split file, unchecked.

    Raises:
        UserError: the file cannot be read, or has no such object.
    """
    return _under_splits(read_json(path, 'a JSON file of splits'), path)


def _under_splits(content: object, path: Path) -> Mapping:
    splits = content.get('splits') if isinstance(content, dict) else None
    if not isinstance(splits, dict):
        raise UserError(f'{path}: no object under "splits"; expected '
                        '{"splits": {task: {"train": [...], "val": [...], "test": [...]}}}')
    return splits


def _check_parts(where: str, parts: object) -> None:
    """Check that the split of one task consists of three lists of handles."""
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        found = sorted(parts) if isinstance(parts, dict) else parts
        raise UserError(f'{where}: found {found!r:.60}, expected the three lists train, val and test')
    for part in PARTS:
        if not isinstance(parts[part], list) or not all(isinstance(handle, str) for handle in parts[part]):
            raise UserError(f'{where}: {part} is not a list of handles')


def _check_task(path: Path, task: str, parts: object, handles: Sequence[str]) -> dict[str, list[str]]:
    """Check the split of one task against its recordings."""
    where = f'{path}: task {task}'
    _check_parts(where, parts)
    seen: set[str] = set()
    for part in PARTS:
        for handle in parts[part]:
            if handle not in handles:
                raise UserError(f'{where}: {part} names {handle!r:.60}, which is missing in the annotations; remove it')
            if handle in seen:
                raise UserError(f'{where}: {handle!r} is in the split twice; keep one of them')
            seen.add(handle)
    if not parts['train']:
        raise UserError(f'{where}: no training recordings; expected at least one')
    if unused := len(handles) - len(seen):
        LOGGER.warning('%s: %d of %d recordings are in no part and are not used', where, unused, len(handles))
    return {part: list(parts[part]) for part in PARTS}
