"""The order of steps: smoothed bigrams, trigrams, and counts, by hand and as properties."""

import itertools

import pytest
import torch

from models.heads import order as order_module
from models.heads.order import StepOrder

CYCLE = [[0, 2, 1], [1, 2, 0]] * 6  # what follows 2 depends on the label before it
ONCE = [list(row) for row in itertools.permutations(range(3))] * 2  # each label once, in any order


def fitted(transcripts, num_labels, **options):
    order = StepOrder(num_labels, **options)
    order.fit(transcripts)
    return order


def test_bigrams_by_hand():
    order = fitted([[0, 1], [0, 1], [0, 0]], 2, floor=0.0)
    # Next labels in any context: 4 times 0, 2 times 1, 3 times the end, and a third of a count each.
    frequency = torch.tensor([4 + 1 / 3, 2 + 1 / 3, 3 + 1 / 3]) / 10
    expected = torch.stack([
        (torch.tensor([1.0, 2, 1]) + 3 * frequency) / (4 + 3),  # after 0, three kinds of outcome
        (torch.tensor([0.0, 0, 2]) + 1 * frequency) / (2 + 1),  # after 1, always the end
        (torch.tensor([3.0, 0, 0]) + 1 * frequency) / (3 + 1),  # at the start, always 0
        frequency])  # after an unknown label
    torch.testing.assert_close(order.log_bigram.exp(), expected)


def test_the_floor_is_spread_evenly():
    plain, floored = (fitted([[0, 1]] * 2, 2, floor=floor).log_bigram.exp() for floor in (0.0, 0.3))
    torch.testing.assert_close(floored, 0.7 * plain + 0.1)


@pytest.mark.parametrize('transcripts', [CYCLE, ONCE, [[0, 1, 2]], [[]], []])
def test_every_label_stays_possible(transcripts):
    order = fitted(transcripts, 3)
    for history in ([], [0], [2, 2, 2, 2], [0, 1, 2, 0, 1, 2], [7], [-1, 1]):
        log_next = order.log_next(history)
        assert log_next.exp().sum().item() == pytest.approx(1, abs=1e-5)
        assert log_next.exp().min() >= 0.99 * order_module.FLOOR / 4
        assert order.log_next_label(history).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_trigrams_are_used_if_left_out_transcripts_are_likelier_with_them():
    order = fitted(CYCLE, 3)
    assert order.weights[0] > 0 and order.log_next([0, 2]).argmax() == 1 and order.log_next([1, 2]).argmax() == 0
    bigrams = fitted(CYCLE, 3, trigrams=False)
    assert bigrams.weights[0] == 0 and bigrams.log_trigram.numel() == 0


def test_counts_are_used_if_steps_are_done_once():
    order = fitted(ONCE, 3)
    assert order.weights[1] > 0
    assert all(order.log_next(history)[:3].argmax() == 3 - sum(history) for history in ([0, 1], [2, 0], [1, 2]))


def test_a_label_cannot_follow_itself_without_repeats():
    order = StepOrder(2)
    order.fit([[0, 0, 1]] * 4, repeats=False)
    probability = order.log_bigram.exp()
    assert probability.diagonal()[:2].tolist() == [0, 0]
    torch.testing.assert_close(probability.sum(1), torch.ones(4))


def test_weights_are_chosen_on_a_part_of_many_transcripts(monkeypatch):
    complete = fitted(CYCLE + ONCE, 3)
    monkeypatch.setattr(order_module, 'MOST_RATED', 30)
    part = fitted(CYCLE + ONCE, 3)
    # The tables are learned from all transcripts either way.
    torch.testing.assert_close(part.log_bigram, complete.log_bigram)
    assert part.weights.tolist() == complete.weights.tolist()


@pytest.mark.parametrize('arguments', [dict(num_labels=0), dict(num_labels=2, floor=1.5)])
def test_wrong_sizes_are_named(arguments):
    with pytest.raises(ValueError, match=str(next(reversed(arguments.values())))):
        StepOrder(**arguments)
