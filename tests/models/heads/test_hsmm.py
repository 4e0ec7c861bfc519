"""The filter as a head: stream and batch, causality, storage, several tasks, and what it refuses."""

import copy
import logging

import pytest
import torch

from models.heads.base import EmbeddedRecording
from models.heads.estimates import END
from models.heads.filter.over_tasks import mean_over_tasks
from models.heads.filter.task_filter import TaskSensor
from models.heads.hsmm import ActionContext, HSMMHead
from recordings.background import BACKGROUND
from utils.errors import UserError
from utils.tensorops import Action, SampledSegment, action_progress

DIM = 5
STEPS = [('pie', 'cut'), ('pie', 'mix'), ('tea', 'boil'), ('tea', 'cut'), ('tea', 'pour')]


def make_recording(task, seed, gap=3):
    """Actions of the task's labels in order; embeddings show label and phase, and each task has an offset."""
    generator = torch.Generator().manual_seed(seed)
    pace = float(1 + torch.rand((), generator=generator))
    parts, actions, at = [], [], 0
    for number, label in enumerate(label for name, label in STEPS if name == task):
        length = round(6 * pace * (number + 1))
        phase = torch.linspace(0, 1, length)
        same = torch.zeros(length)
        look = [phase, same + number, torch.sin(3 * phase + number), same + 3 * (task == 'pie'), phase.square()]
        parts += [torch.full((gap, DIM), -1.0), torch.stack(look, dim=1)]
        actions.append(Action(label, at + gap, at + gap + length - 1))
        at += gap + length
    embeddings = torch.cat(parts)
    embeddings += 0.3 * torch.randn(embeddings.shape, generator=generator)
    return EmbeddedRecording(task, f'{task}{seed}', embeddings, actions, f'person{seed // 2}')


TRAINING = [make_recording(task, seed) for task in ('tea', 'pie') for seed in range(6)]
TEST = make_recording('tea', 17)


def make_head(training=TRAINING, **options):
    head = HSMMHead(DIM, steps=STEPS, **options)
    head.fit(training)
    return head.eval()


@pytest.fixture(scope='module')
def head():
    return make_head()


def segments_of(recording):
    return [recording.embeddings[action.start:action.end + 1] for action in recording.actions]


def check_stream(head, task):
    for segment, context in zip(segments_of(TEST), head.contexts(task, TEST.actions), strict=True):
        state, expected = None, head.forward_dense(segment, [context])
        for frame, progress in zip(segment, expected, strict=True):
            one, state = head.step(frame, state, context)
            torch.testing.assert_close(one, progress, atol=1e-5, rtol=0)
        torch.testing.assert_close(head.forward(segment, [context]), expected[-1])


