"""The step made of tensors alone against the head's own step, from a state of zeros."""

import pytest
import torch

from models.heads.hsmm import HSMMHead
from tests.prediction.conftest import TRAINING, noise

DIM = 5


@pytest.fixture(scope='module')
def head():
    torch.manual_seed(0)
    head = HSMMHead(DIM, steps=sorted({(task, action.name) for task, recordings in TRAINING.items()
                                       for actions in recordings for action in actions}))
    head.fit(noise(TRAINING, DIM))
    return head.eval()


@pytest.mark.parametrize('task', ['tea', None])
def test_it_returns_the_estimates_of_the_head_and_starts_from_zeros(head, task):
    step, own = head.recording_step(task), None
    state = step.start()
    assert all((value == 0).all() for value in state) and len(state) == len(step.states)
    steps = set()
    for frame in torch.randn(50, DIM, generator=torch.Generator().manual_seed(1)):
        estimates, own = head.filter_step(frame, own, task)
        results = step(frame, *state)
        state = results[len(step.outputs):]
        got = dict(zip(step.outputs, results, strict=False))
        for name in ('progress', 'overall'):
            expected = [getattr(estimates, f'{name}{end}').item() for end in ('_low', '', '_high')]
            assert got[name].tolist() == pytest.approx(expected, abs=1e-5)
        for name in ('step_probability', 'remaining', 'unknown'):
            assert got[name].item() == pytest.approx(getattr(estimates, name).item(), rel=1e-4, abs=1e-5), name
        assert got['overall_remaining'][1].item() == pytest.approx(estimates.overall_remaining.item(), rel=1e-4)
        assert (step.steps[got['step']], step.next_steps[got['next_step']]) == (estimates.step[0],
                                                                                 estimates.next_step[0])
        steps.add(int(got['step']))
    assert len(steps) > 1
    if task is None:
        assert got['task_probability'].sum().item() == pytest.approx(1, abs=1e-6)
        assert step.steps == ['boil', 'pour', 'background', 'jack', 'background']
    else:
        assert 'task_probability' not in got


def test_the_calibration_is_that_of_each_filter(head):
    first, second = head.recording_step().calibration()
    assert first['progress_margins'] == head.filters[0].unsegmented.margin.tolist()
    assert second['unknown_above'] == pytest.approx(head.filters[1].unsegmented.unknown_above.item())
