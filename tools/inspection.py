"""Inspect a dataset: collect its content and its problems, without stopping at the first problem.

``tools.check`` prints the result. Annotations and files are read by the same functions as in training, so every
problem that would stop training is found here.
"""

import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from recordings.annotations import TaskAnnotations, load_annotations
from recordings.assignment import one_list_per_handle
from recordings.background import look_alike_note, spell_background
from recordings.feature_files import AXES, FEATURE_NDIM, FRAME_NDIM, check_finite, open_recording
from recordings.feature_lookup import instead_of
from recordings.rates import segments_at_rate, task_rates
from recordings.segment_list import list_files
from recordings.time_notes import time_notes
from tools.feature_values import ValueSummary, summarize, value_notes
from utils.action import Action
from utils.errors import UserError, name_some
from utils.logging import ROOT, get_logger

LOGGER = get_logger(__name__)
Shapes = dict[str, tuple[int, ...]]
MANY_SHORT = 0.25  # fraction of one-frame actions, dropped actions, or unlabeled frames that is worth a note


@dataclass(frozen=True)
class RecordingView:
    """One recording at the feature rate.

    Attributes:
        handle: name of the recording.
        num_frames: T.
        rate: feature frames per annotation frame.
        annotation_list: position of its annotation list in the task.
        actions: segments that are not background.
        background_frames: number of frames with a background label.
        unlabeled_frames: number of frames outside all segments.
        gaps: number of gaps between two segments, or before the first segment.
        dropped: number of actions that contain no feature frame.
    """

    handle: str
    num_frames: int
    rate: Fraction
    annotation_list: int
    actions: list[Action]
    background_frames: int
    unlabeled_frames: int
    gaps: int
    dropped: int


@dataclass
class TaskView:
    """One task.

    Attributes:
        task: what is done in the recordings.
        handles: number of recordings in the annotations.
        lists: number of annotation lists; more than handles if there is one list per camera view.
        recordings: recordings that can be read and annotated.
    """

    task: str
    handles: int
    lists: int
    recordings: list[RecordingView] = field(default_factory=list)

    @property
    def actions(self) -> list[Action]:
        """Actions of all recordings of the task."""
        return [action for recording in self.recordings for action in recording.actions]


@dataclass
class Inspection:
    """Result of an inspection.

    Attributes:
        tasks: tasks by name, in the order of the file.
        handles: task -> handles of its annotations, also those without a valid file.
        frame_shape: shape of one frame; () if no file can be read.
        problems: problems that make training impossible.
        notes: observations that do not prevent training, but should be checked.
        values: handle -> summary of the values of its file; empty if values are not read.
    """

    tasks: dict[str, TaskView] = field(default_factory=dict)
    handles: dict[str, list[str]] = field(default_factory=dict)
    frame_shape: tuple[int, ...] = ()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    values: dict[str, ValueSummary] = field(default_factory=dict)


