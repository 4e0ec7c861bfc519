"""Curves of steps as buffers: which rows are learned, what is looked up, what is known of an action when it begins."""

import math

import numpy as np
import pytest
import torch

from models.heads.durations import PacedDurations
from models.heads.step_durations import GRID, LONGEST, SHORTEST, ActionContext, StepDurations
from utils.tensorops import Action

# Both tasks have a 'mix', which is not the same step.
STEPS = [('tea', 'pour'), ('pie', 'mix'), ('tea', 'mix'), ('pie', 'bake')]
TEA = [[Action('pour', 0, 4), Action('mix', 5, 24), Action('pour', 30, 36)],
       [Action('pour', 2, 16), Action('mix', 17, 60)], [Action('mix', 3, 30)]]
PIE = [[Action('mix', 0, 99)], [Action('mix', 0, 149)], []]
LOG_TIMES = np.linspace(math.log(SHORTEST), math.log(LONGEST), GRID)


@pytest.fixture
def durations():
    fitted = StepDurations(STEPS)
    fitted.fit({'tea': TEA, 'pie': PIE})
    return fitted


def test_each_step_has_its_own_row(durations):
    for task, recordings in (('tea', TEA), ('pie', PIE)):
        paced = PacedDurations(recordings)
        for step, curve in zip(paced.steps, paced.survival_curves(LOG_TIMES), strict=True):
            row = STEPS.index((task, step))
            np.testing.assert_allclose(durations.curves[row], curve, rtol=1e-5)
            assert durations.log_means[row].item() == pytest.approx(paced.log_means[step])
            assert durations.shrinkage[row].item() == pytest.approx(paced.shrinkage)
    assert durations.curves.shape == (4, GRID)


def test_steps_without_actions_stay_as_they_were(durations):
    untouched = STEPS.index(('pie', 'bake'))
    assert durations.curves[untouched].eq(0.5).all()
    fresh = StepDurations(STEPS)
    fresh.fit({'tea': [[], []], 'pie': []})
    assert fresh.curves.eq(0.5).all() and fresh.log_means.eq(0).all() and fresh.shrinkage.eq(1).all()


def test_what_was_learned_is_stored_with_the_weights(durations):
    assert not list(durations.parameters())
    fresh = StepDurations([list(step) for step in STEPS])  # as a checkpoint's configuration holds them
    fresh.load_state_dict(durations.state_dict())
    times = torch.linspace(-2, 8, 50)
    assert torch.equal(fresh.progress(times), durations.progress(times))
    assert fresh.context('tea', TEA[0], TEA[0][2]) == durations.context('tea', TEA[0], TEA[0][2])


def test_lookup_is_exact_on_the_grid_and_close_between():
    rng = np.random.default_rng(0)
    tea = [[Action('pour', 0, int(length) - 1)] for length in rng.integers(3, 60, 12)]
    durations, paced = StepDurations([('tea', 'pour')]), PacedDurations(tea)
    durations.fit({'tea': tea})
    on_grid = durations.progress(torch.from_numpy(LOG_TIMES).float())[:, 0]
    np.testing.assert_allclose(on_grid, paced.survival_curves(LOG_TIMES)[0], atol=1e-4)
    elapsed = np.log(np.arange(1, 100))
    found, expected = durations.progress(torch.from_numpy(elapsed))[:, 0], paced.survival_curves(elapsed)[0]
    np.testing.assert_allclose(found, expected, atol=0.025)  # the curve falls back where a duration ends
    assert np.abs(found.numpy() - expected).mean() < 0.006


@pytest.mark.parametrize('shape', [(), (3,), (2, 5)])
def test_lookup_adds_a_dimension_of_steps(durations, shape):
    times = torch.randn(shape)
    found = durations.progress(times)
    assert found.shape == (*shape, 4)
    assert torch.equal(found, torch.stack([durations.progress(time) for time in times.flatten()]).view(*shape, 4))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_times_beyond_the_grid_take_its_ends(durations, dtype):
    durations.to(dtype).curves.copy_(torch.linspace(0, 1, GRID))  # of which no two are alike
    found = durations.progress(torch.tensor([-100, math.log(SHORTEST), math.log(LONGEST), 100], dtype=dtype))
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=dtype).unsqueeze(1).expand(4, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(('task', 'mask'), [
    ('tea', [True, False, True, False]), ('pie', [False, True, False, True]), (None, [True] * 4)])
def test_only_steps_of_the_task_are_possible(durations, task, mask):
    logits = durations.possible([ActionContext(task), ActionContext()])
    probabilities = torch.softmax(logits, dim=-1)
    assert logits.shape == (2, 4)
    assert [value > 0 for value in probabilities[0].tolist()] == mask
    assert probabilities[1].tolist() == [0.25] * 4


def test_positions_of_steps(durations):
    contexts = [ActionContext('pie', 0, 'mix'), ActionContext('tea', 0, 'mix'), ActionContext('tea', 0, 'bake'),
                ActionContext('tea', 0, 'whisk'), ActionContext('soup', 0, 'mix'), ActionContext(None, 0, 'mix'),
                ActionContext('tea'), ActionContext()]
    assert durations.positions(contexts).tolist() == [1, 2, -1, -1, -1, -1, -1, -1]


def test_pace_comes_from_completed_actions(durations):
    paced = PacedDurations(TEA)
    actions = [Action('pour', 0, 29), Action('whisk', 30, 39), Action('mix', 40, 45), Action('pour', 46, 47)]
    ratios = [math.log(30) - paced.log_means['pour'], math.log(6) - paced.log_means['mix']]
    expected = [0, ratios[0] / (1 + paced.shrinkage), ratios[0] / (1 + paced.shrinkage),
                sum(ratios) / (2 + paced.shrinkage)]
    found = [durations.context('tea', actions, action) for action in actions]
    assert [context.log_pace for context in found] == pytest.approx(expected, rel=1e-5)
    assert [(context.task, context.step) for context in found] == [('tea', action.name) for action in actions]


def test_pace_knows_nothing_of_the_future(durations):
    actions = TEA[0]
    for position, action in enumerate(actions):
        later = [Action('mix', action.end + 9, action.end + 500), Action('pour', action.end + 501, action.end + 502)]
        longer = action._replace(end=action.end + 77)
        known = durations.context('tea', actions, action)
        assert durations.context('tea', [*actions[:position + 1], *later], action) == known
        assert durations.context('tea', [*actions[:position], longer], longer) == known


@pytest.mark.parametrize('task', ['soup', None])
def test_an_unknown_task_may_be_any(durations, task):
    context = durations.context(task, TEA[0], TEA[0][1])
    assert context == ActionContext(None, 0.0, 'mix')
    assert durations.possible([context]).eq(0).all() and durations.positions([context]).tolist() == [-1]


@pytest.mark.parametrize('steps', [[], [('tea', 'pour'), ('pie', 'pour'), ('tea', 'pour')]])
def test_steps_are_named_once(steps):
    with pytest.raises(ValueError, match='expected at least one .task, label., each once'):
        StepDurations(steps)
