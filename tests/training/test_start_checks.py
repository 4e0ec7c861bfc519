"""Warnings at the start of a run that cannot learn what it should."""

import random

import numpy as np
import pytest
import torch

from configs.generic_config import apply_settings
from models.build import build_model
from models.heads.hsmm import HSMMHead
from recordings.batches import make_train_loaders
from recordings.json_dataset import Recording
from training.start_checks import warn_of_start
from utils.action import Action
from utils.loss_entry import get_loss_function

NAIVE = {'BASEARCH.ARCHITECTURE': 'naive', 'BASEARCH.NAIVE_ARCH.layers': [4], 'BASEARCH.NAIVE_ARCH.input_dimensions': 3,
         'OUTPUT_DIMENSIONALITY': 4, 'LOSS_TYPE.tcc': True, 'NUM_EPOCHS': 200}
PROGRESS = {'PROGRESS_LOSS.enabled': True, 'PROGRESS_LOSS.hidden_dim': 4}
ACTIONS = (Action('a', 0, 5), Action('b', 6, 11))


@pytest.fixture
def warnings(tmp_path, config, caplog):
    """Return the warnings at the start of a run with the given settings and numbers of recordings per task."""
    def start(settings, sizes=(4,), validated=True, actions=ACTIONS):
        apply_settings(config, {**NAIVE, **settings})
        recordings = {f'task{task}': [Recording(f'task{task}', f'{task}_{number}', tmp_path / f'{task}_{number}.npy',
                                                12, 3, actions, actions) for number in range(size)]
                      for task, size in enumerate(sizes)}
        draw = np.random.default_rng(0)
        for recording in (recording for members in recordings.values() for recording in members):
            np.save(recording.path, draw.normal(size=(12, 3)).astype(np.float32))
        loaders = make_train_loaders(recordings, config.BATCH_SIZE, seed=0)
        torch.manual_seed(0)
        model = build_model(config)
        before = (torch.get_rng_state(), random.getstate(), model.training)
        warn_of_start(model, get_loss_function(config), loaders, {'task0': None} if validated else {}, config, 'cpu')
        assert before[0].equal(torch.get_rng_state()) and before[1:] == (random.getstate(), model.training)
        return caplog.messages
    return start


@pytest.mark.parametrize(('settings', 'sizes', 'expected'), [
    ({}, (4,), []), ({**PROGRESS, 'PROGRESS_LOSS.coefficient': 1.0}, (4,), []),
    ({'BATCH_SIZE': 1}, (4,), ['BATCH_SIZE is 1', 'nothing is trained; give --batch_size 2']),
    ({'BATCH_SIZE': 1, **PROGRESS}, (4,), ['BATCH_SIZE is 1', 'only the progress loss trains']),
    ({'BATCH_SIZE': 1, 'ALIGNMENT_WEIGHT': 0.0, **PROGRESS}, (4,), []),
    ({}, (1, 1), ['no task has two training recordings', 'nothing is trained']), ({}, (1, 4), []),
    ({'NUM_EPOCHS': 50}, (4,), ['only 100 optimizer steps', 'give --epochs 150']),
    ({'NUM_EPOCHS': 50}, (4, 9), []),
    ({**PROGRESS, 'PROGRESS_LOSS.coefficient': 1e-6}, (4,), ['lambda times', 'give --progress_lambda']),
    ({**PROGRESS, 'PROGRESS_LOSS.coefficient': 1e-6, 'PROGRESS_LOSS.detach_embeddings': True}, (4,), []),
    ({**PROGRESS, 'PROGRESS_LOSS.lambda_curriculum.enabled': True}, (4,), [])])
def test_what_cannot_work_is_named_with_the_option_that_fixes_it(warnings, settings, sizes, expected):
    found = warnings(settings, sizes)
    assert len(found) == bool(expected) and all(text in found[0] for text in expected), found


def test_progress_without_actions(warnings):
    (found,) = warnings(PROGRESS, actions=())
    assert 'contain no action, so there is no progress to learn' in found and 'leave --progress out' in found


def test_no_validation_recordings(warnings):
    (found,) = warnings({}, validated=False)
    assert 'no validation recordings' in found and '--splits' in found and 'TRAIN_SPLIT' in found


def test_the_suggested_lambda_gives_a_tenth(warnings, caplog):
    (found,) = warnings({**PROGRESS, 'PROGRESS_LOSS.coefficient': 1e-6})
    needed = float(found.split('--progress_lambda ')[1].split()[0])
    caplog.clear()
    assert warnings({**PROGRESS, 'PROGRESS_LOSS.coefficient': needed / 20}) and not caplog.clear()
    assert warnings({**PROGRESS, 'PROGRESS_LOSS.coefficient': needed}) == []


def test_a_model_that_is_fitted_in_closed_form_needs_neither_steps_nor_validation(warnings, monkeypatch):
    settings = {'BASEARCH.ARCHITECTURE': 'identity', 'ALIGNMENT_WEIGHT': 0.0, 'NUM_EPOCHS': 1, 'BATCH_SIZE': 1,
                'LOSS_TYPE.tcc': False, 'OUTPUT_DIMENSIONALITY': 3, 'BASEARCH.IDENTITY_ARCH.input_dimensions': 3,
                'PROGRESS_LOSS.enabled': True, 'PROGRESS_LOSS.sampling': 'dense', 'PROGRESS_LOSS.head': 'hsmm',
                'PROGRESS_LOSS.steps': [['task0', 'a'], ['task0', 'b']]}
    assert warnings(settings, validated=False) == []
    monkeypatch.setattr(HSMMHead, 'fits_embeddings', False)  # as if it had no method fit
    (found,) = warnings(settings, validated=False)
    assert found.startswith('the progress head HSMMHead has no weights and no method fit, so it learns nothing')
