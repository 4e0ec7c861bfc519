"""Predictions as text: lines of the overlay and of subtitles."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from models.heads.estimates import END
from prediction.frame_progress import FrameProgress
from recordings.background import BACKGROUND
from utils.files import atomic_path

UNKNOWN = "I don't know"


class Caption(NamedTuple):
    """Texts of a row; a text is empty if its value is missing.

    Attributes:
        step: the step and its probability.
        step_remaining: time until the step ends.
        overall: progress of the recording.
        overall_remaining: time until the recording ends.
        next_step: the step after the current step.
    """

    step: str
    step_remaining: str
    overall: str
    overall_remaining: str
    next_step: str


def caption(row: FrameProgress) -> Caption:
    """Return the texts of a row."""
    step = row.step or 'step'
    if row.unknown:
        step = f'{UNKNOWN} ({step}?)'
    elif row.step_probability is not None:
        step = f'{step} ({percent(row.step_probability)} sure)'
    following = {None: '', BACKGROUND: '', END: 'next: the end'}.get(row.next_step, f'next: {row.next_step}')
    return Caption(step, _left(row.remaining_s), '' if row.overall is None else f'overall {percent(row.overall)}',
                   _left(row.overall_remaining_s), following)


def percent(value: float) -> str:
    """Format a fraction in percent."""
    return f'{100 * value:.0f} %'


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ''
    # Round first: 59.6 s are 1:00, not 0:60.
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02d} left' if minutes else f'{rest} s left'


def write_subtitles(path: Path, rows: Sequence[FrameProgress], fps: Fraction) -> None:
    """Write rows as subtitles (SubRip), atomically.

    Args:
        path: file to write.
        rows: rows of a recording.
        fps: feature frames per second of the recording.

    Raises:
        UserError: the file cannot be written.
    """
    # A row is shown until the next one, as a run may use only some frames (SKIP_RATE, MAX_FRAMES).
    ends = [row.frame for row in rows[1:]] + [rows[-1].frame + 1]
    with atomic_path(path) as temporary, temporary.open('w', encoding='utf-8') as file:
        for number, (row, end) in enumerate(zip(rows, ends, strict=True), 1):
            file.write(f'{number}\n{_stamp(row.frame / fps)} --> {_stamp(end / fps)}\n{_text(row)}\n\n')


def _text(row: FrameProgress) -> str:
    words = caption(row)
    within = '' if row.progress is None else percent(row.progress)
    if row.progress_low is not None and row.progress_high is not None:
        within += f' ({percent(row.progress_low)} to {percent(row.progress_high)})'
    lines = [(words.step, within and f'progress {within}', words.step_remaining),
             (words.overall, words.overall_remaining), (words.next_step,)]
    texts = [', '.join(filter(None, line)) for line in lines]
    return '\n'.join(' '.join(text.split()) for text in texts if text)  # an empty line would end the subtitle


def _stamp(seconds: Fraction) -> str:
    # From an exact fraction, so that subtitles do not drift in long videos.
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f'{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}'
