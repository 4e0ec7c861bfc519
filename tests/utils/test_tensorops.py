"""Sampling of action segments, true progress and cumulative distance, compared with the plan and by hand."""

import random

import pytest
import torch

from utils.action import actions_before
from utils.tensorops import (
    Action,
    get_cumulative_distance,
    get_trueprogress,
    list_actions,
    sample_action_prefix,
    sample_action_segment_with_random_index,
    sample_whole_actions,
    seeded_draws,
)

TIMES = {'step': ['SIL', 'cut', '0', 'mix', 'background', 'cut'], 'start_frame': [0, 20, 100, 110, 150, 160],
         'end_frame': [19, 99, 109, 149, 159, 199], 'name': 'test'}


def frames(count):
    """Return embeddings whose first column is the frame index."""
    return torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 2)


def one_action(start, end, name='cut'):
    return {'step': [name], 'start_frame': [start], 'end_frame': [end], 'name': 'test'}


def action_of(frame, times=TIMES):
    """Return name, start and end of the segment that contains a frame."""
    segments = zip(times['step'], times['start_frame'], times['end_frame'], strict=True)
    return next(segment for segment in segments if segment[1] <= frame <= segment[2])


class Scripted:
    """A random generator that returns given numbers."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def choice(self, candidates):
        return candidates[0]

    def randint(self, low, high):
        number = self.numbers.pop(0)
        assert low <= number <= high
        return number


def plan_sampler(embeddings, times_dict, min_segment_len=3):
    """Sample as in step 3 of the plan."""
    valid = [(step, start, end) for step, start, end in zip(times_dict['step'], times_dict['start_frame'],
                                                            times_dict['end_frame'], strict=True)
             if step not in ['SIL', 'background'] and end - start + 1 >= min_segment_len]
    if len(valid) == 0:
        return None, None, None
    name, action_start, action_end = random.choice(valid)
    max_start = max(action_end - min_segment_len + 1, action_start)
    seg_start = random.randint(action_start, max_start)
    seg_end = random.randint(seg_start + min_segment_len - 1, action_end)
    target = random.randint(seg_start, seg_end)
    seg_start = max(0, min(seg_start, len(embeddings) - 1))
    target = max(seg_start, min(target, len(embeddings) - 1))
    progress = (target - action_start + 1) / (action_end - action_start + 1)
    return embeddings[seg_start:target + 1], min(1.0, max(0.0, progress)), name


def test_first_verification_step_of_the_plan():
    embeddings = torch.randn(200, 128)
    times = {'step': ['SIL', 'cut', 'mix'], 'start_frame': [0, 20, 100], 'end_frame': [19, 99, 199], 'name': 'test'}
    seg, gt, name = sample_action_segment_with_random_index(embeddings, times)
    assert seg is not None and seg.ndim == 2 and seg.shape[1] == 128
    assert 0 <= gt <= 1
    assert name in ('cut', 'mix')


def test_worked_example_of_the_plan():
    segment, progress, name = sample_action_segment_with_random_index(frames(151), one_action(20, 99),
                                                                      rng=Scripted(30, 70, 55))
    assert segment[:, 0].tolist() == list(range(30, 56))
    assert (progress, name) == (pytest.approx(0.45), 'cut')


@pytest.mark.parametrize('sampler', [sample_action_segment_with_random_index, sample_action_prefix])
def test_ten_thousand_draws_stay_inside_an_action(sampler):
    embeddings, rng, targets, starts = frames(200), random.Random(0), set(), set()
    for _ in range(10_000):
        segment, progress, name = sampler(embeddings, TIMES, rng=rng)
        first, last = int(segment[0, 0]), int(segment[-1, 0])
        step, start, end = action_of(first)
        assert (step, True) == (name, last <= end) and name not in ('SIL', '0', 'background')
        assert len(segment) == last - first + 1
        assert progress == (last - start + 1) / (end - start + 1) and 0 < progress <= 1
        targets.add(last)
        starts.add(first)
    assert targets == {*range(20, 100), *range(110, 150), *range(160, 200)}
    if sampler is sample_action_prefix:
        assert starts == {20, 110, 160}
    else:
        assert starts == {*range(20, 98), *range(110, 148), *range(160, 198)}


@pytest.mark.parametrize('min_segment_len', [1, 3, 40])
def test_draws_equal_those_of_the_plan(min_segment_len):
    embeddings = frames(200)
    times = {key: values if key == 'name' else [value for value, step in zip(values, TIMES['step'], strict=True)
                                                if step != '0'] for key, values in TIMES.items()}
    drawn = []
    for sampler in (plan_sampler, sample_action_segment_with_random_index):
        random.seed(7)
        drawn.append([(segment[:, 0].tolist(), progress, name) for segment, progress, name in
                      (sampler(embeddings, times, min_segment_len) for _ in range(300))])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize('sampler', [sample_action_segment_with_random_index, sample_action_prefix])
@pytest.mark.parametrize(('start', 'end', 'length'), [(20, 99, 50), (48, 60, 50), (49, 60, 50)])
def test_action_past_the_features_is_clamped_and_keeps_its_length(sampler, start, end, length):
    rng = random.Random(1)
    draws = [sampler(frames(length), one_action(start, end), rng=rng) for _ in range(3000)]
    lasts = [int(segment[-1, 0]) for segment, _, _ in draws]
    assert set(lasts) == set(range(start, length))
    assert [progress for _, progress, _ in draws] == [(last - start + 1) / (end - start + 1) for last in lasts]
    assert min(int(segment[0, 0]) for segment, _, _ in draws) == start


@pytest.mark.parametrize('times', [one_action(50, 60), one_action(55, 70), one_action(0, 40, 'SIL'),
                                   one_action(0, 40, '0'), one_action(0, 40, 'background'),
                                   {'step': [], 'start_frame': [], 'end_frame': []}],
                         ids=['begins at the end', 'begins past the end', 'SIL', '0', 'background', 'nothing'])
def test_sampling_without_candidates_returns_none(times):
    for sampler in (sample_action_segment_with_random_index, sample_action_prefix):
        assert sampler(frames(50), times) == (None, None, None)
    assert sample_whole_actions(frames(50), times, 8) == []


def test_background_labels_come_from_the_caller():
    for sampler in (sample_action_segment_with_random_index, sample_action_prefix):
        assert sampler(frames(9), one_action(0, 8, 'SIL'), background_labels=['x'])[2] == 'SIL'
        assert sampler(frames(9), one_action(0, 8, 'x'), background_labels=['x']) == (None, None, None)


def test_min_segment_len_only_filters_segment_sampling():
    times = {'step': ['two', 'three'], 'start_frame': [0, 2], 'end_frame': [1, 4]}
    rng = random.Random(0)
    names = [{sample_action_segment_with_random_index(frames(5), times, shortest, rng=rng)[2] for _ in range(60)}
             for shortest in (2, 3, 4)]
    assert names == [{'two', 'three'}, {'three'}, {None}]
    assert {sample_action_prefix(frames(5), times, rng=rng)[2] for _ in range(60)} == {'two', 'three'}


@pytest.mark.parametrize('sampler', [sample_action_segment_with_random_index, sample_action_prefix,
                                     lambda *args, **options: sample_whole_actions(*args, 1, **options)])
def test_draws_use_random_unless_a_generator_is_given(sampler):
    embeddings = frames(200)
    random.seed(3)
    state = random.getstate()
    sampler(embeddings, TIMES, rng=random.Random(5))
    assert random.getstate() == state
    sampler(embeddings, TIMES)
    assert random.getstate() != state


def test_segments_are_attached_to_the_graph():
    embeddings = frames(200).requires_grad_()
    segment, _, _ = sample_action_segment_with_random_index(embeddings, TIMES)
    segment.sum().backward()
    assert int((embeddings.grad[:, 0] != 0).sum()) == len(segment)


def test_whole_actions_with_the_progress_of_every_frame():
    times = {'step': ['0', 'a', 'b'], 'start_frame': [0, 2, 6], 'end_frame': [1, 5, 10]}
    (first, first_target, first_action), (second, second_target, second_action) = sample_whole_actions(
        frames(8).double(), times, 8)
    assert first[:, 0].tolist() == [2, 3, 4, 5] and first_target.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert second[:, 0].tolist() == [6, 7] and second_target.tolist() == [0.2, 0.4]  # only two of its five frames exist
    assert (first_action, second_action) == (('a', 2, 5), ('b', 6, 10)) and first_target.dtype == torch.float64


def test_whole_actions_are_distinct():
    rng = random.Random(0)
    starts = [sorted(int(segment[0, 0]) for segment, _, _ in sample_whole_actions(frames(200), TIMES, 2, rng=rng))
              for _ in range(60)]
    assert {tuple(pair) for pair in starts} == {(20, 110), (20, 160), (110, 160)}


@pytest.mark.parametrize(('steps', 'starts', 'ends', 'expected'), [
    (['0', 'a', '0', 'b', '0'], [0, 1, 3, 4, 6], [0, 2, 3, 5, 7], [0, 0.25, 0.5, 0.5, 0.75, 1, 1, 1]),
    (['a'], [0], [3], [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    (['a', 'a'], [1, 4], [1, 7], [0, 0.5, 0.5, 0.5, 0.625, 0.75, 0.875, 1]),
    (['a', 'b'], [0, 6], [3, 9], [0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.625, 0.75]),
    (['a', 'b'], [0, 8], [3, 9], [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    (['0', 'SIL'], [0, 4], [3, 7], [0] * 8),
], ids=['gaps', 'one', 'repeated', 'runs past the end', 'begins past the end', 'no action'])
def test_true_progress_by_hand(steps, starts, ends, expected):
    progress = get_trueprogress({'step': steps, 'start_frame': starts, 'end_frame': ends}, 8)
    assert progress.tolist() == pytest.approx(expected) and progress.max() <= 1


@pytest.mark.parametrize(('rows', 'expected'), [([[0, 0], [3, 4], [3, 4], [0, 0]], [0, 5, 5, 10]), ([[2, 7]], [0])])
def test_cumulative_distance_by_hand(rows, expected):
    distance = get_cumulative_distance(torch.tensor(rows, dtype=torch.float32))
    assert distance.tolist() == expected and distance.dtype == torch.float64


def test_action_length_includes_frames_past_the_features():
    assert [action.length for action in list_actions(TIMES, 161)] == [80, 40, 40]


def test_seeded_draws_repeat_and_restore_the_states():
    def draws():
        return random.random(), torch.rand(()).item()

    random.seed(1)
    torch.manual_seed(1)
    undisturbed = [draws(), draws(), draws()]
    random.seed(1)
    torch.manual_seed(1)
    seen = [draws()]
    with seeded_draws(5):
        inside = [draws(), draws()]
    seen.append(draws())
    with pytest.raises(ZeroDivisionError), seeded_draws(5):
        assert [draws(), draws()] == inside
        raise ZeroDivisionError
    seen.append(draws())
    assert seen == undisturbed
    with seeded_draws(6):
        assert draws() != inside[0]


def test_only_what_has_ended_was_before():
    actions = [Action('a', 0, 4), Action('b', 5, 9), Action('c', 11, 20), Action('d', 21, 22)]
    assert [actions_before(actions, each) for each in actions] == [actions[:count] for count in range(4)]
    assert actions_before(actions, Action('late', 9, 30)) == actions[:1]  # b still lasts at frame 9
