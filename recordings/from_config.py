"""Load the recordings of a run from its configuration, by task and part of the split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from configs.paths import DatasetPaths, dataset_paths
from recordings.feature_files import small_enough_to_check
from recordings.groups import groups_by_regex, groups_in_two_parts, views_in_train_and_test
from recordings.json_dataset import Recording, RecordingsByTask, load_recordings
from recordings.splits import PARTS, Splits, load_splits, make_splits
from utils.command_line import option
from utils.errors import UserError
from utils.logging import get_logger
from utils.tensorops import Action

LOGGER = get_logger(__name__)


def _paths_of(config: Mapping, *, frames: bool) -> DatasetPaths:
    return dataset_paths(config.DATASET_NAME, 'frames' if frames else 'features')


def load_dataset(config: Mapping, *, frames: bool = False) -> RecordingsByTask:
    """Index the dataset that a configuration names, under the paths in the environment variables.

    Args:
        config: a CONFIG.
        frames: True to read frames (T, C, H, W), False to read features (T, D); must match the encoder.

    Raises:
        UserError: a path, the annotations, or a file is invalid.
    """
    paths = _paths_of(config, frames=frames)
    return load_recordings(
        paths.annotations, paths.recordings, frames=frames, task_suffix=paths.task_suffix,
        time_scale=config.TIME_SCALE, min_segment_len=config.PROGRESS_LOSS.min_segment_len,
        background_labels=config.BACKGROUND_LABELS, values_limit_gb=config.CHECK_VALUES_GB,
        skip_rate=config.SKIP_RATE, max_frames=config.MAX_FRAMES)


def choose_splits(config: Mapping, recordings: RecordingsByTask, path: Path | None, *, frames: bool = False) -> Splits:
    """Return the split of ``--splits``, or a random split with the configured fractions and seed, with its groups.

    Groups are taken from the handles by GROUP_REGEX, if it is set, else from the file.


    Args:
        config: a CONFIG.
        recordings: task -> recordings.
        path: file given with ``--splits``, or None.
        frames: as in :func:`load_dataset`.

    Raises:
        UserError: see :func:`recordings.splits.load_splits`; or GROUP_REGEX is not found in a handle.
    """
    handles = {task: [recording.handle for recording in members] for task, members in recordings.items()}
    groups = {}
    if config.GROUP_REGEX:
        with option('GROUP_REGEX'):
            groups = groups_by_regex((handle for names in handles.values() for handle in names), config.GROUP_REGEX)
    if path:
        splits = load_splits(path, handles)
        splits = Splits(splits, groups).take(splits) if groups else splits  # GROUP_REGEX overrides the file
        if warning := groups_in_two_parts(splits, splits.groups):
            LOGGER.warning('%s: %s', path, warning)
        _warn_of_views(splits, recordings)
        return splits
    written = _paths_of(config, frames=frames).splits
    LOGGER.info('no split file given: a split is drawn by TRAIN_SPLIT and SEED%s',
                f'; the split that was written with the dataset is {written}' if written.exists() else '')
    splits = make_splits(handles, config.TRAIN_SPLIT, config.SEED, groups)
    _warn_of_views(splits, recordings)
    return splits


def _warn_of_views(splits: Splits, recordings: RecordingsByTask) -> None:
    """Warn of training and test recordings that may show one performance."""
    actions = {recording.handle: recording.actions for members in recordings.values() for recording in members}
    for warning in views_in_train_and_test(splits, splits.groups, actions):
        LOGGER.warning('%s', warning)


def split_recordings(recordings: RecordingsByTask, splits: Splits) -> dict[str, RecordingsByTask]:
    """Group recordings by part: part -> task -> recordings, in the order of the split and with its groups.

    Raises:
        UserError: a recording of the split is no longer in the dataset, or not in that task.
    """
    # A handle occurs once in a dataset, whatever its task.
    by_handle = {recording.handle: recording for members in recordings.values() for recording in members}
    for task, parts in splits.items():
        for handle in (handle for part in PARTS for handle in parts[part]):
            # Check the task, too: it becomes part of file names, which only the dataset's tasks were checked for.
            if handle not in by_handle or by_handle[handle].task != task:
                raise UserError(f'recording {handle!r:.60} of task {task!r:.60} is in the split, but not in the '
                                'dataset at DATASET_PATH and JSON_DPATH; point them at the dataset of the run')

    def grouped(handle: str) -> Recording:
        return replace(by_handle[handle], group=splits.groups.get(handle))

    return {part: RecordingsByTask({task: [grouped(handle) for handle in parts[part]]
                                    for task, parts in splits.items()}) for part in PARTS}


def reading_options(config: Mapping, recordings: RecordingsByTask, *, frames: bool = False) -> dict[str, bool | int]:
    """Return the arguments of ``RecordingDataset`` that a configuration sets.

    Args:
        config: a CONFIG.
        recordings: task -> recordings.
        frames: as in :func:`load_dataset`.
    """
    paths = [recording.path for members in recordings.values() for recording in members]
    return {'frames': frames, 'skip_rate': config.SKIP_RATE,
            'max_frames': config.MAX_FRAMES, 'lazy': config.LAZY_LOAD,
            'values_checked': small_enough_to_check(paths, config.CHECK_VALUES_GB)}


def count_recordings(parts: Mapping[str, RecordingsByTask]) -> Sequence[int]:
    """Return the numbers of train, validation and test recordings."""
    return [sum(len(members) for members in parts[part].values()) for part in PARTS]


def list_all_actions(recordings: RecordingsByTask) -> dict[str, list[Sequence[Action]]]:
    """Return task -> actions of each of its recordings."""
    return {task: [recording.actions for recording in members] for task, members in recordings.items()}


def explain_unused(config: Mapping, recordings: RecordingsByTask,
                   parts: Mapping[str, RecordingsByTask]) -> dict[str, list[str]]:
    """Return the recordings that a training run does not use, or uses only for alignment.

    Args:
        config: a CONFIG.
        recordings: return value of ``load_dataset``.
        parts: return value of ``split_recordings``.

    Returns:
        Reason -> handles; reasons without recordings are left out.
    """
    progress = config.PROGRESS_LOSS
    shortest = progress.min_segment_len if progress.sampling == 'segment' else 1
    in_split = {recording.handle for part in parts.values() for members in part.values() for recording in members}
    # Recordings without an action to learn progress from, and recordings that no batch pairs with another one.
    silent = {recording.handle for members in parts['train'].values() for recording in members
              if not any(action.length >= shortest for action in recording.actions)}
    alone = {recording.handle for members in parts['train'].values() for recording in members
             if min(len(members), config.BATCH_SIZE) == 1}
    # Without a partner and without an action, a recording has no loss term.
    idle = alone & silent if progress.enabled else alone
    reasons = {
        'never used, left out with their task: its annotation lists cannot be matched to its handles':
            recordings.left_out,
        'never used, in no part of the split': [
            recording.handle for members in recordings.values() for recording in members
            if recording.handle not in in_split],
        f'never used, no recording to align with{" and no action" if progress.enabled else ""}': sorted(idle),
        f'without an action of {shortest} frames or more, used for alignment but not for the progress loss':
            sorted(silent - idle) if progress.enabled else [],
    }
    return {reason: handles for reason, handles in reasons.items() if handles}
