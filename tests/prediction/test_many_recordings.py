"""Several recordings in one stream: what is kept of them, and what is refused."""

import tracemalloc

import pytest

from prediction.many_recordings import EndMarker, FrameRate, RecordingMarker, RecordingStreams
from prediction.trackers import ActionMarker
from utils.errors import UserError


@pytest.fixture
def streams(filter_head, make_run):
    return RecordingStreams(make_run('--naive'), 'tea', name='camera')


def test_the_rate_holds_for_the_current_recording_and_later_ones(streams, make_features):
    frame = make_features(1)[0]
    times = []
    for item in (RecordingMarker('a'), frame, FrameRate(2), frame, RecordingMarker('b'), frame, FrameRate(4), frame,
                 RecordingMarker('a'), frame):
        times += [(name, row.time_s) for name, row in streams.take(item)]
    assert times == [('a', None), ('a', 0.5), ('b', 0), ('b', 0.25), ('a', 1)]


def test_markers_belong_to_the_current_recording(streams, make_features):
    frame = make_features(1)[0]
    rows = [row for item in (RecordingMarker('a'), ActionMarker('boil'), RecordingMarker('b'), frame,
                             RecordingMarker('a'), frame) for row in streams.take(item)]
    assert [(name, row.step_probability is None) for name, row in rows] == [('b', False), ('a', True)]


def refused(streams, *items):
    *before, last = items
    for item in before:
        streams.take(item)
    with pytest.raises(UserError) as caught:
        streams.take(last)
    return str(caught.value)


def test_what_does_not_fit_what_came_before_is_refused(streams, make_features):
    frame = make_features(1)[0]
    assert "'b' ends, but is not open; expected one of: a" in refused(streams, RecordingMarker('a'), EndMarker('b'))
    assert "is of task 'tea' since it began, not of 'tyre'" in refused(streams, RecordingMarker('a', 'tyre'))
    assert "recording a: ended before the first frame" in refused(streams, EndMarker('a'))
    assert "camera: a frame or marker of no recording: 'a' is over" in refused(streams, frame)
    assert "recording c: task 'coffee': not a task of the run" in refused(streams, RecordingMarker('c', 'coffee'))
    assert streams.finish() == []


def test_names_come_first_or_never(streams, make_features):
    assert "'a' begins, but frames or markers without a recording came before" in refused(
        streams, make_features(1)[0], RecordingMarker('a'))
    assert [name for name, _ in streams.take(make_features(1)[0])] == [None]


def test_memory_does_not_grow_with_recordings_that_are_over(streams, make_features):
    frames = make_features(20)

    def run(count):
        for number in range(count):
            for item in (RecordingMarker(f'r{number}'), *frames, EndMarker(f'r{number}')):
                streams.take(item)

    run(3)
    tracemalloc.start()
    run(20)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000 and streams.finish() == []
