"""Convert the segments of an imported recording to the frames of its features."""

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction

from recordings.kept_frames import follow_frames
from recordings.rates import segments_at_rate
from recordings.segment_list import MAX_MISMATCH, SegmentList
from utils.errors import UserError

MAX_RELATIVE = Fraction(10, 100)  # most recordings must fit within this fraction of their length
FEW_FRAMES = 2  # a difference that means nothing, however short the recordings are
SAME_FRACTION = Fraction(105, 100)  # recordings whose annotations end at the same fraction of their length
MANY_FRAMES = 10  # with as many, labels repeat
OTHER_RATE = Fraction(3, 2)  # at this ratio of the lengths the rates differ, however small the difference


def mark_background(segments: SegmentList, background: Collection[str], label: str) -> SegmentList:
    """Give all background segments the same label, and merge background segments that touch.

    Args:
        segments: segments of a recording.
        background: labels that are background in this source, compared without case.
        label: label that replaces them.
    """
    folded = {name.casefold() for name in background}
    kept: list[tuple[str, Fraction, Fraction]] = []
    for name, start, end in zip(segments.labels, segments.starts, segments.ends, strict=True):
        name = label if name.casefold() in folded else name
        # Touching segments of two background labels have the same label now, so they become one segment.
        if kept and name == kept[-1][0] == label and start == kept[-1][2]:
            start = kept.pop()[1]  # continue the segment before
        kept.append((name, start, end))
    return replace(segments, labels=[name for name, _, _ in kept], starts=[start for _, start, _ in kept],
                   ends=[end for _, _, end in kept])


def annotated_frames(segments: SegmentList, rate: Fraction) -> int:
    """Return the number of feature frames whose center is before the end of the recording.

    If the source does not give the length of the recording, the end of the last segment is used.

    Args:
        segments: segments of a recording.
        rate: feature frames per annotation frame.
    """
    end = max(segments.ends, default=Fraction(0)) if segments.length is None else segments.length
    # Frame i has its center at i + 1/2, which must be before the end.
    return math.ceil(end * rate - Fraction(1, 2))


def common_length(segments: SegmentList, num_frames: int, *, rate: Fraction, max_mismatch: int) -> int:
    """Return the number of feature frames that annotation and features have in common.

    Args:
        segments: segments of a recording.
        num_frames: T, feature frames of the recording.
        rate: feature frames per annotation frame.
        max_mismatch: maximum difference between the two lengths, in feature frames.

    Raises:
        UserError: the lengths differ by more, or have no frame in common. If the source does not give the length, the
            annotation may end earlier than the features.
    """
    annotated, has_length = annotated_frames(segments, rate), segments.length is not None
    too_long = annotated - num_frames > max_mismatch
    too_short = has_length and num_frames - annotated > max_mismatch
    shared = min(annotated, num_frames) if has_length else num_frames
    if too_long or too_short or not shared:
        raise UserError(f'{segments.source}: {annotated} feature frames are annotated, but there are {num_frames}; '
                        f'expected a difference of at most {max_mismatch} (--max_mismatch): '
                        f'{_advice(segments, num_frames)}')
    return shared


def _advice(segments: SegmentList, num_frames: int) -> str:
    """Return advice on the probable reason for a difference in length."""
    if segments.length is None:
        return 'check --unit, --fps and --labels_per_feature'
    ratio = segments.length / num_frames
    if len(segments.labels) == segments.length < MANY_FRAMES < num_frames:
        # A new label in each of a few lines: a list of segments, or all labels in one line.
        return (f'it has {segments.length} line{"s" if segments.length > 1 else ""}, the first is '
                f'{segments.labels[0][:40]!r}, expected one label per frame, each on a line of its own; segments are '
                'imported as a table (CSV) of start, end and label')
    if ratio < 0.7 and abs(1 / ratio - round(1 / ratio)) < 0.2 / ratio:
        return (f'there are about {round(1 / ratio)} feature frames per label: if the labels are sampled more '
                f'coarsely, give --labels_per_feature 1/{round(1 / ratio)}')
    if ratio > 1.4 and abs(ratio - round(ratio)) < 0.2 * ratio:
        return (f'there are about {round(ratio)} labels per feature frame: if the features are sampled more coarsely, '
                f'give --labels_per_feature {round(ratio)}')
    return ('check that annotation and features belong to the same recording and have the same rate '
            '(--labels_per_feature)')


