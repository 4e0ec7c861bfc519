"""The state between two epochs: everything that the next epoch depends on comes back."""

import math
import random

import pytest
import torch
from torch import nn

from configs.settings import SETTINGS
from training.resume import RunState, resume_run
from training.step import build_optimizer
from utils.ckpt_save import ckpt_save
from utils.errors import UserError


def make(seed):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return model, build_optimizer(model, 1e-2)


def train(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(4, 3)).square().sum() + random.random() * model.bias.sum()).backward()
        optimizer.step()


@pytest.fixture
def saved(config, tmp_path):
    """A run cut after its second epoch: path, model and optimizer as they were."""
    model, optimizer = make(0)
    random.seed(4)
    random.gauss(0, 1)  # leaves half a pair behind, which is part of the state
    train(model, optimizer)
    state = RunState(epochs_done=2, best={'combined': 0.5, 'alignment': 0.25}, skipped_steps=3,
                     best_epochs={'combined': 2})
    for epoch in (1, 2):
        state.history.add(epoch, 0.1, {'total_loss': torch.tensor(1.0 / epoch)}, {}, 1.0)
    path = tmp_path / 'last.pt'
    ckpt_save(model, optimizer, state.epochs_done, 0.5, path, config, **state.as_entries())
    return path, model, optimizer, state


def test_a_resumed_run_goes_on_as_if_it_had_not_been_cut(saved, config):
    path, model, optimizer, state = saved
    train(model, optimizer)
    expected = random.random(), random.gauss(0, 1), torch.rand(3)

    random.seed(99)
    other, other_optimizer = make(99)
    resumed = resume_run(path, other, other_optimizer, config, 'cpu')
    train(other, other_optimizer)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    assert (random.random(), random.gauss(0, 1)) == expected[:2] and torch.equal(torch.rand(3), expected[2])
    assert (resumed.epochs_done, resumed.best, resumed.skipped_steps) == (2, state.best, 3)
    assert resumed.best_epochs == {'combined': 2}
    assert resumed.history.rows == state.history.rows and len(resumed.history.rows) == 2


def test_a_new_run_has_seen_nothing():
    state = RunState()
    assert (state.epochs_done, state.best, state.history.rows) == (0, {'combined': math.inf, 'alignment': math.inf}, [])


@pytest.mark.parametrize(('change', 'message'), [
    (lambda config: config.update(SEED=5), 'SEED is 5, but .*last.pt was written with 0; resume with the settings'),
    (lambda config: config.update(NUM_EPOCHS=20), 'NUM_EPOCHS is 20, but .* was written with 50'),
    (lambda config: config.PROGRESS_LOSS.update(hidden_dim=8), 'PROGRESS_LOSS.hidden_dim is 8, but .* with 64'),
    (lambda config: config.update(NEW_SETTING=1), 'NEW_SETTING is 1, but .* was written with None')])
def test_other_settings_are_refused_before_anything_changes(saved, config, change, message):
    change(config)
    model, optimizer = make(99)
    before, state = model.weight.clone(), random.getstate()
    with pytest.raises(UserError, match=f'^{message}'):
        resume_run(saved[0], model, optimizer, config, 'cpu')
    assert torch.equal(model.weight, before) and random.getstate() == state


def test_a_setting_that_is_newer_than_the_run_had_its_default(saved, config):
    path, *_ = saved
    checkpoint = torch.load(path)
    del checkpoint['config']['AMP'], checkpoint['config']['PROGRESS_LOSS']['condition_on_step']
    torch.save(checkpoint, path)
    assert resume_run(path, *make(99), config, 'cpu').epochs_done == 2
    config.AMP = True
    with pytest.raises(UserError, match='^AMP is True, but .* was written with False'):
        resume_run(path, *make(99), config, 'cpu')


def test_settings_of_the_machine_may_differ(saved, config):
    free = [name for name, setting in SETTINGS.items() if not setting.changes_numbers]
    assert free == ['DEVICE', 'DEBUG', 'TENSORBOARD', 'DETECT_ANOMALY', 'DATAFOLDER', 'LAZY_LOAD', 'WORKERS']
    for key in free:
        config[key] = 'another'
    assert resume_run(saved[0], *make(99), config, 'cpu').epochs_done == 2


def test_a_missing_state_is_a_users_mistake(config, tmp_path):
    with pytest.raises(UserError, match='last.pt: cannot be read'):
        resume_run(tmp_path / 'last.pt', *make(0), config, 'cpu')
