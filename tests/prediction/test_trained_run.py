"""Loading a run: from its folder, with what it expects."""

import numpy as np
import pytest
import torch

from prediction import load_run, predict
from utils.errors import UserError


@pytest.mark.parametrize('head', ['plan', 'filter'])
def test_a_loaded_run_predicts_what_the_saved_one_did(make_run, save_run, make_features, step_options, tmp_path, head):
    run, features = make_run('--tstack', *(step_options if head == 'filter' else [])), make_features(20)
    loaded = load_run(save_run(run, tmp_path / 'V1'), device='cpu')
    assert (loaded.name, loaded.checkpoint, loaded.epoch) == ('V1', 'best_model_combined', 1)
    assert (loaded.tasks, loaded.delay, loaded.skip_rate, loaded.ndim) == (['tea', 'tyre'], 7, 1, 2)
    np.testing.assert_array_equal(predict(loaded, features, task='tea').progress,
                                  predict(run, features, task='tea').progress)


def test_a_run_of_one_task_needs_no_task(make_run, step_options):
    run = make_run('--naive', *step_options)
    assert [run.check_task(task) for task in ('tyre', None)] == ['tyre', None]
    object.__setattr__(run, 'tasks', ['tyre'])
    assert run.check_task(None) == 'tyre'


def test_what_is_no_run_is_refused(make_run, save_run, tmp_path):
    with pytest.raises(UserError, match='nowhere: no such run folder'):
        load_run(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='contains no ckpt/'):
        load_run(tmp_path)
    (tmp_path / 'empty/ckpt').mkdir(parents=True)
    with pytest.raises(UserError, match='No checkpoints found'):
        load_run(tmp_path / 'empty')
    run = make_run('--naive')
    folder = save_run(run, tmp_path / 'run')
    with pytest.raises(UserError, match='^moon: not available as a device'):
        load_run(folder, device='moon')
    (folder / 'splits.json').unlink()
    with pytest.raises(UserError, match='splits.json: cannot be read'):
        load_run(folder)


def test_a_run_without_a_progress_head_is_refused(make_run, save_run, tmp_path):
    run = make_run('--naive', '--set', 'PROGRESS_LOSS.enabled=true')
    run.config.PROGRESS_LOSS.enabled = False
    del run.model.progress_head
    with pytest.raises(UserError, match='this run has no progress head, expected a run .* PROGRESS_LOSS.enabled'):
        load_run(save_run(run, tmp_path / 'run'))


def test_the_device_is_that_of_the_model(make_run, save_run, tmp_path):
    run = load_run(save_run(make_run('--naive'), tmp_path / 'run'), device='cpu')
    assert {weight.device for weight in run.model.parameters()} == {run.device} == {torch.device('cpu')}
