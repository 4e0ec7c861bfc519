"""Groups of recordings (people, or whoever performs them): read, taken from handles, and looked for in two parts."""

import re
from collections.abc import Iterable, Mapping, Sequence

from utils.errors import UserError, name_some

Groups = dict[str, str]  # handle -> group
# A camera or view in a handle: a word with a number that may follow it, or a letter with one.
VIEW = re.compile(r'(?<![a-z0-9])(?:(?:web)?cam(?:era)?|view|angle|kinect|stereo|gopro|front|side|top|left|right|rear'
                  r'|head|ego|exo)[ _.-]?\d*(?![a-z0-9])|(?<![a-z0-9])[cv]\d+(?![a-z0-9])', re.IGNORECASE)


def groups_by_regex(handles: Iterable[str], pattern: str) -> Groups:
    """Return handle -> group, the first group of a regular expression that is found in the handle.

    Raises:
        UserError: the expression is not found in a handle, or its group is empty there.
    """
    compiled, groups = re.compile(pattern), {}
    for handle in handles:
        match = compiled.search(handle)
        if not (match and match[1]):
            raise UserError(f'{pattern}: finds no group in {handle!r:.60}, expected one in the name of every '
                            'recording; the first group of the expression is who performs it')
        groups[handle] = match[1]
    return groups


def check_groups(where: str, content: object) -> Groups:
    """Return the groups of a split file.

    Args:
        where: what the message of an error begins with.
        content: what the file has under "groups".

    Raises:
        UserError: it is not an object whose values are non-empty strings.
    """
    if not isinstance(content, dict) or not all(isinstance(group, str) and group for group in content.values()):
        raise UserError(f'{where}: "groups" is not an object of strings; expected {{handle: group}}')
    return dict(content)


def groups_in_two_parts(splits: Mapping[str, Mapping[str, Sequence[str]]], groups: Mapping[str, str]) -> str | None:
    """Return a sentence on the groups that are in more than one part of a split; None if no group is."""
    members = {part: {groups[handle] for parts in splits.values() for handle in parts[part] if handle in groups}
               for part in ('train', 'val', 'test')}
    apart = sorted((members['train'] & (members['val'] | members['test'])) | (members['val'] & members['test']))
    if not apart:
        return None
    return (f'{len(apart)} of {len(set.union(*members.values()))} groups are in more than one of train, val and test, '
            f'so the results are not those for unseen ones: {name_some(apart)}')


def views_in_train_and_test(splits: Mapping[str, Mapping[str, Sequence[str]]],
                            groups: Mapping[str, str]) -> list[str]:
    """Name recordings of train and test whose handles differ in a camera or view only.

    Args:
        splits: task -> part -> handles.
        groups: handle -> group; recordings of one group are found by :func:`groups_in_two_parts`.

    Returns:
        A sentence per task that has such recordings.
    """
    found = []
    for task, parts in splits.items():
        trained: dict[str, str] = {_without_view(handle): handle for handle in reversed(parts['train'])}
        pairs = [f'{trained[key]} and {handle}' for handle in parts['test']
                 if (key := _without_view(handle)) in trained and trained[key] != handle
                 and (handle not in groups or groups[handle] != groups.get(trained[key]))]
        if pairs:
            found.append(f'task {task}: {len(pairs)} test recordings have a training recording whose name differs in '
                         f'the camera or view only: {name_some(pairs, 3)}; if they show one performance, the results '
                         'are too good: keep views together with --group_regex or "groups" in the split file')
    return found


def _without_view(handle: str) -> str:
    """Return a handle with what names its camera or view replaced."""
    return VIEW.sub('*', handle)
