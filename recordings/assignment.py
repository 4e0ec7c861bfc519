"""Assign annotation lists to recordings, and convert the times of every recording to the feature rate."""

from collections.abc import Mapping, Sequence

from recordings.annotations import TaskAnnotations, short
from recordings.rates import scale_number, segments_at_rate, task_rates
from recordings.time_notes import time_notes
from recordings.view_matching import match_lists_to_handles, opening_key
from utils.action import Action
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)


def annotate_recordings(
    annotations: Mapping[str, TaskAnnotations], num_frames: Mapping[str, int], *, time_scale: str | float = 'auto',
    min_segment_len: int = 3, background_labels: Sequence[str],
) -> dict[str, dict[str, list[Action]]]:
    """Assign each recording its annotation at the feature rate.

    If a task has more annotation lists than handles, lists are matched to handles by order and length; if that fails,
    the task is left out. Both cases log a warning.

    Args:
        annotations: see :func:`load_annotations`.
        num_frames: handle -> T, feature frames of the recording.
        time_scale: 'auto' for one rate per recording, 'median' for the task's median rate, or a number of annotation
            frames per feature frame, > 0.
        min_segment_len: actions shorter than this many feature frames are counted in the log.
        background_labels: labels of segments that are not actions.

    Returns:
        task -> handle -> segments in feature frames, including background, in the order of the task's handles. Tasks
        that are left out are missing.

    Raises:
        UserError: ``time_scale`` is invalid, a task has no rate, or no task remains.
    """
    if time_scale not in ('auto', 'median'):
        scale_number(time_scale)
    annotated_segments = {}
    for task, annotated in annotations.items():
        lengths = [int(num_frames[handle]) for handle in annotated.handles]
        paired = one_list_per_handle(annotated, lengths, time_scale)
        if paired is None:
            continue
        rates = task_rates(paired, lengths, time_scale)
        for note in time_notes(paired, lengths, rates, time_scale):
            LOGGER.warning('%s', note)
        columns = zip(paired.actions, paired.starts, paired.ends, lengths, rates, strict=True)
        segments = [segments_at_rate(labels, starts, ends, num_frames=frames, rate=rate)
                    for labels, starts, ends, frames, rate in columns]
        _log_task(paired, segments, min_segment_len, background_labels)
        annotated_segments[task] = dict(zip(paired.handles, segments, strict=True))
    if not annotated_segments:
        raise UserError(f'no task remains of {short(", ".join(annotations))}: every task has more annotation lists '
                        'than handles, and they cannot be matched; write one list per handle, in the order of the '
                        'handles')
    return annotated_segments


def one_list_per_handle(annotated: TaskAnnotations, lengths: Sequence[int],
                        time_scale: str | float) -> TaskAnnotations | None:
    """Return one annotation list per handle, matched by order and length if there are more lists; None if no match."""
    lists, handles = len(annotated.actions), len(annotated.handles)
    if lists == handles:
        return annotated
    # Lists of one person's camera views begin alike, so their first actions tell which lists belong together.
    keys = [opening_key(*opening) for opening in zip(annotated.actions, annotated.starts, strict=True)]
    rate = None if isinstance(time_scale, str) else float(1 / scale_number(time_scale))  # a number fixes the rate
    match = match_lists_to_handles([max(ends, default=0) for ends in annotated.ends], lengths, keys, rate=rate)
    advice = 'to be sure, write one list per handle, in the order of the handles'
    if match is None:
        LOGGER.warning('task %s is left out: %d annotation lists for %d handles, and there is no unique assignment in '
                       'order that fits the lengths of the recordings within 2 %% at %s; %s', annotated.task, lists,
                       handles, 'one rate' if rate is None else f'TIME_SCALE {time_scale}', advice)
        return None
    LOGGER.warning('task %s: %d annotation lists for %d handles; each recording gets the list that fits its position '
                   'and length (all within 2 %% or 1.5 frames); %s', annotated.task, lists, handles, advice)
    return annotated.take(match)


def _log_task(annotated: TaskAnnotations, segments: Sequence[Sequence[Action]], min_segment_len: int,
              background_labels: Sequence[str]) -> None:
    """Log how many of a task's actions remain at the feature rate."""
    background = set(background_labels)
    total = sum(label not in background for labels in annotated.actions for label in labels)
    lengths = [segment.length for recording in segments for segment in recording if segment.name not in background]
    short, dropped = sum(length < min_segment_len for length in lengths), total - len(lengths)
    LOGGER.info('task %s: %d recordings, %d actions%s%s', annotated.task, len(segments), len(lengths),
                f', {short} of them shorter than {min_segment_len} frames' if short else '',
                f'; {dropped} more contain no frame and are dropped' if dropped else '')