def inspect_dataset(annotations: Path, folder: Path, *, frames: bool = False, task_suffix: str = '',
                    time_scale: str | float = 'auto', background: Sequence[str], values: bool = True) -> Inspection:
    """Inspect a dataset.

    Args:
        annotations: the dataset's JSON file.
        folder: folder of ``<handle>.npy`` files.
        frames: True for ``(T, C, H, W)`` files, False for ``(T, D)``.
        task_suffix: only tasks whose name ends with it are kept.
        time_scale: see :func:`recordings.assignment.annotate_recordings`.
        background: labels of segments that are not actions.
        values: True to check for NaN and infinity, which reads every file completely.

    Returns:
        The content and the problems of the dataset.
    """
    found = Inspection()
    try:
        tasks = load_annotations(annotations, lambda mistake: found.problems.append(str(mistake)))
    except UserError as error:
        found.problems.append(str(error))
        return found
    tasks = spell_background({task: annotated for task, annotated in tasks.items() if task.endswith(task_suffix)},
                             background)
    handles = [handle for annotated in tasks.values() for handle in annotated.handles]
    found.handles = {task: list(annotated.handles) for task, annotated in tasks.items()}
    shapes = _read_shapes(found, handles, folder, FRAME_NDIM if frames else FEATURE_NDIM, values)
    # With a task suffix, files of the other tasks are expected to be in the folder.
    spare = sorted({path.stem for path in list_files(folder, '.npy')} - set(handles)) if not task_suffix else []
    if spare:
        found.notes.append(f'{len(spare)} files in {folder} do not belong to any annotated recording: '
                           f'{name_some(spare)}')
    found.notes += value_notes(found.values)
    for task, annotated in tasks.items():
        found.tasks[task] = TaskView(task, len(annotated.handles), len(annotated.actions))
        with collected_warnings(found.notes):
            try:
                found.tasks[task].recordings = _view_task(annotated, shapes, time_scale, background)
            except UserError as error:
                found.problems.append(str(error))
    if not found.problems and not any(view.actions for view in found.tasks.values()):
        found.notes.append('no task has an action: alignment can be trained, but a progress head cannot')
    for view in found.tasks.values():
        found.notes += _notes_on_task(view)
        labels = {action.name for action in view.actions}
        if note := look_alike_note(labels, background, 'add them to BACKGROUND_LABELS (here: --background)'):
            found.notes.append(f'task {view.task}: {note}')
    return found


@contextmanager
def collected_warnings(messages: list[str]) -> Iterator[None]:
    """Collect the warnings that training would log."""
    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger(ROOT), Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _read_shapes(found: Inspection, handles: Sequence[str], folder: Path, ndim: int, values: bool) -> Shapes:
    """Open every file; return handle -> shape of the valid files, and add problems of the other files."""
    missing = [handle for handle in handles if not (folder / f'{handle}.npy').exists()]
    if missing:
        found.problems.append(f'{len(missing)} of {len(handles)} handles have no file in {folder}: '
                              f'{name_some(missing)}; add the files or remove the handles from the annotations'
                              f'{instead_of(missing, folder)}')
    shapes: Shapes = {}
    for handle in (handle for handle in handles if handle not in set(missing)):
        path = folder / f'{handle}.npy'
        try:
            array = open_recording(path, ndim)
            if values:
                check_finite(array, path)
                found.values[handle] = summarize(array)
            shapes[handle] = array.shape
        except UserError as error:
            found.problems.append(str(error))
    # The most common shape is assumed to be right, so that the fewest files are reported.
    frame_shapes = Counter(shape[1:] for shape in shapes.values())
    found.frame_shape = frame_shapes.most_common(1)[0][0] if frame_shapes else ()
    if others := [f'{handle} {shape}' for handle, shape in shapes.items() if shape[1:] != found.frame_shape]:
        sizes = ' x '.join(map(str, found.frame_shape))
        found.problems.append(f'{len(others)} files differ in shape from the others, which are {AXES[ndim]} with '
                              f'{sizes} per frame: {name_some(others)}; extract all recordings with one network')
    return shapes


def _view_task(annotated: TaskAnnotations, shapes: Shapes, time_scale: str | float,
               background: Sequence[str]) -> list[RecordingView]:
    """Convert the recordings of a task to the feature rate; recordings without a valid file are left out.

    Raises:
        UserError: the task has no rate, or more lists than handles and they cannot be matched.
    """
    sound = [position for position, handle in enumerate(annotated.handles) if handle in shapes]
    if not sound:
        return []
    matching = len(annotated.actions) > len(annotated.handles)
    # Lists are matched by order and length of all recordings; a missing one would shift the others.
    if matching and len(sound) < len(annotated.handles):
        raise UserError(f'task {annotated.task}: {len(annotated.actions)} annotation lists for '
                        f'{len(annotated.handles)} handles can only be matched if all its files exist and are valid')
    lengths = [shapes[annotated.handles[position]][0] for position in sound]
    if not matching:
        annotated = annotated.take(sound, sound)
    paired = one_list_per_handle(annotated, lengths, time_scale)
    if paired is None:
        return []
    positions = _positions(annotated.actions, paired.actions) if matching else sound
    rates = task_rates(paired, lengths, time_scale)
    for note in time_notes(paired, lengths, rates, time_scale):
        LOGGER.warning('%s', note)  # collected with the other warnings that training would log
    columns = zip(paired.handles, lengths, rates, positions, paired.actions, paired.starts, paired.ends, strict=True)
    return [_view_recording(*column, background=background) for column in columns]


