"""Progress frame by frame equals that of the whole recording, for every encoder and head."""

import itertools
import logging

import numpy as np
import pytest
import torch

from prediction import ActionMarker, FrameProgress, ProgressStream, predict, stream
from tests.prediction.comparison import assert_equal_rows
from utils.errors import UserError

SEGMENTS = [(2, 12, 'boil'), (12, 13, 'pour'), (16, 20, '0'), (20, 34, 'boil'), (36, 45, 'unseen')]
ENCODERS = {'naive': (['--naive'], 0), 'causal': (['--tstack', '--set', 'CAUSAL=true'], 0),
            'sees ahead': (['--tstack'], 7)}


def with_markers(features, segments):
    """The frames of a recording with a marker where a segment begins, or ends before a gap."""
    begins = {start: ActionMarker(label) for start, _, label in segments}
    ends = {end: ActionMarker(begins=False) for _, end, _ in segments}
    markers = {0: ActionMarker(begins=False), **ends, **begins}
    for number, frame in enumerate(features):
        if number in markers:
            yield markers[number]
        yield frame


def assert_same(streamed, prediction):
    assert_equal_rows(streamed, prediction.rows)
    assert np.nanstd(prediction.progress) > 0.01


@pytest.mark.parametrize(('encoder', 'head'), [
    *itertools.product(ENCODERS, ('plan', 'filter')), ('naive', 'mean'), ('naive', 'label given')])
def test_stream_equals_batch(make_run, make_features, step_options, encoder, head):
    heads = {'plan': [], 'mean': ['--progress_pooling', 'mean'], 'filter': step_options,
             'label given': [*step_options, '--condition_on_step']}
    options, delay = ENCODERS[encoder]
    run, features = make_run(*options, *heads[head]), make_features(50)
    assert run.delay == delay
    streamed = list(stream(run, with_markers(features, SEGMENTS), 'tea'))
    assert_same(streamed, predict(run, features, SEGMENTS, 'tea'))
    assert {row.step for row in streamed} == {'background', 'boil', 'pour', 'unseen'}


def test_stream_of_frames_equals_batch(make_run, make_features, step_options):
    run, frames = make_run('--resnet50', *step_options, width=2), make_features(22, 2, 3, 3)
    assert_same(list(stream(run, with_markers(frames, SEGMENTS[:2]), 'tea')),
                predict(run, frames, SEGMENTS[:2], 'tea'))


@pytest.mark.parametrize('encoder', ['naive', 'sees ahead'])
def test_a_run_that_skips_frames_skips_them_in_a_stream_too(make_run, make_features, step_options, encoder):
    options, delay = ENCODERS[encoder]
    run, features = make_run(*options, *step_options, '--set', 'SKIP_RATE=3'), make_features(51)
    streamed = list(stream(run, with_markers(features, SEGMENTS), 'tea'))
    assert_same(streamed, predict(run, features, SEGMENTS, 'tea'))
    assert run.delay == delay * 3 and [row.frame for row in streamed] == list(range(0, 51, 3))


def test_a_stream_is_looked_at_whole_whatever_a_run_looks_at_of_a_recording(make_run, make_features, caplog):
    run, features = make_run('--naive', '--max_frames', '10'), make_features(24)
    for _ in range(2):
        assert_same(list(stream(run, features)), predict(make_run('--naive'), features))
    assert caplog.text.count('uses at most 10 evenly spaced frames of a recording') == 1
    whole = list(stream(run, features[:10]))
    assert_same(whole, predict(run, features[:10]))


def test_progress_comes_after_the_delay_and_the_rest_at_the_end(make_run, make_features):
    run, features = make_run('--tstack'), make_features(12)
    progress = ProgressStream(run)
    counts = [len(progress.push(torch.from_numpy(frame))) for frame in features]
    assert counts == [0] * 7 + [1] * 5
    assert [row.frame for row in progress.finish()] == list(range(5, 12))


def test_a_row_is_there_before_the_next_frame_is_asked_for(make_run, make_features):
    asked = []
    frames = (asked.append(number) or frame for number, frame in enumerate(make_features(5)))
    rows = stream(make_run('--naive'), frames)
    assert asked == []
    for number in range(5):
        assert (next(rows).frame, asked) == (number, list(range(number + 1)))


