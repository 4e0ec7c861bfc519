"""Pair annotations with features: find the file, the time axis, the frames, and the part of each recording."""

import re
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from configs.generic_config import CONFIG
from recordings.feature_files import FEATURE_NDIM, open_recording
from recordings.feature_lookup import instead_of
from recordings.segment_list import MAX_MISMATCH, SegmentList, list_files
from recordings.splits import PARTS, Splits, make_splits
from tools.imported_dataset import ImportedRecording
from tools.source_segments import (
    OTHER_RATE,
    annotated_frames,
    check_rate,
    common_length,
    segments_at_feature_rate,
    short_annotation_note,
)
from utils.errors import UserError, name_some
from utils.logging import get_logger

LOGGER = get_logger(__name__)
LAYOUTS = ('auto', 'DT', 'TD')


def find_features(names: Collection[str], folder: Path, *, skip_missing: bool) -> dict[str, Path]:
    """Find the feature file of each recording.

    Args:
        names: annotated recordings.
        folder: folder of ``<recording>.npy`` files.
        skip_missing: True to leave out recordings without a file, with a warning.

    Returns:
        Recording -> file.

    Raises:
        UserError: the folder or a recording's file is missing.
    """
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder, expected a folder of <recording>.npy files; name it with '
                        '--features')
    paths = {name: folder / f'{name}.npy' for name in names}
    missing = [name for name, path in paths.items() if not path.exists()]
    refuse_or_skip(f'{folder}: no feature file for {name_some(missing)}', missing, skip_missing,
                   instead_of(missing, folder))
    found = {name: path for name, path in paths.items() if path.exists()}
    if not found:
        raise UserError(f'{folder}: contains no file for any of the {len(names)} annotated recordings, expected e.g. '
                        f'{next(iter(names))}.npy; name the folder with --features{instead_of([*names], folder)}')
    if more := sorted({path.stem for path in list_files(folder, '.npy')} - set(names)):
        LOGGER.warning('%s: %d files are not annotated and left out: %s', folder, len(more), name_some(more))
    return found


def refuse_or_skip(message: str, missing: Sequence[str], skip_missing: bool, instead: str = '') -> None:
    """Raise an error if something is missing; warn instead if the user gave ``--skip_missing``.

    Args:
        message: what is missing.
        missing: names of what is missing.
        skip_missing: True to warn.
        instead: what there is instead, as the rest of a sentence.

    Raises:
        UserError: something is missing and ``skip_missing`` is False.
    """
    if missing and not skip_missing:
        raise UserError(f'{message} ({len(missing)} in all); add what is missing, or give --skip_missing to leave out '
                        f'these recordings{instead}')
    if missing:
        LOGGER.warning('%s: left out (%d in all)%s', message, len(missing), instead)


def time_is_last(shapes: Mapping[Path, tuple[int, int]], annotated: Mapping[Path, int], layout: str,
                 last_ends: Mapping[Path, int] | None = None) -> bool:
    """Return True if feature files are (D, T), False if they are (T, D).

    Args:
        shapes: file -> shape.
        annotated: file -> annotated length in feature frames, if the source gives it.
        layout: 'DT', 'TD', or 'auto'. With 'auto', D is the axis that has the same size in all files; if both axes do,
            T is the axis whose sizes are closer to the annotated lengths, or the only one that holds the last ends.
        last_ends: file -> last annotated end in feature frames, if the source does not give the length.

    Raises:
        UserError: D differs between files, or 'auto' cannot decide.
    """
    # D is the same in all files, T usually is not.
    same = [len({shape[axis] for shape in shapes.values()}) == 1 for axis in (0, 1)]
    # If both axes are constant, the annotated lengths may tell which one is time.
    misfits = [sum(abs(shapes[path][axis] - length) for path, length in annotated.items()) for axis in (0, 1)]
    time_axis = {'DT': 1, 'TD': 0}.get(layout)
    if time_axis is None and same[0] != same[1]:
        time_axis = 1 if same[0] else 0
    elif time_axis is None and same[0] and misfits[0] != misfits[1]:
        time_axis = 1 if misfits[1] < misfits[0] else 0
    elif time_axis is None and same[0] and last_ends:
        # Only one axis may be long enough for the annotated times.
        fits = [all(end <= min(shapes[path][axis] + MAX_MISMATCH, OTHER_RATE * shapes[path][axis])
                    for path, end in last_ends.items()) for axis in (0, 1)]
        time_axis = fits.index(True) if fits.count(True) == 1 else None
    if time_axis is None and same[0]:
        path, shape = next(iter(shapes.items()))
        raise UserError(f'{path}: shape {shape}, either axis may be time; give --layout TD if the first axis is time, '
                        '--layout DT if the last axis is time')
    if time_axis is None or not same[1 - time_axis]:
        axis = 0 if time_axis is None else 1 - time_axis
        (one, first), *rest = shapes.items()
        other, second = next((path, shape) for path, shape in rest if shape[axis] != first[axis])
        raise UserError(f'{one}: shape {first}, but {other} has {second}; expected the same feature dimension: extract '
                        'all recordings with one network')
    return time_axis == 1


