"""What watches a run: counts of steps, mean norms, and the end of a run that skips too many steps."""

import math

import pytest
import torch
from torch import nn

from recordings.json_dataset import Batch
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
    with pytest.raises(UserError, match='4 steps skipped .* last on a of task tea; MAX_SKIPPED_STEPS allows 3'):
        monitor.step(batch, StepResult(infinite, False, {}), nn.Linear(1, 1))
