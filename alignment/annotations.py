"""Read the labels of annotated recordings, and write annotation files."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from prediction.segments import Segment, choose_segments, fit_segments, read_segment_table
from recordings.annotations import LIST_KEYS, load_annotations
from recordings.assignment import annotate_recordings
from utils.action import Action
from utils.errors import UserError, name_some
from utils.files import read_json, write_json

Tables = Mapping[str, list[Segment]]


def read_tables(path: Path, names: Sequence[str], named: str | None, fps: Fraction | None) -> Tables | None:
    """Read a table of segments; nothing of the recordings has to be known for it.

    Args:
        path: annotation file of a dataset, or a table of segments (CSV or JSON).
        names: names of the recordings.
        named: recording that a table without a column of recordings belongs to; None: the one with the file's name.
        fps: feature frames per second if the times of a table are in seconds; None if they are feature frames.

    Returns:
        Name -> segments of the annotated recordings among those named; None for an annotation file.

    Raises:
        UserError: the file cannot be read, or annotates none of the recordings.
    """
    if _is_annotation_file(path):
        return None
    tables = read_segment_table(path, fps)
    if None in tables:
        owner = named or (path.stem if path.stem in names else None)
        if owner is None:
            raise UserError(f'{path}: has no column of recordings, expected one, or the name of the recording that it '
                            f'annotates; give --reference NAME, or call the file like one of {name_some(list(names))}')
        tables = {owner: tables[None]}
    found = {name: choose_segments(tables, name, path) for name in tables if name in names}
    if not found:
        raise _annotates_none(path, names)
    return found


def read_labels(path: Path, lengths: Mapping[str, int], tables: Tables | None,
                background: Sequence[str]) -> tuple[dict[str, list[Action]], str | None]:
    """Return the segments of the recordings that a file annotates.

    Args:
        path: annotation file of a dataset, or a table of segments (CSV or JSON).
        lengths: name -> T, feature frames of each recording.
        tables: from :func:`read_tables`.
        background: labels of segments that are not actions.

    Returns:
        Name -> segments in feature frames, of the annotated recordings among those given; and the task that the
        annotation file lists them under, None for a table.

    Raises:
        UserError: the annotation file cannot be read or annotates none of the recordings, or a segment does not fit
            its recording.
    """
    if tables is not None:
        return {name: _check(path, segments, name, lengths[name]) for name, segments in tables.items()}, None
    labels, task = _read_annotation_file(path, lengths, background)
    if not labels:
        raise _annotates_none(path, list(lengths))
    return labels, task


def _annotates_none(path: Path, names: Sequence[str]) -> UserError:
    return UserError(f'{path}: annotates none of the recordings {name_some(names)}; expected at least one of them')


def _is_annotation_file(path: Path) -> bool:
    if path.suffix != '.json':
        return False
    content = read_json(path, 'an annotation file or a table of segments')
    return isinstance(content, dict) and any(isinstance(fields, dict) and LIST_KEYS[0] in fields
                                             for fields in content.values())


def _read_annotation_file(path: Path, lengths: Mapping[str, int],
                          background: Sequence[str]) -> tuple[dict[str, list[Action]], str | None]:
    tasks = {}
    for task, annotated in load_annotations(path).items():
        chosen = [position for position, handle in enumerate(annotated.handles) if handle in lengths]
        if chosen and len(annotated.actions) != len(annotated.handles):
            raise UserError(f'{path}: task {task!r} has {len(annotated.actions)} lists for {len(annotated.handles)} '
                            'handles, expected one per handle; give a table of segments instead')
        # A recording without segments is not annotated: its labels are those to be found.
        chosen = [position for position in chosen if annotated.actions[position]]
        if chosen:
            tasks[task] = annotated.take(chosen, chosen)
    if len(tasks) > 1:
        raise UserError(f'{path}: the recordings are of the tasks {name_some(list(tasks))}, expected one task; align '
                        'the recordings of one task at a time')
    labels = annotate_recordings(tasks, lengths, background_labels=background) if tasks else {}
    return next(iter(labels.values()), {}), next(iter(labels), None)


def _check(path: Path, segments: Sequence[Segment], name: str, num_frames: int) -> list[Action]:
    segments = fit_segments(segments, num_frames, f'{path}: {name}')
    if unnamed := next((segment for segment in segments if not segment.label), None):
        raise UserError(f'{path}: {name}: the segment from {unnamed.start} to {unnamed.end} has no label, expected one '
                        'to carry over; add it')
    return [Action(segment.label, segment.start, segment.end - 1) for segment in segments]


def write_annotations(path: Path, task: str, recordings: Mapping[str, tuple[Sequence[Action], int]],
                      background: str) -> None:
    """Write the segments of recordings as the annotation file of a dataset.

    Frames without a label are in no segment, except for the last frame of a recording, which is background then: the
    last end tells readers the rate of the features (``TIME_SCALE``), so it has to be the recording's end.

    Args:
        path: file to write.
        task: name of the task.
        recordings: name -> its segments in feature frames, and T.
        background: label of background.
    """
    fields: dict[str, list] = {key: [] for key in ('handles', *LIST_KEYS)}
    for name, (segments, num_frames) in recordings.items():
        whole = list(segments)
        if not whole or whole[-1].end < num_frames - 1:
            whole.append(Action(background, num_frames - 1, num_frames - 1))
        fields['handles'].append(name)
        for key, values in zip(LIST_KEYS, zip(*((label, start, end + 1) for label, start, end in whole), strict=True),
                               strict=True):
            fields[key].append(list(values))
    write_json(path, {task: fields})
