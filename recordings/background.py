"""Background labels: compared without case, and labels that look like background although they count as actions."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from recordings.annotations import TaskAnnotations
from utils.errors import UserError, name_some

BACKGROUND = 'background'  # the step of frames outside of actions, in estimates, tables, and pictures
# Without case, blanks, hyphens and underscores.
LOOK_ALIKES = {'bg', 'bkg', 'back', 'background', 'backgroundclass', 'none', 'null', 'nan', 'na', 'n/a', 'nothing',
               'idle', 'noaction', 'noactivity', 'nolabel', 'nostep', 'nophase', 'noclass', 'unlabeled', 'unlabelled',
               'unannotated', 'unknown', 'undefined', 'ignore', 'ignored', 'other', 'others', 'misc', 'void', 'empty',
               'blank', 'sil', 'silence', 'pause', 'rest', 'wait', 'waiting', 'neutral', 'outside', 'unsure',
               'ambiguous', 'noop', 'transition', '?', '∅', ''}
# Words that make any label one, and words before and after that do: 'BG_class', 'not labeled', 'none of the above'.
CERTAIN_WORDS = {'bg', 'bkg', 'bkgd', 'background', 'unlabeled', 'unlabelled', 'unannotated', 'unassigned', 'undefined',
                 'irrelevant', 'unk', 'pad', 'padding'}
NEGATIONS = {'no', 'non', 'not', 'none', 'without'}
NEGATED = {'action', 'actions', 'activity', 'label', 'labels', 'labeled', 'labelled', 'annotated', 'annotation', 'step',
           'phase', 'class', 'task', 'gesture', 'event', 'of'}
NUMBERS = {-100, -99, -1, 0, 255, 999}  # indices that loaders of frame-wise labels use for frames without a label


def background_names(labels: Iterable[str], background: Sequence[str]) -> dict[str, str]:
    """Return label -> background label, for the labels that equal a background label except for case.

    Args:
        labels: labels of a dataset.
        background: background labels; the first spelling counts.
    """
    folded = {name.casefold(): name for name in reversed(background)}  # reversed: the first spelling stays
    return {label: folded[label.casefold()] for label in labels
            if label not in background and label.casefold() in folded}


def spell_background(tasks: Mapping[str, TaskAnnotations], background: Sequence[str]) -> dict[str, TaskAnnotations]:
    """Return annotations in which every background label is spelled as in ``background``.

    Args:
        tasks: task -> annotations.
        background: background labels.

    Raises:
        UserError: a label that counts as an action is ``BACKGROUND``, which all outputs call frames outside of actions.
    """
    labels = {label for annotated in tasks.values() for actions in annotated.actions for label in actions}
    names = background_names(labels, background)
    if BACKGROUND in labels - set(names) - set(background):
        task = next(task for task, annotated in tasks.items()
                    if any(BACKGROUND in actions for actions in annotated.actions))
        raise UserError(f'task {task}: the label {BACKGROUND!r} counts as an action, but is the name of frames outside '
                        f'of actions in all results; add it to BACKGROUND_LABELS ({", ".join(background) or "empty"}), '
                        'or rename it in the annotations')
    if not names:
        return dict(tasks)
    return {task: replace(annotated, actions=[[names.get(label, label) for label in actions]
                                              for actions in annotated.actions])
            for task, annotated in tasks.items()}


def look_alikes(labels: Iterable[str], background: Collection[str]) -> list[str]:
    """Return the labels that look like background but are not in ``background``, compared without case."""
    folded = {name.casefold() for name in background}
    return sorted(label for label in set(labels) if label.casefold() not in folded and _looks_like_background(label))


def _looks_like_background(label: str) -> bool:
    if re.sub(r'[\s_-]+', '', label.casefold()).strip('()[]<>*.') in LOOK_ALIKES:
        return True
    words = re.findall('[^\\W\\d_]+', label.casefold())
    if len(words) <= 4 and words and (words[0] in CERTAIN_WORDS or len(words) > 1 and words[0] in NEGATIONS
                                      and words[1] in NEGATED):
        return True
    try:
        return float(label) in NUMBERS
    except ValueError:
        return False


def look_alike_note(labels: Iterable[str], background: Collection[str], advice: str) -> str | None:
    """Return a sentence on the labels that look like background; None if there are no such labels.

    Args:
        labels: labels that count as actions.
        background: background labels.
        advice: option that makes a label background.
    """
    found = look_alikes(labels, background)
    if not found:
        return None
    return (f'{name_some([repr(label) for label in found])} may mean background, but count'
            f'{"s" if len(found) == 1 else ""} as an action; if so, {advice}')
