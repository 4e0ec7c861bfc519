"""What an import wrote, and the next commands."""

import shlex
from collections import Counter
from collections.abc import Sequence

from configs.generic_config import CONFIG
from recordings.splits import Splits
from tools.imported_dataset import ImportedRecording, OutputPaths
from utils.errors import name_some
from utils.standard_streams import say


def print_summary(name: str, recordings: Sequence[ImportedRecording], splits: Splits, bundled: bool, *,
                  told_tasks: bool) -> None:
    """Print what was written and the next commands.

    Args:
        name: name of the dataset.
        recordings: from ``import_dataset``.
        splits: from ``import_dataset``.
        bundled: from ``import_dataset``.
        told_tasks: True if an option sets the tasks.
    """
    paths = OutputPaths(name)
    for task, count in Counter(recording.task for recording in recordings).items():
        labels = [label for recording in recordings if recording.task == task for label in recording.segments['labels']]
        actions = [label for label in labels if label not in CONFIG.BACKGROUND_LABELS]
        parts = ', '.join(f'{len(handles)} {part}' for part, handles in splits.get(task, {}).items()) or 'not in split'
        say(f'{task}: {count} recordings ({parts}), {len(actions)} actions of {len(set(actions))} labels, '
              f'{len(labels) - len(actions)} background segments')
    if not any(parts['val'] for parts in splits.values()):
        say('There are no validation recordings, so the training losses select the best checkpoints; the recommended '
              'preset needs none'
              + ('; --val_share 0.2 --overwrite uses some training recordings for validation.' if bundled else '.'))
    if splits.groups:
        found = sorted({splits.groups[recording.handle] for recording in recordings})
        say(f'Groups that the split keeps together: {len(found)} ({name_some(found)}).')
    elif not bundled:
        say('The split was drawn recording by recording; if a person performs several of them, name the people, e.g. '
            "--group_regex '^([a-z]+)_' --overwrite for anna in anna_1, so that those of the test are unseen in "
            'training.')
    if not told_tasks:
        say('All recordings have the same task; --task_regex finds the task in the names of the recordings.')
    dataset, split = shlex.quote(name), shlex.quote(str(paths.splits))
    say(f'Wrote {paths.features}, {paths.annotations} and {paths.splits}. Check the dataset, and train on it:\n\n'
          f'python -m tools.check {dataset} --splits {split} -o {shlex.quote(name + ".png")}\n'
          f'python multitask_train.py 1 --dataset {dataset} --splits {split} '
          '--config configs/progress_recommended.json')