def check_filter_stream(head, task):
    state, expected = None, head.filter(TEST.embeddings, task)
    for t, frame in enumerate(TEST.embeddings):
        one, state = head.filter_step(frame, state, task)
        for name, value, batch in zip(one._fields, one, expected, strict=True):
            if isinstance(value, list):
                assert value == [batch[t]], name
            elif value is not None:
                torch.testing.assert_close(value[0], batch[t], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('task', ['tea', None])
def test_the_stream_equals_the_batch(head, task):
    check_stream(head, task)
    check_filter_stream(head, task)


def test_it_beats_a_constant_on_a_new_person(head):
    truth = torch.cat([action_progress(action, len(TEST.embeddings)) for action in TEST.actions])
    within = torch.cat(head.forward_dense(segments_of(TEST), head.contexts('tea', TEST.actions)))
    assert (within - truth).abs().mean() < 0.1
    answer = head.filter(TEST.embeddings, 'tea')
    inside = torch.cat([torch.arange(action.start, action.end + 1) for action in TEST.actions])
    assert (answer.progress[inside] - truth).abs().mean() < 0.15
    labels = [action.name for action in TEST.actions for _ in range(action.length)]
    assert sum(answer.step[t] == label for t, label in zip(inside.tolist(), labels, strict=True)) > 0.85 * len(labels)
    assert answer.step[0] == BACKGROUND and answer.next_step[-1] == END


def test_intervals_hold_the_estimate(head):
    contexts = head.contexts('tea', TEST.actions)
    for bounds, progress in zip(head.forward_intervals(segments_of(TEST), contexts),
                                head.forward_dense(segments_of(TEST), contexts), strict=True):
        assert bounds.shape == (len(progress), 2)
        assert (bounds[:, 0] <= progress + 1e-6).all() and (progress <= bounds[:, 1] + 1e-6).all()
    answer = head.filter(TEST.embeddings, 'tea')
    assert (answer.progress_low <= answer.progress_high).all() and (answer.overall_low <= answer.overall_high).all()


@pytest.mark.parametrize('task', ['tea', None])
def test_frames_labels_and_ends_to_come_change_nothing(head, task):
    first, second, third = TEST.actions
    later = [first, second._replace(end=second.end + 40, name='boil'), third._replace(name='cut')]
    contexts, changed = head.contexts(task, TEST.actions), head.contexts(task, later)
    assert contexts[0] == changed[0] and contexts[1] == changed[1] and contexts[2] != changed[2]
    segment = segments_of(TEST)[1]
    strange = torch.cat([segment[:7], 50 * torch.randn(20, DIM)])
    torch.testing.assert_close(head.forward_dense(strange, contexts[1:2])[:7],
                               head.forward_dense(segment, contexts[1:2])[:7], atol=1e-6, rtol=0)
    strange = torch.cat([TEST.embeddings[:30], 50 * torch.randn(20, DIM)])
    for value, other in zip(head.filter(strange, task), head.filter(TEST.embeddings, task), strict=True):
        if isinstance(value, list):
            assert value[:30] == other[:30]
        elif value is not None:
            torch.testing.assert_close(value[:30], other[:30], atol=1e-6, rtol=0)


def test_completed_actions_tell_the_pace(head):
    slow = tuple(action._replace(end=action.start + 4 * action.length) for action in TEST.actions[:2])
    segment = segments_of(TEST)[2][:5]
    fast, late = (head(segment, [ActionContext('tea', done)]) for done in (tuple(TEST.actions[:2]), slow))
    assert late < fast


@pytest.mark.parametrize('with_background', [True, False])
def test_a_checkpoint_restores_it(head, tmp_path, with_background):
    if not with_background:
        head = make_head([make_recording(task, 0, gap=0) for task in ('tea', 'pie')])
    torch.save(head.state_dict(), tmp_path / 'head.pt')
    other = HSMMHead(DIM, steps=[list(step) for step in STEPS]).eval()
    other.load_state_dict(torch.load(tmp_path / 'head.pt', weights_only=True))
    assert all(bool(torch.isfinite(value).all()) for value in head.state_dict().values())
    for task in ('tea', None):
        answers = (one.filter(TEST.embeddings, task) for one in (other, head))
        for value, expected in zip(*answers, strict=True):
            assert value == expected if isinstance(value, list) else value is None or torch.equal(value, expected)
        contexts = head.contexts(task, TEST.actions)
        for value, expected in zip(other.forward_dense(segments_of(TEST), contexts),
                                   head.forward_dense(segments_of(TEST), contexts), strict=True):
            assert torch.equal(value, expected)


def test_embeddings_may_be_double():
    single, double = (make_head([recording._replace(embeddings=recording.embeddings.to(dtype)) for recording
                                 in TRAINING[::3]]) for dtype in (torch.float, torch.double))
    for name, value in single.state_dict().items():
        torch.testing.assert_close(double.state_dict()[name], value, msg=name)


def test_fitting_twice_gives_the_same_and_draws_nothing(caplog):
    before, training = torch.random.get_rng_state(), [*TRAINING[:2], *TRAINING[6:8]]
    with caplog.at_level(logging.INFO):
        head, again = make_head(training), make_head(training)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 'task pie, boundaries unknown: 90 % interval' in caplog.text
    assert head.chosen() == again.chosen()
    for (name, value), other in zip(head.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_it_tells_the_weights_that_it_chose(head):
    chosen = head.chosen()
    assert len(chosen) == 2 + 2 * 7 and all(isinstance(value, float) for value in chosen.values())
    given, unknown = head.filters[1].segmented.weights, head.filters[1].unsegmented
    assert chosen['step cells (boundaries given)'] == given[0] and chosen['phase cells (boundaries given)'] == given[1]
    assert chosen['tea step classifier (boundaries unknown)'] == unknown.weights[0] > 0
    assert chosen['tea handicap of background (boundaries unknown)'] == unknown.rule[1]
    assert chosen['tea reading of the frame (boundaries unknown)'] == unknown.rule[2]
    alone = HSMMHead(DIM, steps=[step for step in STEPS if step[0] == 'tea']).chosen()
    assert len(alone) == 2 + 7 and 'caution (boundaries unknown)' in alone


def test_the_task_is_inferred_from_the_frames(head):
    known, inferred = (head.filter(TEST.embeddings, task) for task in ('tea', None))
    torch.testing.assert_close(inferred.progress[20:], known.progress[20:], atol=0.05, rtol=0)
    assert inferred.step[20:] == known.step[20:]


def test_a_mean_over_tasks_does_not_exceed_its_largest_answer():
    probability = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert (probability.sum(1) > 1).any()  # by rounding
    assert mean_over_tasks([torch.ones(200, 3)] * 4, probability).max() <= 1


def test_the_inferred_task_of_a_long_stream_equals_the_batch():
    """Of two tasks that look alike: neither evidence wins, so each keeps growing."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(4000, DIM, generator=generator)
    sensor = TaskSensor(2, DIM)
    sensor.fit([torch.randn(400, DIM, generator=generator) for _ in range(20)], [0, 1] * 10)
    state, stream = None, []
    for frame in frames:
        probability, state = sensor.step(frame, state)
        stream.append(probability)
    expected = sensor.probabilities(frames)
    assert 0.05 < expected[-1, 0] < 0.95 and expected.dtype == stream[0].dtype == frames.dtype
    torch.testing.assert_close(torch.stack(stream), expected, atol=1e-6, rtol=0)


def test_a_label_that_is_given_counts_if_it_may(head):
    given = HSMMHead(DIM, steps=STEPS, condition_on_step=True).eval()
    given.load_state_dict(head.state_dict())
    segment, (context, *_) = segments_of(TEST)[0], given.contexts('tea', TEST.actions)
    assert context.label == 'boil' and head.contexts('tea', TEST.actions)[0].label is None
    assert not torch.equal(given(segment[:3], [context]), given(segment[:3], [context._replace(label='pour')]))


def test_the_loss_is_the_error_in_validation_and_an_attached_zero_in_training(head):
    segments = [SampledSegment(segment.clone().requires_grad_(), action_progress(action, len(TEST.embeddings)), context)
                for segment, action, context in zip(segments_of(TEST), TEST.actions,
                                                    head.contexts('tea', TEST.actions), strict=True)]
    assert 0 < head.loss(segments)['progress'] < 0.1
    loss = copy.deepcopy(head).train().loss(segments)['progress']
    loss.backward()
    assert loss == 0 and all((segment.embeddings.grad == 0).all() for segment in segments)


def test_padded_batches_lists_and_single_segments_agree(head):
    segments = [segment[:4 + index] for index, segment in enumerate(segments_of(TEST))]
    padded = torch.nn.utils.rnn.pad_sequence(segments, batch_first=True, padding_value=torch.nan)
    ends = head(segments)
    torch.testing.assert_close(head(padded, lengths=torch.tensor([4, 5, 6])), ends)
    torch.testing.assert_close(torch.stack([head(segment) for segment in segments]), ends)


def test_what_it_knows(head):
    assert head.tasks == ['pie', 'tea'] and head.labels('tea') == ['boil', 'cut', 'pour']
    assert head.labels(None) == ['cut', 'mix', 'boil', 'cut', 'pour']
    assert head.check_task('tea') is None and 'infers it from the frames' in head.check_task(None)
    assert head.check_label('tea', 'cut') is None and "does not know the label 'fry'" in head.check_label('tea', 'fry')
    with pytest.raises(UserError, match='give one of pie, tea'):
        HSMMHead(DIM, steps=STEPS, condition_on_step=True).check_task(None)
    with pytest.raises(UserError, match='action has no label'):
        HSMMHead(DIM, steps=STEPS, condition_on_step=True).check_label('tea', None)


@pytest.mark.parametrize('steps', [[], [('tea', 'cut'), ('tea', 'cut')]])
def test_no_or_repeated_steps_are_refused(steps):
    with pytest.raises(ValueError, match='steps is'):
        HSMMHead(DIM, steps=steps)


def test_wrong_shapes_are_refused(head):
    with pytest.raises(ValueError, match='expected'):
        head.forward_dense([torch.zeros(3, DIM + 1)])
    with pytest.raises(ValueError, match='contexts next to'):
        head.forward_dense([torch.zeros(3, DIM)], [ActionContext(), ActionContext()])
    with pytest.raises(ValueError, match='expected'):
        head.filter(torch.zeros(3, DIM + 1))
    with pytest.raises(ValueError, match='expected'):
        head.filter_step(torch.zeros(DIM + 1))


@pytest.mark.parametrize('count', [1, 2])
def test_few_recordings_are_enough(count):
    head = HSMMHead(DIM, steps=[step for step in STEPS if step[0] == 'tea'])
    head.fit(TRAINING[:count])
    assert torch.isfinite(head.filter(TEST.embeddings).progress).all()
    assert torch.isfinite(torch.cat(head.forward_dense(segments_of(TEST)))).all()
