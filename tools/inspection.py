"""What is in a dataset and what is wrong with it, gathered without stopping at the first mistake.

``tools.check`` prints it. Annotations and files are read by the readers that training uses, so what stops training
is found here, too.
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
from recordings.feature_files import AXES, FEATURE_RANK, FRAME_RANK, check_finite, open_recording
from recordings.rates import segments_at_rate, task_rates
from recordings.segment_list import list_files
from utils.action import Action
from utils.errors import UserError, name_some
from utils.logging import ROOT

Shapes = dict[str, tuple[int, ...]]
MANY_SHORT = 0.25  # share of actions of one frame, of dropped actions, or of unlabelled frames that is worth a note


@dataclass(frozen=True)
class RecordingView:
    """One recording at the feature rate.

    Attributes:
        handle: its name.
        num_frames: T.
        rate: feature frames per annotation frame.
        annotation_list: position of its annotation list in the task.
        actions: its segments that are no background.
        background_frames: frames with a background label.
        unlabelled_frames: frames in no segment.
        gaps: places between two segments, or before the first, that have frames in no segment.
        dropped: actions that hold no feature frame.
    """

    handle: str
    num_frames: int
    rate: Fraction
    annotation_list: int
    actions: list[Action]
    background_frames: int
    unlabelled_frames: int
    gaps: int
    dropped: int


@dataclass
class TaskView:
    """One task.

    Attributes:
        task: what is done in the recordings.
        handles: recordings by the annotations.
        lists: annotation lists, more than handles where there is one per camera view.
        recordings: those that can be read and annotated.
    """

    task: str
    handles: int
    lists: int
    recordings: list[RecordingView] = field(default_factory=list)

    @property
    def actions(self) -> list[Action]:
        """Actions of all its recordings."""
        return [action for recording in self.recordings for action in recording.actions]


@dataclass
class Inspection:
    """What was found.

    Attributes:
        tasks: by name, in the file's order.
        frame_shape: of one frame, () where no file can be read.
        problems: what keeps the dataset from being trained on.
        notes: what it can be trained with, but is worth a look.
    """

    tasks: dict[str, TaskView] = field(default_factory=dict)
    frame_shape: tuple[int, ...] = ()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inspect_dataset(annotations: Path, folder: Path, *, frames: bool = False, task_suffix: str = '',
                    time_scale: str | float = 'auto', background: Sequence[str], values: bool = True) -> Inspection:
    """Look a dataset through.

    Args:
        annotations: the dataset's JSON file.
        folder: of ``<handle>.npy`` files.
        frames: True for ``(T, C, H, W)`` files, False for ``(T, D)``.
        task_suffix: keeps the tasks whose name ends with it.
        time_scale: see ``recordings.annotations``.
        background: labels of segments that are no action.
        values: look for NaN and infinity, which reads every file whole.

    Returns:
        What is there and what is wrong.
    """
    found = Inspection()
    try:
        tasks = load_annotations(annotations, lambda mistake: found.problems.append(str(mistake)))
    except UserError as error:
        found.problems.append(str(error))
        return found
    tasks = {task: annotated for task, annotated in tasks.items() if task.endswith(task_suffix)}
    handles = [handle for annotated in tasks.values() for handle in annotated.handles]
    shapes = _read_shapes(found, handles, folder, FRAME_RANK if frames else FEATURE_RANK, values)
    # the files of a part's other tasks are no surprise
    spare = sorted({path.stem for path in list_files(folder, '.npy')} - set(handles)) if not task_suffix else []
    if spare:
        found.notes.append(f'{len(spare)} files in {folder} belong to no recording that was looked at: '
                           f'{name_some(spare)}')
    for task, annotated in tasks.items():
        found.tasks[task] = TaskView(task, len(annotated.handles), len(annotated.actions))
        with _collected_warnings(found.notes):
            try:
                found.tasks[task].recordings = _view_task(annotated, shapes, time_scale, background)
            except UserError as error:
                found.problems.append(str(error))
    if not found.problems and not any(view.actions for view in found.tasks.values()):
        found.notes.append('no task has an action: alignment can be trained, a progress head cannot')
    for view in found.tasks.values():
        found.notes += _notes_on_task(view)
    return found


@contextmanager
def _collected_warnings(messages: list[str]) -> Iterator[None]:
    """Take the warnings that training would log."""
    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger(ROOT), Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _read_shapes(found: Inspection, handles: Sequence[str], folder: Path, rank: int, values: bool) -> Shapes:
    """Open every file; return handle -> shape of those that are sound, and add what is wrong with the others."""
    missing = [handle for handle in handles if not (folder / f'{handle}.npy').exists()]
    if missing:
        found.problems.append(f'{len(missing)} of {len(handles)} handles have no file in {folder}: '
                              f'{name_some(missing)}; add the files or take the handles out of the annotations')
    shapes: Shapes = {}
    for handle in (handle for handle in handles if handle not in set(missing)):
        path = folder / f'{handle}.npy'
        try:
            array = open_recording(path, rank)
            if values:
                check_finite(array, path)
            shapes[handle] = array.shape
        except UserError as error:
            found.problems.append(str(error))
    widths = Counter(shape[1:] for shape in shapes.values())
    found.frame_shape = widths.most_common(1)[0][0] if widths else ()
    if others := [f'{handle} {shape}' for handle, shape in shapes.items() if shape[1:] != found.frame_shape]:
        width = ' x '.join(map(str, found.frame_shape))
        found.problems.append(f'{len(others)} files differ in width from the others, which are {AXES[rank]} with '
                              f'{width}: {name_some(others)}; extract all recordings with one network')
    return shapes


def _view_task(annotated: TaskAnnotations, shapes: Shapes, time_scale: str | float,
               background: Sequence[str]) -> list[RecordingView]:
    """Bring the recordings of a task to the feature rate; those without a sound file are left out.

    Raises:
        UserError: the task has no rate, or lists that outnumber its handles and cannot be matched.
    """
    sound = [position for position, handle in enumerate(annotated.handles) if handle in shapes]
    if not sound:
        return []
    matching = len(annotated.actions) > len(annotated.handles)
    if matching and len(sound) < len(annotated.handles):
        raise UserError(f'task {annotated.task}: {len(annotated.actions)} annotation lists for '
                        f'{len(annotated.handles)} handles can only be matched when all its files are there and sound')
    lengths = [shapes[annotated.handles[position]][0] for position in sound]
    if not matching:
        annotated = annotated.take(sound, sound)
    paired = one_list_per_handle(annotated, lengths, time_scale)
    if paired is None:
        return []
    positions = _positions(annotated.actions, paired.actions) if matching else sound
    columns = zip(paired.handles, lengths, task_rates(paired, lengths, time_scale), positions, paired.actions,
                  paired.starts, paired.ends, strict=True)
    return [_view_recording(*column, background=background) for column in columns]


def _positions(lists: Sequence[list], taken: Sequence[list]) -> list[int]:
    """Return which lists were taken, by identity: those of two views of one person may be equal."""
    numbers = {id(actions): number for number, actions in enumerate(lists)}
    return [numbers[id(actions)] for actions in taken]


def _view_recording(handle: str, num_frames: int, rate: Fraction, position: int, labels: list[str], starts: list[int],
                    ends: list[int], *, background: Sequence[str]) -> RecordingView:
    """Count what one recording holds at the feature rate."""
    segments = segments_at_rate(labels, starts, ends, num_frames=num_frames, rate=rate)
    actions = [segment for segment in segments if segment.name not in background]
    labelled = sum(segment.length for segment in segments)
    idle = labelled - sum(action.length for action in actions)
    previous_ends = [-1, *(segment.end for segment in segments)]
    gaps = sum(segment.start > end + 1 for segment, end in zip(segments, previous_ends, strict=False))
    dropped = sum(label not in background for label in labels) - len(actions)
    return RecordingView(handle, num_frames, rate, position, actions, idle, num_frames - labelled, gaps, dropped)


def _notes_on_task(view: TaskView) -> list[str]:
    """Say what is unusual about a task that can be read."""
    if not view.recordings:
        return []
    notes, where, actions = [], f'task {view.task}', view.actions
    if len(view.recordings) == 1:
        notes.append(f'{where}: one recording alone cannot be aligned; it trains progress only')
    if idle := [recording.handle for recording in view.recordings if not recording.actions]:
        notes.append(f'{where}: no action in {len(idle)} of {len(view.recordings)} recordings: {name_some(idle)}')
    single = sum(action.length == 1 for action in actions)
    if actions and single > MANY_SHORT * len(actions):
        notes.append(f'{where}: {single} of {len(actions)} actions last a single frame, at which there is no progress '
                     'to learn; sample the features more finely')
    dropped = sum(recording.dropped for recording in view.recordings)
    if dropped > MANY_SHORT * (len(actions) + dropped):
        notes.append(f'{where}: {dropped} of {len(actions) + dropped} actions hold no feature frame and are dropped; '
                     'see that the times are those of these recordings, or set TIME_SCALE')
    unlabelled = sum(recording.unlabelled_frames for recording in view.recordings)
    if unlabelled > MANY_SHORT * sum(recording.num_frames for recording in view.recordings):
        notes.append(f'{where}: more than {MANY_SHORT:.0%} of the frames are in no segment; if the features go on '
                     "beyond the annotation at its rate, set TIME_SCALE to 1 or 'median'")
    return notes + _similar_labels(where, {action.name for action in actions})


def _similar_labels(where: str, labels: Iterable[str]) -> list[str]:
    """Name labels that are one but for case, spaces, hyphens and underscores."""
    spellings: dict[str, list[str]] = {}
    for label in sorted(labels):
        spellings.setdefault(''.join(letter for letter in label.casefold() if letter not in ' -_'), []).append(label)
    return [f'{where}: labels that may mean the same: {", ".join(map(repr, names))}'
            for names in spellings.values() if len(names) > 1]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile, as linear interpolation has them; of one value itself."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method='inclusive')
    return lower, median, upper