def test_without_markers_a_stream_is_one_action_for_a_head_that_needs_them(make_run, make_features):
    run, features = make_run('--naive'), make_features(40)
    streamed = list(stream(run, features, 'tea'))
    assert_same(streamed, predict(run, features, None, 'tea'))
    assert_same(streamed, predict(run, features, [(0, 40, None)], 'tea'))


def test_the_last_of_several_markers_rules(make_run, make_features, step_options):
    run, features = make_run('--naive', *step_options), make_features(40)
    markers = [ActionMarker('pour'), ActionMarker(begins=False, ended='boil'), ActionMarker('boil')]
    streamed = list(stream(run, [ActionMarker(), *features[:30], *markers, *features[30:]], 'tea'))
    expected = predict(run, features, [(0, 30, 'boil'), (30, 40, 'boil')], 'tea')
    np.testing.assert_allclose([row.progress for row in streamed], expected.progress, rtol=0, atol=1e-5)
    assert [streamed[29].step, streamed[30].step] == [None, 'boil']


def test_an_action_of_no_frame_that_counts_does_not_rename_the_one_before(make_run, make_features, step_options):
    run, features = make_run('--naive', *step_options, '--set', 'SKIP_RATE=3'), make_features(60)
    # Frames 31 and 32 do not count: what ends before frame 33 is an action of none.
    items = [ActionMarker('boil'), *features[:31], ActionMarker(), *features[31:33],
             ActionMarker('pour', ended='pour'), *features[33:]]
    streamed = list(stream(run, items, 'tea'))
    expected = predict(run, features, [(0, 31, 'boil'), (33, 60, 'pour')], 'tea')
    np.testing.assert_allclose([row.progress for row in streamed], expected.progress, rtol=0, atol=1e-5)


def test_a_label_may_be_told_when_its_action_is_over(make_run, make_features, step_options):
    run, features = make_run('--naive', *step_options), make_features(60)
    told = predict(run, features, [(0, 40, 'boil'), (40, 60, None)], 'tea')
    late = list(stream(run, [ActionMarker(), *features[:40], ActionMarker(ended='boil'), *features[40:]], 'tea'))
    never = list(stream(run, [ActionMarker(), *features[:40], ActionMarker(), *features[40:]], 'tea'))
    np.testing.assert_allclose([row.progress for row in late], told.progress, rtol=0, atol=1e-5)
    difference = np.abs([one.progress - other.progress for one, other in zip(late, never, strict=True)])
    assert difference[:40].max() == 0 and difference[40:].max() > 0.01  # the pace


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('segments', [None, SEGMENTS])
def test_a_head_that_infers_boundaries_fills_every_column(filter_head, make_run, make_features, encoder, segments):
    options, _ = ENCODERS[encoder]
    run, features = make_run(*options, '--set', 'SKIP_RATE=2'), make_features(45)
    items = features if segments is None else with_markers(features, segments)
    streamed = list(stream(run, items, 'tea', fps=2.5))
    prediction = predict(run, features, segments, 'tea', fps=2.5)
    assert_same(streamed, prediction)
    offered = {name for row in streamed for name, value in row._asdict().items() if value is not None}
    given = {'frame', 'time_s', 'step', 'progress', 'progress_low', 'progress_high', 'remaining_s'}
    assert offered == (set(FrameProgress._fields) if segments is None else given)
    assert prediction.boundaries == ('inferred' if segments is None else 'given')
    assert {row.step for row in streamed} == {'background', 'boil', 'pour', *(['unseen'] if segments else [])}
    inside = [row for row in streamed if row.step != 'background']
    assert streamed[-1].time_s == 44 / 2.5 and all(row.remaining_s >= 0 for row in inside)
    assert all(row.progress is row.progress_low is row.remaining_s is None for row in streamed if row not in inside)


@pytest.mark.parametrize('task', ['tea', None])
@pytest.mark.parametrize('segments', [None, SEGMENTS])
def test_the_filter_streams_what_it_predicts_of_a_whole_recording(hsmm_run, make_features, task, segments):
    features = make_features(45)
    items = features if segments is None else with_markers(features, segments)
    prediction = predict(hsmm_run, features, segments, task, fps=10)
    assert_same(list(stream(hsmm_run, items, task, fps=10)), prediction)
    assert not np.isnan(prediction.progress_low[prediction.step != 'background']).any()
    assert np.isnan(prediction.overall).all() == (segments is not None)


