"""Groups of recordings (people, or whoever performs them): read, taken from handles, and looked for in two parts."""

import re
from collections.abc import Iterable, Mapping, Sequence

from utils.errors import UserError, name_some

Groups = dict[str, str]  # handle -> group
# A camera, view, or modality in a handle: a word with a number that may follow it, or a letter with one.
VIEW = re.compile(r'(?<![a-z0-9])(?:(?:web)?cam(?:era)?|view|angle|kinect|stereo|gopro|front|side|top|left|right|rear'
                  r'|back|center|centre|head|chest|overhead|ceiling|static|wide|ego|exo|hmc|fpv|rgb|depth|ir|infrared'
                  r'|thermal|flow|mono|take|clip|part|crop|flip(?:ped)?|mirror(?:ed)?|copy|aug(?:mented)?)[ _.-]?\d*'
                  r'(?![a-z0-9])|(?<![a-z0-9])[cv]\d+(?![a-z0-9])', re.IGNORECASE)
FEW_ACTIONS = 3  # fewer actions may have the same times by chance


def groups_by_regex(handles: Iterable[str], pattern: str) -> Groups:
    """Return handle -> group, the first group of a regular expression that is found in the handle.

    Raises:
        UserError: the expression is not found in a handle, or its group is empty there.
    """
    compiled, groups = re.compile(pattern), {}
    for handle in handles:
        match = compiled.search(handle)  # anywhere in the handle, unless the pattern has anchors
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


def views_in_train_and_test(splits: Mapping[str, Mapping[str, Sequence[str]]], groups: Mapping[str, str],
                            actions: Mapping[str, Sequence] | None = None) -> list[str]:
    """Name recordings of train and test that may show one performance.

    Args:
        splits: task -> part -> handles.
        groups: handle -> group; recordings of one group are found by :func:`groups_in_two_parts`.
        actions: handle -> its actions with their times; recordings with the same actions at the same times are named,
            too. None: only names are compared.

    Returns:
        A sentence per task and reason.
    """
    timed = {handle: tuple(map(tuple, found)) for handle, found in (actions or {}).items() if len(found) >= FEW_ACTIONS}
    reasons = {'whose name differs in the camera or view only': _without_view,
               'with the same actions at the same times': timed.get}
    found, named = [], set()
    for task, parts in splits.items():
        for reason, key_of in reasons.items():
            trained = {key_of(handle): handle for handle in reversed(parts['train']) if key_of(handle) is not None}
            pairs = [(trained[key], handle) for handle in parts['test']
                     if (key := key_of(handle)) in trained and trained[key] != handle
                     and (handle not in groups or groups[handle] != groups.get(trained[key])) and handle not in named]
            named.update(handle for _, handle in pairs)
            if pairs:
                text = name_some([f'{one} and {other}' for one, other in pairs], 3)
                found.append(f'task {task}: {len(pairs)} test recordings have a training recording {reason}: {text}; '
                             'if they show one performance, the results are too good: keep them together with '
                             '--group_regex or "groups" in the split file')
    return found


def _without_view(handle: str) -> str | None:
    """Return a handle with what names its camera or view replaced; None if nothing else is left of it."""
    tokens = list(VIEW.finditer(handle))
    if re.search('[a-zA-Z0-9]', VIEW.sub('', handle)):
        # Without separators: 'P1_tea' and 'P1_tea_flip' show one performance, too.
        return re.sub(r'[ _.-]*\*', '', VIEW.sub('*', handle)).strip(' _.-')
    # Of 'take3.view1', the first is the performance; 'v1' alone is any recording.
    return f'{handle[:tokens[-1].start()]}*' if len(tokens) > 1 else None
