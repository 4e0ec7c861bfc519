"""One list per camera view and one recording per person: a synthetic copy of the published file's structure."""

import itertools
import math
import random

import pytest

from recordings.view_matching import match_lists_to_handles, opening_key


def make_views(people, seed=0, views=5):
    """Last ends, keys and the person of each list: views of a person differ by a little, some by a lot."""
    draw = random.Random(seed)
    last_ends, keys, persons = [], [], []
    for person in range(people):
        length = draw.randrange(1300, 6400)
        key = (('0', 0), (draw.choice('abc'), draw.randrange(300, 1500)), ('0', draw.randrange(1500, 3000)))
        for view in range(views):
            offset = draw.choice((0, 0, 0, -10, 10, 130 if view == 1 else 0))
            last_ends.append(length + offset)
            keys.append(key)
            persons.append(person)
    return last_ends, keys, persons


def draw_lengths(last_ends, persons, taken, rate, draw):
    """Return the feature frames of a random view of each of the people taken."""
    views = [draw.choice([index for index, person in enumerate(persons) if person == one]) for one in taken]
    return [round(last_ends[view] * rate) for view in views]


def naive_cost(last_ends, lengths, keys, rate, tolerance):
    """Return the lowest cost at one rate over all increasing assignments, by brute force."""
    best = math.inf
    for match in itertools.combinations(range(len(last_ends)), len(lengths)):
        if len({keys[index] for index in match}) < len(match):
            continue
        ratios = [math.log(last_ends[index] * rate / length)
                  for index, length in zip(match, lengths, strict=True)]
        if all(abs(last_ends[index] * rate - length) <= max(tolerance * length, 1.5)
               for index, length in zip(match, lengths, strict=True)):
            best = min(best, sum(ratio**2 for ratio in ratios))
    return best


@pytest.mark.parametrize('rate', [1, 4 / 30, 1 / 30])
@pytest.mark.parametrize(('recordings', 'share'), [(30, 1.0), (24, 0.9), (12, 0.85)])
def test_each_recording_takes_a_list_of_its_own_person(rate, recordings, share):
    last_ends, keys, persons = make_views(30)
    draw = random.Random(recordings)
    for _ in range(3):
        taken = sorted(draw.sample(range(30), recordings))
        lengths = draw_lengths(last_ends, persons, taken, rate, draw)
        match = match_lists_to_handles(last_ends, lengths, keys)
        assert match == sorted(set(match))
        assert sum(persons[index] == person for index, person in zip(match, taken, strict=True)) >= share * recordings


@pytest.mark.parametrize('rate', [1, 4 / 30, 1 / 30])
def test_shuffled_lengths_are_refused(rate):
    last_ends, keys, persons = make_views(30)
    draw = random.Random(1)
    for recordings in (30, 15):
        for _ in range(10):
            lengths = draw_lengths(last_ends, persons, sorted(draw.sample(range(30), recordings)), rate, draw)
            draw.shuffle(lengths)
            assert match_lists_to_handles(last_ends, lengths, keys) is None


def test_match_is_best_of_all_assignments():
    for seed in range(30):
        draw = random.Random(seed)
        last_ends, keys, _ = make_views(4, seed, views=2)
        lengths = [round(last_ends[index] * 0.25 * draw.uniform(0.97, 1.03)) for index in (1, 4, 6)]
        match = match_lists_to_handles(last_ends, lengths, keys, rate=0.25)
        found = math.inf if match is None else sum(math.log(last_ends[index] * 0.25 / length)**2
                                                   for index, length in zip(match, lengths, strict=True))
        assert found == pytest.approx(naive_cost(last_ends, lengths, keys, 0.25, 0.02)), seed


def test_the_closest_view_of_a_person_is_taken():
    keys = ['p', 'p', 'p', 'q', 'q', 'q']
    assert match_lists_to_handles([1000, 1010, 1200, 2000, 2300, 2010], [1010, 2300], keys) == [1, 4]
    assert match_lists_to_handles([1000, 1010, 1200, 2000, 2300, 2010], [1200, 2010], keys) == [2, 5]


