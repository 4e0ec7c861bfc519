"""Split the recordings of each task into train, validation and test recordings."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from recordings.feature_lookup import near_name
from recordings.groups import Groups, check_groups
from utils.errors import UserError, name_some
from utils.files import read_json
from utils.logging import get_logger

LOGGER = get_logger(__name__)
PARTS = ('train', 'val', 'test')


class Splits(dict[str, dict[str, list[str]]]):
    """Task -> part -> handles.

    Attributes:
        groups: handle -> group (who performs the recording); empty if groups are not known.
    """

    def __init__(self, splits: Mapping[str, dict[str, list[str]]] | None = None,
                 groups: Mapping[str, str] | None = None) -> None:
        super().__init__(splits or {})
        self.groups: Groups = dict(groups or {})

    def take(self, tasks: Iterable[str]) -> 'Splits':
        """Return the split of some tasks, with the groups of their recordings."""
        taken = {task: self[task] for task in tasks}
        handles = {handle for parts in taken.values() for part in PARTS for handle in parts[part]}
        return Splits(taken, {handle: group for handle, group in self.groups.items() if handle in handles})

    def as_json(self) -> dict[str, dict]:
        """Return the content of a split file."""
        return {'splits': dict(self), **({'groups': self.groups} if self.groups else {})}


def make_splits(handles: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int,
                groups: Mapping[str, str] | None = None) -> Splits:
    """Split the recordings of each task at random.

    Args:
        handles: task -> handles of its recordings.
        shares: fractions of train, val and test recordings; they sum to 1.
        seed: random seed; a task's split does not depend on the other tasks, unless they share groups.
        groups: handle -> group; the recordings of a group, of all tasks, are in one part. A recording without a group
            is a group of its own.

    Returns:
        task -> part -> handles. Each task has at least one training recording, and at least one test recording if it
        has two recordings (groups) or more and the test fraction is above 0. A group that would leave a task without
        training recordings is used for training.

    """
    if groups:
        return _split_by_group(handles, shares, seed, groups)
    splits = Splits()
    for task, names in handles.items():
        # Sorted first: the split must not depend on the order of the annotation file.
        shuffled = sorted(names)
        random.Random(f'{seed}/{task}').shuffle(shuffled)
        total = len(shuffled)
        # At least one test recording if any are wanted, but never the last one, which trains.
        test = min(total - 1, max(1, round(shares[2] * total))) if shares[2] > 0 else 0
        val = min(total - 1 - test, round(shares[1] * total))
        splits[task] = {'train': sorted(shuffled[test + val:]), 'val': sorted(shuffled[test:test + val]),
                        'test': sorted(shuffled[:test])}
    return splits


def _split_by_group(handles: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int,
                    groups: Mapping[str, str]) -> Splits:
    """Split as :func:`make_splits` does, whole groups."""
    # A recording without a group is a group of its own.
    group_of = {handle: groups.get(handle, handle) for names in handles.values() for handle in names}
    sizes = {task: Counter(group_of[handle] for handle in names) for task, names in handles.items()}
    parts = _draw_parts(sizes, shares, seed)
    _let_every_task_train_and_test(sizes, parts, tested=shares[2] > 0)
    return Splits({task: {part: sorted(handle for handle in names if parts[group_of[handle]] == part)
                          for part in PARTS} for task, names in handles.items()},
                  {handle: groups[handle] for handle in group_of if handle in groups})


def _draw_parts(sizes: Mapping[str, Counter[str]], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Return group -> part: groups in random order, each to the part that lacks most recordings of its tasks.

    Args:
        sizes: task -> group -> number of its recordings.
        shares: of the parts.
        seed: of the order.
    """
    order = sorted({group for counts in sizes.values() for group in counts})
    random.Random(f'{seed}/groups').shuffle(order)
    # Recordings that each part of each task still lacks to reach its fraction.
    lacking = {(task, part): share * counts.total() for task, counts in sizes.items()
               for part, share in zip(PARTS, shares, strict=True)}
    chosen = {}
    for group in order:
        tasks = [task for task, counts in sizes.items() if group in counts]
        open_parts = [part for part, share in zip(PARTS, shares, strict=True) if share > 0]
        # Greedy; of equal parts the first wins, which is training.
        chosen[group] = max(open_parts, key=lambda part: sum(lacking[task, part] for task in tasks))
        for task in tasks:
            lacking[task, chosen[group]] -= sizes[task][group]
    return chosen


def _let_every_task_train_and_test(sizes: Mapping[str, Counter[str]], parts: dict[str, str], *, tested: bool) -> None:
    """Move groups, in place, until every task has one that trains and, if it has two, one that tests."""
    def trainers(task: str) -> list[str]:
        return [group for group in sizes[task] if parts[group] == 'train']

    for task, counts in sizes.items():
        if not trainers(task):
            parts[max(sorted(counts), key=counts.__getitem__)] = 'train'
    for counts in sizes.values():
        if not tested or any(parts[group] == 'test' for group in counts):
            continue
        # A group may leave training unless it is the only one that trains some task.
        free = [group for group in sorted(counts) if all(
            trainers(other) != [group] for other, members in sizes.items() if group in members)]
        if free:
            parts[min(free, key=counts.__getitem__)] = 'test'


