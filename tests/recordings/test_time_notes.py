"""Notes on annotated times: stretched, different rates, beyond the recording, inclusive ends, counted from 1."""

import pytest

from recordings.annotations import TaskAnnotations
from recordings.assignment import annotate_recordings
from recordings.rates import task_rates
from recordings.time_notes import time_notes

TOUCHING = [[0, 20], [20, 45], [45, 60]]


def notes(segments, lengths, time_scale='auto'):
    """Return the notes on recordings that have the given segments, one list for all or one list each."""
    each = segments if isinstance(segments[0][0], list) else [segments] * len(lengths)
    handles, labels = [f'r{number}' for number in range(len(lengths))], [['a'] * len(own) for own in each]
    starts, ends = ([[segment[side] for segment in own] for own in each] for side in (0, 1))
    annotated = TaskAnnotations('t', handles, labels, starts, ends)
    return time_notes(annotated, lengths, task_rates(annotated, lengths, time_scale), time_scale)


@pytest.mark.parametrize(('segments', 'lengths', 'time_scale', 'expected'), [
    (TOUCHING, [60, 60, 60], 'auto', None), (TOUCHING, [61, 59, 60], 'auto', None),
    (TOUCHING, [30, 30, 30], 'auto', None), (TOUCHING, [30, 30, 30], 2, None), (TOUCHING, [100, 60], 1, None),
    (TOUCHING, [100, 60, 60], 'auto', '1 of 3 recordings are longer than their annotation'),
    (TOUCHING, [90, 95, 100], 'auto', 'r0 (90 frames, last end 60), r1 (95 frames, last end 60), r2 (100 frames'),
    (TOUCHING, [20, 22, 24, 18], 'auto', 'differ from recording to recording, from 2.5 to 3.33'),
    (TOUCHING, [50, 60, 60], 1, 'the annotation of 1 of 3 recordings ends beyond the recording, by up to 10 feature'),
    (TOUCHING, [58, 60], 1, None), (TOUCHING, [20, 30, 30], 2, 'ends beyond the recording, by up to 10'),
    ([[0, 19], [20, 44], [45, 59]], [60, 60], 'auto', 'as if an end were the last frame of its segment'),
    ([[0, 19], [20, 44], [44, 59]], [60, 60], 'auto', None), ([[0, 15], [20, 40], [45, 59]], [60, 60], 'auto', None),
    ([[1, 20], [20, 60]], [60, 60], 'auto', 'the first segment of every recording starts at frame 1'),
    ([[[1, 20], [20, 60]], [[0, 30], [30, 60]]], [60, 60], 'auto', None), ([[1, 60]], [60], 'auto', None)])
def test_what_is_unusual_is_named(segments, lengths, time_scale, expected):
    found = notes(segments, lengths, time_scale)
    assert len(found) == (expected is not None) and all(expected in note for note in found), found
    assert all(note.startswith('task t: ') for note in found)


def test_training_logs_the_notes(caplog):
    annotated = TaskAnnotations('t', ['r'], [['a', 'b']], [[0, 30]], [[30, 60]])
    annotate_recordings({'t': annotated}, {'r': 100}, background_labels=['0'])
    assert [record.levelname for record in caplog.records if 'set TIME_SCALE to 1' in record.message] == ['WARNING']
