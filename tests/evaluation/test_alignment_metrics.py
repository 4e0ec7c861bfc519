"""OGPE, CoV, both of Kendall's taus and enclosed area error by hand, and what must not change them."""

import itertools

import numpy as np
import pytest
import torch

from evaluation.alignment_metrics import (
    coefficient_of_variation,
    enclosed_area_error,
    kendalls_tau,
    kendalls_tau_wild,
    overall_progress_error,
    path_lengths,
    true_alignment,
)
from utils.tensorops import Action


def line(*positions):
    return torch.tensor([[float(position), -2.0] for position in positions])


def test_path_lengths_add_up_the_steps():
    np.testing.assert_allclose(path_lengths([line(0, 3, 1), line(5), torch.tensor([[0.0, 0.0], [3.0, 4.0]])]),
                               [5, 0, 5])


def test_ogpe_is_over_frames_then_recordings():
    truth = [torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)]
    # Predicted 0, 1/4, 3/4, 3/2 with a mean total of 4 (past 1 is past 1), and 0.
    error = overall_progress_error([line(0, 1, 3, 6), line(9)], truth, 4.0)
    assert error == pytest.approx(((0.25 + 0.25 + 0 + 0.5) / 4 + 1) / 2)


@pytest.mark.parametrize('embeddings', [line(0, 1, 2, 3), line(0, -10, -20, -30)])
def test_steady_progress_is_predicted_exactly(embeddings):
    total = path_lengths([embeddings]).mean()
    assert overall_progress_error([embeddings], [torch.arange(4, dtype=torch.float64) / 3], total) == pytest.approx(0)


def test_embeddings_that_stand_still_predict_0():
    assert overall_progress_error([line(1, 1)], [torch.tensor([0.5, 1.0], dtype=torch.float64)], 0.0) == 0.75


@pytest.mark.parametrize(('values', 'expected'), [([2, 4], 1 / 3), ([3, 3, 3], 0), ([0, 0], 0), ([7], 0),
                                                  ([1, 2, 3, 6], np.sqrt(3.5) / 3)])
def test_cov_is_standard_deviation_over_mean(values, expected):
    assert coefficient_of_variation(np.array(values, dtype=float)) == pytest.approx(expected)


def naive_tau(nearest, true=None):
    """Tau-b over all pairs of frames, against the true positions; None for the frames' own order."""
    true = range(len(nearest)) if true is None else true
    pairs = [(np.sign(true[j] - true[i]), np.sign(nearest[j] - nearest[i]))
             for i in range(len(nearest)) for j in range(i + 1, len(nearest))]
    untied, untied_nearest = sum(order != 0 for order, _ in pairs), sum(sign != 0 for _, sign in pairs)
    return sum(order * sign for order, sign in pairs) / np.sqrt(untied * untied_nearest) if untied_nearest else 0.0


def test_kendalls_tau_by_hand():
    assert kendalls_tau([line(0, 1, 2, 3), line(0, 1, 2)]) == pytest.approx((naive_tau([0, 1, 2, 2]) + 1) / 2)
    assert kendalls_tau([line(0, 1, 2), line(2, 1, 0)]) == -1
    assert kendalls_tau([line(0, 1, 2), line(2, 2, 2)]) == 0  # one nearest neighbour; and the first of equal ones
    assert np.isnan(kendalls_tau([line(0, 1)]))


def test_kendalls_tau_matches_a_double_loop():
    embeddings = [torch.randn(length, 2, generator=torch.Generator().manual_seed(length)) for length in (9, 14, 6)]
    values = [naive_tau([int(((frame - second) ** 2).sum(1).argmin()) for frame in first])
              for first in embeddings for second in embeddings if second is not first]
    assert kendalls_tau(embeddings) == pytest.approx(np.mean(values))


def test_a_far_common_offset_hides_no_neighbour():
    # Differences of 1e-3 with an offset of 100: in float32 a matrix product alone would lose them.
    steps = torch.arange(30, dtype=torch.float32).unsqueeze(1).expand(-1, 16) * 1e-3 + 100
    assert kendalls_tau([steps, steps[::2]]) > 0.95


def test_true_alignment_matches_actions_by_name_and_occurrence():
    ours = [Action('a', 0, 1), Action('b', 2, 5), Action('a', 6, 7), Action('a', 9, 9)]
    theirs = [Action('a', 10, 13), Action('c', 14, 15), Action('a', 16, 16)]
    frames, partners = true_alignment(ours, theirs, 10)
    assert frames.tolist() == [0, 1, 6, 7]  # no b there, and no third a
    assert partners.tolist() == [10.5, 12.5, 15.75, 16.25]
    frames, partners = true_alignment([Action('a', 2, 5)], [Action('a', 0, 3)], 4)  # runs past the features
    assert (frames.tolist(), partners.tolist()) == ([2, 3], [0, 1])


def test_enclosed_area_error_by_hand():
    same = [Action('a', 0, 1), Action('b', 2, 3)]
    swapped = [Action('b', 0, 1), Action('a', 2, 3)]
    exact = [line(0, 1, 2, 3), line(2, 3, 0, 1)]
    assert enclosed_area_error(exact, [same, swapped]) == 0
    # Nearest neighbours 0 1 2 3 where 2 3 0 1 is true: each is 2 of 4 frames off.
    assert enclosed_area_error([exact[0], exact[0]], [same, swapped]) == pytest.approx(0.5)
    # A third recording without a common action changes nothing; alone it says nothing.
    other = [Action('c', 0, 3)]
    assert enclosed_area_error([*exact, exact[0]], [same, swapped, other]) == 0
    assert np.isnan(enclosed_area_error(exact, [same, other]))