def check_rate(pairs: Sequence[tuple[SegmentList, int]], rate: Fraction) -> None:
    """Check that annotations and features have the same length in most recordings, relative to their length.

    Args:
        pairs: segments of a recording, and its T.
        rate: feature frames per annotation frame.

    Raises:
        UserError: the median ratio or the median difference of the lengths shows another rate.
    """
    lengths = [(annotated_frames(segments, rate), num_frames) for segments, num_frames in pairs]
    # Medians, so that a few wrong recordings neither hide nor simulate another rate.
    ratio = statistics.median(Fraction(annotated, num_frames) for annotated, num_frames in lengths)
    difference = statistics.median(abs(annotated - num_frames) for annotated, num_frames in lengths)
    wrong = ratio >= OTHER_RATE or (abs(ratio - 1) > MAX_RELATIVE and difference > FEW_FRAMES)
    segments, num_frames = pairs[0]
    has_length = segments.length is not None
    if ratio < 1:  # a table may end earlier than the recording
        wrong = has_length and (wrong or ratio <= 1 / OTHER_RATE)
    if wrong:
        raise UserError(f'{segments.source}: {lengths[0][0]} feature frames are annotated, but there are {num_frames}, '
                        f'and in the median of {len(pairs)} recordings the annotation is {float(ratio):.3g} times as '
                        f'long as the features; expected the same length: {_advice(segments, num_frames)}; or give '
                        f'--max_mismatch {MAX_MISMATCH} to cut the longer one')


def short_annotation_note(pairs: Sequence[tuple[SegmentList, int]], rate: Fraction) -> str | None:
    """Return a sentence if tables end long before their recordings do, as with times in another unit; else None.

    Args:
        pairs: segments of a recording, and its T.
        rate: feature frames per annotation frame.
    """
    ends = [Fraction(annotated_frames(segments, rate), num_frames) for segments, num_frames in pairs
            if segments.length is None]
    if not ends:
        return None
    median = statistics.median(ends)
    alike = len(ends) > 2 and max(ends) < SAME_FRACTION * min(ends)
    if median >= Fraction(1, 2) and not (alike and median < 1 - MAX_RELATIVE):
        return None
    where = 'all annotations end at about' if alike else 'the annotations end, in the median, at'
    return (f'{where} {float(median):.0%} of the recording; the rest becomes background. If they should cover more, '
            'check --unit, --fps and --labels_per_feature')


def segments_at_feature_rate(segments: SegmentList, num_frames: int, *, rate: Fraction, sample_rate: int,
                             background: str) -> tuple[dict[str, list], int]:
    """Convert segments to kept frames.

    Args:
        segments: segments of a recording.
        num_frames: number of feature frames that annotation and features have in common.
        rate: feature frames per annotation frame.
        sample_rate: keep every n-th of these frames.
        background: label for the end of the recording if its annotation ends earlier.

    Returns:
        'labels', 'starts' and 'ends' of half-open segments in kept frames, where the last end is the number of kept
        frames; and the number of segments that contain no kept frame.
    """
    at_rate = segments_at_rate(segments.labels, segments.starts, segments.ends, num_frames=num_frames, rate=rate)
    followed = follow_frames(at_rate, range(0, num_frames, sample_rate))
    labels, starts, ends = ([name for name, _, _ in followed], [start for _, start, _ in followed],
                            [end + 1 for _, _, end in followed])
    dropped = len(segments.labels) - len(labels)
    kept = -(-num_frames // sample_rate)  # rounded up: frame 0 is always kept
    last = ends[-1] if ends else 0
    if last < kept:
        # TIME_SCALE 'auto' derives a recording's rate from its last end: an unlabeled tail would stretch all times.
        labels, starts, ends = [*labels, background], [*starts, last], [*ends, kept]
    return {'labels': labels, 'starts': starts, 'ends': ends}, dropped
