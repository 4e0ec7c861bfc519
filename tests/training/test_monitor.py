"""What watches a run: counts of steps, mean norms, and the end of a run that skips too many steps."""

import math

import pytest
import torch
from torch import nn

from recordings.batches import Batch
from training.monitor import MeanNorms, Monitor
from training.resume import RunState
from training.step import StepResult
from utils.errors import UserError
from utils.loss_entry import LossTerms


def test_norms_are_averaged_over_steps():
    norms = MeanNorms()
    assert norms.means() == {}
    norms.add({'encoder': 1.0, 'progress_head': 4.0})
    norms.add({'encoder': 2.0, 'progress_head': 0.0})
    assert norms.means() == {'encoder': 1.5, 'progress_head': 2.0}


def test_steps_are_counted_in_the_state_of_the_run_and_too_many_skipped_ones_end_it(config):
    config.TENSORBOARD, config.MAX_SKIPPED_STEPS = False, 3
    state = RunState(steps=5, skipped_steps=2)  # of the run that was resumed
    monitor, batch = Monitor(config, state), Batch([None], [{'name': 'a'}], 'tea')
    finite, infinite = (LossTerms({'total_loss': torch.tensor(value)}, ['total_loss']) for value in (1.0, math.inf))
    monitor.step(batch, StepResult(finite, True, {'encoder': 1.0}), nn.Linear(1, 1))
    monitor.step(batch, StepResult(infinite, False, {}), nn.Linear(1, 1))
    assert (state.steps, state.skipped_steps) == (6, 3)
    monitor.require_a_step()
    state.steps = 0
    with pytest.raises(UserError, match='all 3 steps skipped .* so nothing is trained, .*tools.check'):
        monitor.require_a_step()
    with pytest.raises(UserError, match='4 steps skipped .* last on a of task tea; MAX_SKIPPED_STEPS allows 3'):
        monitor.step(batch, StepResult(infinite, False, {}), nn.Linear(1, 1))


@pytest.mark.parametrize('alignment, changes, warned', [
    (50.0, {}, True), (1.0, {}, False), (-50.0, {}, True),
    (50.0, {'coefficient': 30.0}, False), (50.0, {'detach_embeddings': True}, False),
    (50.0, {'lambda_curriculum': {'enabled': True, 'start': 0.01, 'end': 9.0}}, False)])
def test_a_progress_term_too_small_to_matter_gives_a_warning(config, caplog, alignment, changes, warned):
    config.TENSORBOARD = False
    config.PROGRESS_LOSS.update({'enabled': True, 'coefficient': 1.0, **changes})
    monitor = Monitor(config, RunState())
    optimizer = torch.optim.SGD([{'params': nn.Linear(1, 1).parameters(), 'name': 'encoder'}])
    row = {'lambda': 1.0, 'train_total': alignment + 0.25, 'train_alignment': alignment, 'train_progress': 0.25,
           'val_total': None, 'seconds': 1.0}
    for epoch in (1, 2):
        monitor.epoch({**row, 'epoch': epoch}, optimizer)
    # 0.25 / 50.25 = 0.5 %; a tenth of the total needs 50 / 9 / 0.25 = 22.
    assert caplog.text.count('lambda x progress is 0.5 % of the total loss at the largest lambda, 1:') == warned
    assert ('to about 22 for a tenth' in caplog.text) == warned