def choose_task(handle: str, name: str, pattern: re.Pattern | None) -> str:
    """Return the task of a recording.

    Args:
        handle: name of the recording.
        name: task if no pattern is given.
        pattern: regular expression whose first group, or whole match if there is no group, is the task.

    Raises:
        UserError: the pattern is not found in the handle.
    """
    if pattern is None:
        return name
    match = pattern.search(handle)
    task = match and (match[1] if pattern.groups else match[0])
    if not task:
        raise UserError(f'--task_regex {pattern.pattern}: finds no task in {handle!r}, expected a task in the name of '
                        'every recording; check that its group is the task')
    return task


def pair_recordings(
    sources: Mapping[str, SegmentList], features: Mapping[str, Path], tasks: Mapping[str, str], *, layout: str,
    rate: Fraction, max_mismatch: int | None, sample_rate: int,
) -> list[ImportedRecording]:
    """Convert the annotation of each recording to the frames of its features.

    Args:
        sources: recording -> its segments.
        features: recording -> its file; recordings without a file are left out.
        tasks: recording -> its task.
        layout: see :func:`time_is_last`.
        rate: feature frames per annotation frame.
        max_mismatch: maximum difference in length between annotation and features, in feature frames; None:
            ``MAX_MISMATCH``, and most recordings must fit within a tenth of their length.
        sample_rate: keep every n-th frame.

    Returns:
        The recordings, sorted by task.

    Raises:
        UserError: a file is not a valid feature file, or its length does not fit its annotation.
    """
    shapes = {path: open_recording(path, FEATURE_NDIM).shape for path in features.values()}
    annotated = {path: annotated_frames(sources[name], rate) for name, path in features.items()
                 if sources[name].length is not None}
    last_ends = {path: annotated_frames(sources[name], rate) for name, path in features.items()
                 if sources[name].length is None}
    time_last = time_is_last(shapes, annotated, layout, last_ends)
    pairs = [(sources[name], shapes[path][1 if time_last else 0]) for name, path in features.items()]
    recordings, cut, dropped = [], [], 0
    for name, path in sorted(features.items(), key=lambda item: (tasks[item[0]], item[0])):
        in_file = shapes[path][1 if time_last else 0]
        shared = common_length(sources[name], in_file, rate=rate,
                               max_mismatch=MAX_MISMATCH if max_mismatch is None else max_mismatch)
        in_annotation = annotated_frames(sources[name], rate)
        if shared < in_file or in_annotation > in_file:
            cut.append(f'{name} ({in_annotation} annotated, {in_file} in the file)')
        segments, lost = segments_at_feature_rate(sources[name], shared, rate=rate, sample_rate=sample_rate,
                                                  background=CONFIG.BACKGROUND_LABELS[0])
        dropped += lost
        recordings.append(ImportedRecording(tasks[name], name, path, time_last, shared, segments))
    if max_mismatch is None:
        check_rate(pairs, rate)
    if note := short_annotation_note(pairs, rate):
        LOGGER.warning('%s', note)
    if cut:
        LOGGER.warning('annotation and features differ in length in %d recordings, which are cut to the shorter '
                       'length: %s', len(cut), name_some(cut))
    if dropped:
        LOGGER.warning('%d segments contain no kept frame and are left out', dropped)
    return recordings


def bundled_splits(parts: Mapping[str, Sequence[str]], tasks: Mapping[str, str], val_share: float,
                   groups: Mapping[str, str] | None = None) -> Splits:
    """Group the recordings of bundles by task.

    Args:
        parts: part -> recordings.
        tasks: recording -> task, for the imported recordings.
        val_share: fraction of a task's training recordings that are used for validation instead; at least one
            recording, unless it is 0.
        groups: recording -> group; the recordings of a group validate together.

    Returns:
        task -> part -> recordings; a task without training recordings is left out, with a warning.
    """
    splits = Splits(groups=groups)
    for task in sorted(set(tasks.values())):
        members = {part: [name for name in parts.get(part, ()) if tasks.get(name) == task] for part in PARTS}
        if not members['train']:
            LOGGER.warning('task %s is left out: it has no training recordings in this split', task)
            continue
        if val_share:
            # At least one recording validates, but only if another one is left to train with.
            fraction = max(val_share, min(0.5, 1 / len(members['train'])))
            drawn = make_splits({task: members['train']}, (1 - fraction, fraction, 0), CONFIG.SEED, groups)[task]
            members = {**members, 'train': drawn['train'], 'val': sorted([*members['val'], *drawn['val']])}
        splits[task] = members
    return splits.take(splits)