SAME, SWAPPED = [Action('a', 0, 1), Action('b', 2, 3)], [Action('b', 0, 1), Action('a', 2, 3)]
EXACT = [line(0, 1, 2, 3), line(2, 3, 0, 1)]  # each frame lies where its step lies in the other order


def test_in_the_wild_steps_may_come_in_another_order():
    assert kendalls_tau_wild(EXACT, [SAME, SWAPPED]) == 1
    assert kendalls_tau(EXACT) == pytest.approx((2 - 4) / 6)  # plain tau cannot tell


def test_in_the_wild_counts_the_frames_of_common_actions_by_hand():
    # Frames 1-3 belong to 0-2 and find 0, 2 and 1; back, 0-2 belong to 1-3 and find 1, 3 and 2.
    embeddings, actions = [line(9, 0, 2, 1), line(0, 1, 2, 9)], [[Action('a', 1, 3)], [Action('a', 0, 2)]]
    assert kendalls_tau_wild(embeddings, actions) == pytest.approx((1 + 1 - 1) / 3)
    alone = [[Action('x', 0, 0), *actions[0]], [*actions[1], Action('y', 3, 3)]]  # steps of one recording
    assert kendalls_tau_wild(embeddings, alone) == pytest.approx(1 / 3)


def test_in_the_wild_frames_that_belong_together_may_share_a_neighbour():
    actions = [[Action('a', 0, 3)], [Action('a', 0, 1)]]
    assert kendalls_tau_wild([line(0, 1, 2, 3), line(0.5, 2.5)], actions) == 1


def test_in_the_wild_never_pairs_a_recording_with_itself():
    steps = [Action('a', 0, 3)]
    assert kendalls_tau_wild([line(0, 1, 2, 3), line(3, 2, 1, 0)], [steps, steps]) == -1
    assert np.isnan(kendalls_tau_wild([line(0, 1, 2, 3)], [steps]))


def test_in_the_wild_leaves_out_pairs_without_an_order():
    other, short = [Action('c', 0, 3)], [Action('a', 3, 3)]
    assert kendalls_tau_wild([*EXACT, EXACT[0]], [SAME, SWAPPED, other]) == 1
    # Of the pairs with the third one, all frames of a belong to its one frame, and that one frame has no order.
    assert kendalls_tau_wild([*EXACT, EXACT[0]], [SAME, SWAPPED, short]) == 1
    assert np.isnan(kendalls_tau_wild(EXACT, [SAME, other]))
    still = line(5, 5, 5, 5)
    assert kendalls_tau_wild([EXACT[0], still], [SAME, SAME]) == 0  # one nearest neighbour, either way


def random_recordings():
    """Embeddings without structure, and actions in random order with background between."""
    rng = np.random.default_rng(7)
    embeddings, actions = [], []
    for length in (17, 24, 31):
        embeddings.append(torch.tensor(rng.normal(size=(length, 3)), dtype=torch.float32))
        edges = np.sort(rng.permutation(length)[:8]).reshape(4, 2)
        actions.append([Action(name, int(start), int(end) - 1)
                        for name, (start, end) in zip(rng.permutation(list('abca')), edges, strict=True)])
    return embeddings, actions


def test_in_the_wild_matches_a_double_loop():
    embeddings, actions = random_recordings()
    values = []
    for i, j in itertools.permutations(range(3), 2):
        frames, partners = true_alignment(actions[i], actions[j], len(embeddings[i]))
        nearest = [int(((embeddings[i][frame] - embeddings[j]) ** 2).sum(1).argmin()) for frame in frames]
        values.append(naive_tau(nearest, [int(np.floor(partner + 0.5)) for partner in partners]))
    assert kendalls_tau_wild(embeddings, actions) == pytest.approx(np.mean(values))


def test_exact_alignments_score_best_and_embeddings_by_chance_score_chance():
    assert (kendalls_tau([line(0, 1, 2)] * 3), enclosed_area_error([EXACT[0]] * 2, [SAME, SAME])) == (1, 0)
    generator = torch.Generator().manual_seed(0)
    chance = [torch.randn(80, 8, generator=generator) for _ in range(6)]
    steps = [[Action('a', 0, 39), Action('b', 40, 79)]] * 6
    assert kendalls_tau(chance) == pytest.approx(0, abs=0.05)
    assert kendalls_tau_wild(chance, steps) == pytest.approx(0, abs=0.05)
    assert enclosed_area_error(chance, steps) == pytest.approx(1 / 3, abs=0.03)  # of two places in [0, 1]


def test_rotation_scale_and_offset_of_the_embeddings_and_order_of_recordings_do_not_matter():
    embeddings, actions = random_recordings()
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    moved = [30 * embedding @ rotation + 8 for embedding in embeddings]
    for others, their_actions in ((moved, actions), (embeddings[::-1], actions[::-1])):
        assert kendalls_tau(others) == pytest.approx(kendalls_tau(embeddings))
        assert kendalls_tau_wild(others, their_actions) == pytest.approx(kendalls_tau_wild(embeddings, actions))
        assert enclosed_area_error(others, their_actions) == pytest.approx(enclosed_area_error(embeddings, actions))
    truth = [torch.linspace(0, 1, len(embedding), dtype=torch.float64) for embedding in embeddings]
    totals, moved_totals = path_lengths(embeddings), path_lengths(moved)
    assert overall_progress_error(moved, truth, moved_totals.mean()) == pytest.approx(
        overall_progress_error(embeddings, truth, totals.mean()), rel=1e-4)
    assert coefficient_of_variation(moved_totals) == pytest.approx(coefficient_of_variation(totals), rel=1e-4)