def test_two_recordings_never_take_lists_of_one_person():
    assert match_lists_to_handles([1000, 2000, 5000], [1000, 2000], ['p', 'p', 'q'], rate=1) is None
    assert match_lists_to_handles([1000, 2000, 5000], [1000, 2000], ['p', 'q', 'r']) == [0, 1]


def test_stray_list_does_not_split_a_person():
    last_ends, keys = [1000, 900, 1500, 2500, 4000], ['p', 'stray', 'p', 'q', 'r']
    assert match_lists_to_handles(last_ends, [1000, 1500], keys, rate=1) is None
    assert match_lists_to_handles(last_ends, [1500, 2500, 4000], keys) == [2, 3, 4]
    # Lists 0 and 2 fit best, but they belong to one person: the second recording is of the next person.
    assert match_lists_to_handles([1000, 400, 1015, 1010], [1000, 1014], ['p', 'stray', 'p', 'q'], rate=1) == [0, 3]


def test_short_view_belongs_to_previous_person():
    long, other = (('0', 0), ('a', 50), ('0', 90)), (('0', 0), ('b', 70), ('0', 95))
    last_ends, keys = [1000, 19, 2000], [long, (('0', 0),), other]
    assert match_lists_to_handles(last_ends, [1000, 19], keys, rate=1) is None
    assert match_lists_to_handles(last_ends, [1000, 2000], keys) == [0, 2]


@pytest.mark.parametrize(('length', 'accepted'), [(2049, True), (2052, False), (1954, True), (1951, False)])
def test_the_tolerance_is_two_percent_at_the_rate_that_fits_best(length, accepted):
    # The misfit of one recording in six moves the rate by a sixth of it, so 2.4 % become 2 %.
    last_ends = [1000, 3000, 1700, 4100, 1300, 2000, 9999]
    lengths = [10000 * end for end in last_ends[:5]] + [10000 * length]
    assert (match_lists_to_handles(last_ends, lengths, range(7)) is not None) == accepted


def test_a_frame_more_or_less_is_allowed_in_short_recordings():
    assert match_lists_to_handles([300, 9000, 5000], [11, 300], 'pqr', rate=1 / 30) == [0, 1]
    assert match_lists_to_handles([300, 9000, 5000], [9, 300], 'pqr', rate=1 / 30) == [0, 1]
    assert match_lists_to_handles([300, 9000, 5000], [12, 300], 'pqr', rate=1 / 30) is None


def test_few_recordings_and_many_people_are_not_matched():
    last_ends, keys, _ = make_views(30)
    assert match_lists_to_handles(last_ends, [137], keys) is None  # any list fits at some rate
    assert match_lists_to_handles(last_ends, [last_ends[50]], keys) == [last_ends.index(last_ends[50])]
    assert match_lists_to_handles([1000, 1200], [100], ['p', 'p']) is not None  # the person is not ambiguous


def test_lists_without_segments_are_never_taken():
    assert match_lists_to_handles([0, 1000, 0, 2000], [1000, 2000], ['e', 'p', 'e2', 'q']) == [1, 3]
    assert match_lists_to_handles([0, 0, 0], [10, 20], 'pqr') is None


def test_opening_key_holds_the_first_actions_and_their_starts():
    assert opening_key(['0', 'a', 'b', 'c'], [0, 5, 9, 12]) == opening_key(['0', 'a', 'b', 'd'], [0, 5, 9, 20])
    assert opening_key(['0', 'a', 'b'], [0, 5, 9]) != opening_key(['0', 'a', 'b'], [0, 6, 9])
    assert opening_key([], []) == ()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='2 last ends, 1 list keys'):
        match_lists_to_handles([10, 20], [10], ['p'])
    with pytest.raises(ValueError, match='lengths above 0'):
        match_lists_to_handles([10, 20], [0], ['p', 'q'])