def test_what_is_inferred_depends_on_the_task_and_seconds_on_the_frames_skipped(filter_head, make_run, make_features):
    features = make_features(30)
    steps = {task: {row.step for row in stream(make_run('--naive'), features, task)} - {'background'}
             for task in ('tea', 'tyre')}
    assert steps == {'tea': {'boil', 'pour'}, 'tyre': {'jack', 'lift'}}
    row = next(stream(make_run('--naive', '--set', 'SKIP_RATE=3'), features, 'tea', fps=2))
    assert row.overall_remaining_s == 20 * 3 / 2


def test_boundaries_are_either_given_from_the_start_or_inferred(filter_head, make_run, make_features):
    run, features = make_run('--naive'), make_features(5)
    assert 'camera: a marker before frame 1, but boundaries have been inferred since frame 0' in refused(
        run, [features[0], ActionMarker('boil')], 'tea')
    given = list(stream(run, [ActionMarker(begins=False), *features], 'tea'))
    assert [row.step for row in given] == ['background'] * 5


def test_a_prediction_that_is_not_finite_names_recording_and_frame(make_run, make_features):
    run, features = make_run('--naive'), make_features(9)
    with torch.no_grad():
        for weight in run.model.progress_head.parameters():
            weight.fill_(torch.nan)
    assert 'camera: the run predicts progress nan at frame 0, expected a finite number' in refused(run, features)
    with pytest.raises(UserError, match='rec: the run predicts progress nan at frame 2'):
        predict(run, features, [(2, 9)], name='rec')


def refused(run, items, task=None):
    with pytest.raises(UserError) as caught:
        list(stream(run, items, task, name='camera'))
    return str(caught.value)


def test_a_stream_refuses_what_does_not_fit_the_run(make_run, make_features):
    run, features = make_run('--naive'), make_features(3)
    assert 'camera: frame 1: shape (1, 5), expected (T, D)' in refused(run, [features[0], features[1, :5]])
    assert 'camera: frame 0: shape (1, 3, 6)' in refused(run, [features])
    assert 'camera: frame 2 holds NaN or infinity' in refused(run, [*features[:2], features[2] * np.nan])
    assert 'camera: frame 0 holds NaN or infinity' in refused(run, [features[0].astype(float) + 1e300])
    assert 'camera: ended before the first frame' in refused(run, [ActionMarker()])
    assert "'coffee': not a task of the run, expected one of tea, tyre" in refused(run, features, 'coffee')


def test_a_head_that_is_told_the_step_needs_labels(make_run, make_features, step_options):
    run, features = make_run('--naive', *step_options, '--condition_on_step'), make_features(3)
    assert 'camera: before frame 0: an action has no label' in refused(run, [ActionMarker(), *features], 'tea')
    unlabelled = [ActionMarker('boil'), features[0], ActionMarker(), features[1]]
    assert 'before frame 1: an action has no label' in refused(run, unlabelled, 'tea')
    assert 'give each action one of boil, pour' in refused(run, unlabelled, 'tea')
    assert 'no task given' in refused(run, [ActionMarker('boil'), *features])
    assert len(list(stream(run, [ActionMarker(begins=False), *features], 'tea'))) == 3


def test_an_unknown_label_is_told_once(make_run, make_features, step_options, caplog):
    run, features = make_run('--naive', *step_options), make_features(4)
    with caplog.at_level(logging.WARNING):
        list(stream(run, itertools.chain.from_iterable((ActionMarker('bowl'), frame) for frame in features), 'tea'))
    assert caplog.text.count("does not know the label 'bowl'") == 1 and 'known labels are boil, pour' in caplog.text


def test_a_network_that_needs_whole_recordings_is_refused(make_run, make_features, monkeypatch):
    run = make_run('--naive')

    def refuse(encoded):
        raise ValueError('a frame depends on all of its recording')

    monkeypatch.setattr(run.model, 'refine', refuse)
    assert 'camera: the run untrained cannot read one (a frame depends on all' in refused(run, make_features(1))
