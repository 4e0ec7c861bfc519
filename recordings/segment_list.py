"""What an annotation source says of one recording: labelled segments, in the source's own unit of time.

The sources are frame-wise label files (``tools.frame_labels``) and tables (``recordings.segment_tables``).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from recordings.kept_frames import follow_frames
from recordings.rates import segments_at_rate
from utils.errors import UserError


@dataclass(frozen=True)
class SegmentList:
    """The segments of one recording, half-open, in order, without overlaps.

    Attributes:
        source: the file they come from, for messages.
        labels: what is done in each segment.
        starts: when each begins, in seconds or annotation frames.
        ends: when each has ended.
        length: length of the whole recording in annotation frames, None where the source does not tell.
    """

    source: str
    labels: list[str]
    starts: list[Fraction]
    ends: list[Fraction]
    length: int | None = None


def list_files(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder in order, without the hidden ones that some systems leave beside each file."""
    return sorted(path for path in folder.glob(f'*{ending}') if not path.name.startswith('.'))


def read_text(path: Path) -> str:
    """Read a text file, Windows' byte order mark and line ends included.

    Raises:
        UserError: the file cannot be read or is no UTF-8 text.
    """
    try:
        return path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected a text file') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: byte {error.start} is no UTF-8; save the file as UTF-8 text') from error


def mark_background(segments: SegmentList, background: Collection[str], label: str) -> SegmentList:
    """Give background segments one label, and make those that touch one segment.

    Args:
        segments: of a recording.
        background: labels that are background in this source.
        label: what they become.
    """
    kept: list[tuple[str, Fraction, Fraction]] = []
    for name, start, end in zip(segments.labels, segments.starts, segments.ends, strict=True):
        name = label if name in background else name
        if kept and name == kept[-1][0] == label and start == kept[-1][2]:
            start = kept.pop()[1]
        kept.append((name, start, end))
    return replace(segments, labels=[name for name, _, _ in kept], starts=[start for _, start, _ in kept],
                   ends=[end for _, _, end in kept])


def annotated_frames(segments: SegmentList, rate: Fraction) -> int:
    """Return the feature frames whose centre lies before the end of the recording, or of its last segment.

    Args:
        segments: of a recording.
        rate: feature frames per unit of the annotation's time.
    """
    end = max(segments.ends, default=Fraction(0)) if segments.length is None else segments.length
    return math.ceil(end * rate - Fraction(1, 2))


def common_length(segments: SegmentList, num_frames: int, *, rate: Fraction, max_mismatch: int) -> int:
    """Return the number of feature frames that annotation and features share.

    Args:
        segments: of a recording.
        num_frames: T, feature frames of the recording.
        rate: feature frames per unit of the annotation's time.
        max_mismatch: feature frames by which the two may differ.

    Raises:
        UserError: they differ by more, or share no frame; a source that does not tell the length may end earlier than
            the features.
    """
    annotated, tells_length = annotated_frames(segments, rate), segments.length is not None
    too_long = annotated - num_frames > max_mismatch
    too_short = tells_length and num_frames - annotated > max_mismatch
    shared = min(annotated, num_frames) if tells_length else num_frames
    if too_long or too_short or not shared:
        raise UserError(f'{segments.source}: annotated are {annotated} feature frames, but there are {num_frames}; '
                        f'expected a difference of at most {max_mismatch} (--max_mismatch): '
                        f'{_advice(segments, num_frames)}')
    return shared


def _advice(segments: SegmentList, num_frames: int) -> str:
    """Say what a difference in length comes from, probably."""
    if segments.length is None:
        return 'see that --unit, --fps and --labels_per_feature are those of this source'
    ratio = segments.length / num_frames
    if ratio > 1.5 and abs(ratio - round(ratio)) < 0.1:
        return (f'there are about {round(ratio)} labels per feature frame: if the features are sampled more coarsely, '
                f'give --labels_per_feature {round(ratio)}')
    return 'see that both are of the same recording and rate'


def segments_at_feature_rate(segments: SegmentList, num_frames: int, *, rate: Fraction, sample_rate: int,
                             background: str) -> tuple[dict[str, list], int]:
    """Bring segments to the frames that are kept.

    Args:
        segments: of a recording.
        num_frames: feature frames that annotation and features share.
        rate: feature frames per unit of the annotation's time.
        sample_rate: every n-th of those frames is kept.
        background: label of the end of a recording where its annotation ends earlier.

    Returns:
        'labels', 'starts' and 'ends', half-open, in kept frames, the last end being their number; and how many segments
        hold no kept frame.
    """
    at_rate = segments_at_rate(segments.labels, segments.starts, segments.ends, num_frames=num_frames, rate=rate)
    followed = follow_frames(at_rate, range(0, num_frames, sample_rate))
    labels, starts, ends = ([name for name, _, _ in followed], [start for _, start, _ in followed],
                            [end + 1 for _, _, end in followed])
    dropped = len(segments.labels) - len(labels)
    kept = -(-num_frames // sample_rate)
    last = ends[-1] if ends else 0
    if last < kept:
        # TIME_SCALE 'auto' reads a recording's rate off its last end: a tail without label would stretch all times.
        labels, starts, ends = [*labels, background], [*starts, last], [*ends, kept]
    return {'labels': labels, 'starts': starts, 'ends': ends}, dropped
