"""Groups of recordings: taken from handles, kept together by a split, found in two parts."""

import pytest

from recordings.groups import groups_by_regex, groups_in_two_parts, views_in_train_and_test
from recordings.splits import PARTS, Splits, make_splits
from utils.errors import UserError

SHARES = (0.75, 0.10, 0.15)


def handles(people, tasks=('tea', 'pie'), takes=2):
    return {task: [f'p{person:02d}_{task}_{take}' for person in range(people) for take in range(takes)]
            for task in tasks}


def groups_of(names):
    return groups_by_regex((handle for members in names.values() for handle in members), '^(p[0-9]+)_')


def test_the_first_group_of_the_expression_is_the_group():
    assert groups_by_regex(['p01_tea', 'p2_pie'], r'^(p\d+)_(.*)') == {'p01_tea': 'p01', 'p2_pie': 'p2'}
    for pattern in ('^(x)', '^p(x?)'):
        with pytest.raises(UserError, match="finds no group in 'p01_tea'"):
            groups_by_regex(['p01_tea'], pattern)


@pytest.mark.parametrize('people', [2, 3, 5, 20])
@pytest.mark.parametrize('seed', range(5))
def test_a_drawn_split_keeps_groups_together_in_all_tasks(people, seed):
    names = handles(people)
    groups = groups_of(names)
    splits = make_splits(names, SHARES, seed, groups)
    assert groups_in_two_parts(splits, groups) is None and splits.groups == groups
    for task, parts in splits.items():
        assert parts['train'] and parts['test']
        assert sorted(handle for part in PARTS for handle in parts[part]) == sorted(names[task])
    if people == 20:
        assert [len(splits['tea'][part]) for part in PARTS] == [30, 4, 6]
    assert make_splits({task: members[::-1] for task, members in names.items()}, SHARES, seed, groups) == splits


def test_one_group_trains_and_every_task_has_a_group_that_trains():
    alone = {'tea': ['a1', 'a2']}
    assert make_splits(alone, SHARES, 0, dict.fromkeys(['a1', 'a2'], 'a'))['tea'] == {
        'train': ['a1', 'a2'], 'val': [], 'test': []}
    # Two tasks share one person, and each has one more.
    names = {'tea': ['a_tea', 'b_tea'], 'pie': ['a_pie', 'c_pie']}
    for seed in range(10):
        splits = make_splits(names, SHARES, seed, {handle: handle[0] for task in names.values() for handle in task})
        assert all(parts['train'] for parts in splits.values()) and any(parts['test'] for parts in splits.values())


def test_recordings_without_a_group_are_their_own_and_no_groups_change_nothing():
    names = handles(10)
    assert make_splits(names, SHARES, 3, {}) == make_splits(names, SHARES, 3)
    some = {handle: group for handle, group in groups_of(names).items() if group < 'p05'}
    splits = make_splits(names, SHARES, 3, some)
    assert groups_in_two_parts(splits, some) is None and splits.groups == some
    assert sorted(handle for part in PARTS for handle in splits['tea'][part]) == names['tea']


def test_groups_of_two_parts_are_named_across_tasks():
    splits = {'tea': {'train': ['a1', 'b1'], 'val': [], 'test': ['c1']},
              'pie': {'train': ['b2'], 'val': [], 'test': ['a2', 'd2']}}
    groups = {handle: handle[0] for handle in ('a1', 'a2', 'b1', 'b2', 'c1')}
    assert groups_in_two_parts(splits, groups).startswith('1 of 3 groups are in more than one of train, val and test')
    assert groups_in_two_parts(splits, {}) is None


@pytest.mark.parametrize(('first', 'second', 'alike'), [
    ('P03_cam01_P03_tea', 'P03_webcam02_P03_tea', True), ('s1_front_2', 's1_left_2', True),
    ('P1_tea_rgb', 'P1_tea_depth', True), ('P1_tea_take1', 'P1_tea_take2', True), ('x_ego', 'x_exo3', True),
    ('v1', 'v2', False), ('cam1', 'cam2', False),
    ('s1-Cam-1', 's1-Cam-2', True), ('take3.view1', 'take3.view2', True), ('a_c1', 'a_c2', True),
    ('P1_tea', 'P1_tea_flip', True), ('gopro-P1', 'P1-static', True), ('P1_tea', 'P1_teapot', False),
    ('P03_cam01_P03_tea', 'P04_cam01_P04_tea', False), ('s1_t0', 's1_t1', False),
    ('cook_opti_left_s0_t0', 'cook_opti_left_s0_t1', False), ('s1_camping_1', 's1_camping_2', False)])
def test_handles_that_differ_in_a_view_only_are_noticed(first, second, alike):
    splits = {'tea': {'train': [first], 'val': [], 'test': [second]}}
    found = views_in_train_and_test(splits, {})
    assert len(found) == alike and all(first in line and second in line for line in found)
    # What the groups tell is not told twice.
    assert views_in_train_and_test(splits, {first: 'x', second: 'x'}) == []


def test_a_split_of_some_tasks_keeps_their_groups():
    splits = Splits({task: {'train': names, 'val': [], 'test': []} for task, names in handles(2).items()},
                    groups_of(handles(2)))
    taken = splits.take(['pie'])
    assert list(taken) == ['pie'] and set(taken.groups) == set(handles(2)['pie'])
    assert taken.as_json() == {'splits': dict(taken), 'groups': taken.groups}
    assert 'groups' not in Splits(taken).as_json()


def test_recordings_with_the_same_actions_at_the_same_times_are_noticed():
    one = [('a', 0, 4), ('b', 5, 9), ('c', 10, 14)]
    actions = {'x7150991': one, 'x8421914': list(one), 'y': [*one[:2], ('c', 10, 15)], 'z': one[:2], 'w': one[:2]}
    splits = {'tea': {'train': ['x7150991', 'z'], 'val': [], 'test': ['x8421914', 'y', 'w']}}
    (found,) = views_in_train_and_test(splits, {}, actions)
    assert '1 test recordings have a training recording with the same actions' in found
    assert 'x7150991 and x8421914;' in found
    assert views_in_train_and_test(splits, dict.fromkeys(actions, 'g'), actions) == []