def load_splits(path: Path, handles: Mapping[str, Sequence[str]]) -> Splits:
    """Read a split file and check it against the recordings of the dataset.

    Args:
        path: JSON ``{"splits": {task: {"train": [...], "val": [...], "test": [...]}}}``; ``"groups": {handle: group}``
            next to it is optional.
        handles: task -> handles of its recordings.

    Returns:
        task -> part -> handles, sorted, for the tasks in both the file and ``handles``. Recordings that are missing in
        the file are not used.

    Raises:
        UserError: the file cannot be read or has a wrong structure, names an unknown recording, names a recording
            twice, or leaves a task without training recordings.
    """
    content = read_split_file(path)
    splits = Splits()
    for task, parts in content.items():
        if task not in handles:
            LOGGER.warning('%s: task %s is not among the loaded tasks; its split is not used', path, task)
            continue
        splits[task] = _check_task(path, task, parts, handles[task])
    for task in handles:
        if task not in splits:
            LOGGER.warning('%s: task %s is missing in the file and is left out', path, task)
    if not splits:
        raise UserError(f'{path}: contains none of the tasks {", ".join(handles)}; expected at least one of them')
    splits.groups = content.groups
    _warn_of_missing_groups(path, splits)
    return splits.take(splits)


def _warn_of_missing_groups(path: Path, splits: Splits) -> None:
    """Warn of recordings without a group in a file that names groups: a misspelled handle would not be noticed."""
    used = [handle for parts in splits.values() for part in PARTS for handle in parts[part]]
    if splits.groups and (missing := [handle for handle in used if handle not in splits.groups]):
        LOGGER.warning('%s: %d of %d recordings have no group, so each counts as a group of its own: %s; name them in '
                       '"groups"', path, len(missing), len(used), name_some(missing))


def load_run_splits(path: Path) -> Splits:
    """Read the split that a run was trained with, from its run folder.

    Raises:
        UserError: the file cannot be read or has a wrong structure.
    """
    splits = _read(path, 'the split that training stores in its run folder', 'train again')
    for task, parts in splits.items():
        _check_parts(f'{path}: task {task!r:.60}', parts)
    return splits


def read_split_file(path: Path) -> Splits:
    """Return a split file, its parts unchecked.

    Raises:
        UserError: the file cannot be read, or has no object under "splits" or no texts under "groups".
    """
    return _read(path, 'a JSON file of splits')


def _read(path: Path, *expected: str) -> Splits:
    """Read a split file, its parts unchecked; ``expected`` as in :func:`utils.files.read_json`."""
    content = read_json(path, *expected)
    splits = content.get('splits') if isinstance(content, dict) else None
    if not isinstance(splits, dict):
        raise UserError(f'{path}: no object under "splits"; expected '
                        '{"splits": {task: {"train": [...], "val": [...], "test": [...]}}}')
    return Splits(splits, check_groups(str(path), content.get('groups', {})))


def _check_parts(where: str, parts: object) -> None:
    """Check that the split of one task consists of three lists of handles."""
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        found = sorted(parts) if isinstance(parts, dict) else parts
        raise UserError(f'{where}: found {found!r:.60}, expected the three lists train, val and test')
    for part in PARTS:
        if not isinstance(parts[part], list) or not all(isinstance(handle, str) for handle in parts[part]):
            raise UserError(f'{where}: {part} is not a list of handles but {parts[part]!r:.60}; write '
                            f'{{"{part}": [HANDLE, ...]}}')


def _check_task(path: Path, task: str, parts: object, handles: Sequence[str]) -> dict[str, list[str]]:
    """Check the split of one task against its recordings."""
    where = f'{path}: task {task}'
    _check_parts(where, parts)
    known, seen = set(handles), set()
    for part in PARTS:
        for handle in parts[part]:
            if handle not in known:
                near = near_name(handle, handles)
                raise UserError(f'{where}: {part} names {handle!r:.60}, which is missing in the annotations; remove it'
                                + (f', or write {near!r:.60}' if near else ''))
            if handle in seen:
                raise UserError(f'{where}: {handle!r} is in the split twice; keep one of them')
            seen.add(handle)
    if not parts['train']:
        raise UserError(f'{where}: no training recordings; expected at least one')
    if unused := len(handles) - len(seen):
        LOGGER.warning('%s: %d of %d recordings are in no part and are not used', where, unused, len(handles))
    # Sorted, as a split that is drawn: results must not depend on the order of the file.
    return {part: sorted(parts[part]) for part in PARTS}