def _positions(lists: Sequence[list], taken: Sequence[list]) -> list[int]:
    """Return the positions of the lists taken. Lists are compared by identity, since two views may be equal."""
    numbers = {id(actions): number for number, actions in enumerate(lists)}
    return [numbers[id(actions)] for actions in taken]


def _view_recording(handle: str, num_frames: int, rate: Fraction, position: int, labels: list[str], starts: list[int],
                    ends: list[int], *, background: Sequence[str]) -> RecordingView:
    """Count actions, background, gaps, and dropped actions of one recording at the feature rate."""
    segments = segments_at_rate(labels, starts, ends, num_frames=num_frames, rate=rate)
    actions = [segment for segment in segments if segment.name not in background]
    labeled = sum(segment.length for segment in segments)
    idle = labeled - sum(action.length for action in actions)
    previous_ends = [-1, *(segment.end for segment in segments)]  # -1: a first segment at frame 0 has no gap before it
    gaps = sum(segment.start > end + 1 for segment, end in zip(segments, previous_ends, strict=False))
    dropped = sum(label not in background for label in labels) - len(actions)
    return RecordingView(handle, num_frames, rate, position, actions, idle, num_frames - labeled, gaps, dropped)


def _notes_on_task(view: TaskView) -> list[str]:
    """Return notes on what is unusual about a task."""
    if not view.recordings:
        return []
    notes, where, actions = [], f'task {view.task}', view.actions
    if len(view.recordings) == 1:
        notes.append(f'{where}: a single recording cannot be aligned; it is used to train progress only')
    if idle := [recording.handle for recording in view.recordings if not recording.actions]:
        notes.append(f'{where}: no action in {len(idle)} of {len(view.recordings)} recordings: {name_some(idle)}')
    single = sum(action.length == 1 for action in actions)
    if actions and single > MANY_SHORT * len(actions):
        notes.append(f'{where}: {single} of {len(actions)} actions last a single frame, in which there is no progress '
                     'to learn; extract features at a higher rate')
    dropped = sum(recording.dropped for recording in view.recordings)
    if dropped > MANY_SHORT * (len(actions) + dropped):
        notes.append(f'{where}: {dropped} of {len(actions) + dropped} actions contain no feature frame and are '
                     'dropped; check that the times belong to these recordings, or set TIME_SCALE')
    unlabeled = sum(recording.unlabeled_frames for recording in view.recordings)
    if unlabeled > MANY_SHORT * sum(recording.num_frames for recording in view.recordings):
        notes.append(f'{where}: more than {MANY_SHORT:.0%} of the frames are in no segment; if the features have the '
                     "rate of the annotation and continue after it, set TIME_SCALE to 1 or 'median'")
    return notes + _similar_labels(where, {action.name for action in actions})


def _similar_labels(where: str, labels: Iterable[str]) -> list[str]:
    """Return notes on labels that are equal except for case, spaces, hyphens and underscores."""
    spellings: dict[str, list[str]] = {}
    for label in sorted(labels):
        spellings.setdefault(''.join(letter for letter in label.casefold() if letter not in ' -_'), []).append(label)
    return [f'{where}: labels that may mean the same: {", ".join(map(repr, names))}'
            for names in spellings.values() if len(names) > 1]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile, linearly interpolated; for one value, the value itself."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method='inclusive')
    return lower, median, upper
