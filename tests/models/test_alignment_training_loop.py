"""Training loop: which checkpoints are kept and why, which files are written, and resuming from last.pt."""

import csv
import logging
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from models.alignment_training_loop import alignment_training_loop, run_validation_epoch
from models.build import build_model, fill_in_head, fill_in_sizes
from recordings.batches import make_train_loaders, make_validation_loaders
from recordings.json_dataset import Recording
from training.tensorboard import FOLDER
from utils.ckpt_save import load_checkpoint
from utils.command_line import seed_everything
from utils.errors import UserError
from utils.loss_entry import LossTerms, get_loss_function
from utils.tensorops import Action

WIDTH = 6
pytestmark = pytest.mark.usefixtures('blank_pictures')


@pytest.fixture
def recordings(tmp_path):
    """Return eight recordings of one task, each with an action between two background segments."""
    generator = np.random.default_rng(0)
    made = []
    for index in range(8):
        path = tmp_path / f'rec{index}.npy'
        length = 30 + index
        np.save(path, generator.normal(size=(length, WIDTH)).astype(np.float32))
        segments = (Action('0', 0, 4), Action('cut', 5, 24), Action('0', 25, length - 1))
        made.append(Recording('task', f'rec{index}', path, length, WIDTH, segments, segments[1:2]))
    return made


@pytest.fixture
def small_config(config):
    config.LOSS_TYPE.tcc = True
    config.BASEARCH.ARCHITECTURE = 'naive'
    config.BASEARCH.NAIVE_ARCH.layers = [8]
    config.OUTPUT_DIMENSIONALITY = 4
    config.NUM_EPOCHS = 6
    config.TENSORBOARD = False
    config.LEARNING_RATE = 1e-3
    config.PROGRESS_LOSS.enabled = True
    config.PROGRESS_LOSS.lambda_curriculum.enabled = True
    fill_in_sizes(config, WIDTH, 1)
    return config


def loaders(recordings, config, val_count=2):
    parts = {'train': {'task': recordings[val_count:]}, 'val': {'task': recordings[:val_count]}}
    return (make_train_loaders(parts['train'], config.BATCH_SIZE, seed=config.SEED),
            make_validation_loaders(parts['val'], parts['train'], config.BATCH_SIZE))


def run(recordings, config, folder, **options):
    seed_everything(config.SEED)
    train, val = loaders(recordings, config)
    model = build_model(config)
    history = alignment_training_loop(model, train, get_loss_function(config), folder, config, val, **options)
    return model, history


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


class ScriptedModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 2)

    def forward(self, videos):
        return {'outputs': [self.layer(video) for video in videos]}


class ScriptedLoss:
    """Return the scripted alignment and progress loss of each validation pass."""

    def __init__(self, alignment, progress):
        self.alignment, self.progress, self.passes, self.epochs_seen = alignment, progress, 0, []

    def __call__(self, output, epoch, times):
        attached = sum(embedding.sum() * 0 for embedding in output['outputs'])
        if torch.is_grad_enabled():
            alignment, progress = attached + 1.0, attached + 0.5
        else:
            alignment, progress = (attached + values[self.passes] for values in (self.alignment, self.progress))
            self.passes += 1
            self.epochs_seen.append(epoch)
        return LossTerms({'alignment_loss': alignment, 'progress_loss': progress, 'total_loss': alignment + progress},
                         ['alignment_loss', 'progress_loss'])


def scripted_run(recordings, config, folder, alignment, progress):
    loss = ScriptedLoss(alignment, progress)
    train, val = loaders(recordings, config)
    history = alignment_training_loop(ScriptedModel(), train, loss, folder, config, val)
    return loss, history


def test_best_checkpoints_are_selected_by_two_losses(recordings, small_config, tmp_path, caplog):
    # Alignment is lowest after epoch 2; with the final lambda of 0.5 the total is lowest after epoch 4.
    alignment = [1.00, 0.80, 0.85, 0.90, 0.95, 0.99]
    progress = [0.50, 0.50, 0.45, 0.10, 0.10, 0.10]
    with caplog.at_level(logging.INFO, logger='progress'):
        logging.getLogger('progress').propagate = True
        loss, history = scripted_run(recordings, small_config, tmp_path / 'run', alignment, progress)
        scripted_run(recordings, small_config, tmp_path / 'other', [0.0] * 6, progress)
    combined = load_checkpoint(tmp_path / 'run/ckpt/best_model_combined.pt')
    aligned = load_checkpoint(tmp_path / 'run/ckpt/best_model_alignment.pt')
    assert (combined['epoch'], aligned['epoch']) == (4, 2)
    assert combined['loss'] == pytest.approx(0.90 + 0.5 * 0.10)
    assert aligned['loss'] == pytest.approx(0.80)
    assert 'New best COMBINED loss: 0.95' in caplog.text
    assert 'New best ALIGNMENT loss: 0.8' in caplog.text
    assert set(loss.epochs_seen) == {small_config.NUM_EPOCHS - 1}  # validation always gets the final epoch
    # A run without an alignment loss has no best one: 0 would look like a result.
    assert 'best_model_alignment.pt is of epoch 1: this run has no alignment loss to compare epochs by' in caplog.text
    assert 'ALIGNMENT loss: 0\n' not in caplog.text


def test_epoch_checkpoints_double_their_distance_and_the_last_three_are_kept(recordings, small_config, tmp_path):
    small_config.NUM_EPOCHS = 23
    scripted_run(recordings, small_config, tmp_path / 'run', [1.0] * 23, [0.5] * 23)
    names = {path.name for path in (tmp_path / 'run/ckpt').iterdir()}
    assert names == {'best_model_combined.pt', 'best_model_alignment.pt', 'last.pt', 'epoch-5.pt', 'epoch-10.pt',
                     'epoch-20.pt', 'epoch-21.pt', 'epoch-22.pt', 'epoch-23.pt'}
    assert load_checkpoint(tmp_path / 'run/ckpt/epoch-10.pt')['epoch'] == 10
    states = {name: load_checkpoint(tmp_path / 'run/ckpt' / name)['optimizer_state_dict'] for name in names}
    assert {name for name, state in states.items() if state['state']} == {'last.pt'}  # only it is resumed
    assert all(state['param_groups'] for state in states.values())
    for picture in ('dual_loss_comparison.png', 'train_loss_epochlevel.png', 'val_loss_epochlevel.png'):
        assert (tmp_path / 'run' / picture).exists()


def test_csv_satisfies_two_identities_and_lambda_rises(recordings, small_config, tmp_path):
    run(recordings, small_config, tmp_path / 'run')
    with (tmp_path / 'run/losses.csv').open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row['epoch'] for row in rows] == [1, 2, 3, 4, 5, 6]
    weights = [row['lambda'] for row in rows]
    assert weights == pytest.approx([0.01 + 0.49 * step / 5 for step in range(6)])
    for row in rows:
        assert row['train_total'] == pytest.approx(row['train_alignment'] + row['lambda'] * row['train_progress'])
        assert row['val_total'] == pytest.approx(row['val_alignment'] + 0.5 * row['val_progress'])


def test_tensorboard_curves_match_csv_and_are_optional(recordings, small_config, tmp_path):
    small_config.update(TENSORBOARD=True, NUM_EPOCHS=3)
    run(recordings, small_config, tmp_path / 'with')
    curves = EventAccumulator(str(tmp_path / 'with' / FOLDER)).Reload()
    rows = read_rows(tmp_path / 'with' / 'losses.csv')
    points = [(event.step, event.value) for event in curves.Scalars('loss val/progress')]
    assert points == [(int(row['epoch']), pytest.approx(float(row['val_progress']))) for row in rows]
    assert {'schedule/learning rate encoder', 'schedule/learning rate progress_head', 'optimizer/gradient norm encoder',
            'optimizer/gradient norm progress_head'} < set(curves.Tags()['scalars'])
    assert all(event.value > 0 for event in curves.Scalars('optimizer/gradient norm progress_head'))
    small_config.TENSORBOARD = False
    run(recordings, small_config, tmp_path / 'without')
    assert not (tmp_path / 'without' / FOLDER).exists()
    assert [row | {'seconds': ''} for row in read_rows(tmp_path / 'without' / 'losses.csv')] == [
        row | {'seconds': ''} for row in rows]


def test_without_progress_total_is_alignment_and_columns_are_empty(recordings, small_config, tmp_path):
    small_config.PROGRESS_LOSS.enabled = False
    model, history = run(recordings, small_config, tmp_path / 'run')
    assert not any('progress_head' in name for name, _ in model.named_parameters())
    for row in history.rows:
        assert row['train_progress'] is None and row['lambda'] is None
        assert row['train_total'] == row['train_alignment'] and row['val_total'] == row['val_alignment']


def test_training_losses_select_without_validation(recordings, small_config, tmp_path, caplog):
    train, _ = loaders(recordings, small_config)
    logging.getLogger('progress').propagate = True
    with caplog.at_level(logging.INFO, logger='progress'):
        alignment_training_loop(build_model(small_config), train, get_loss_function(small_config), tmp_path / 'run',
                                small_config)
    assert 'training losses select' in caplog.text
    assert (tmp_path / 'run/ckpt/best_model_combined.pt').exists()


def test_training_progress_selects_if_missing_in_validation(recordings, small_config, tmp_path):
    recordings[:2] = [replace(recording, segments=(Action('0', 0, recording.num_frames - 1),), actions=())
                      for recording in recordings[:2]]
    run(recordings, small_config, tmp_path / 'run')
    rows = read_rows(tmp_path / 'run/losses.csv')
    assert {row['val_progress'] for row in rows} == {''}
    assert all(row['val_total'] == row['val_alignment'] for row in rows)
    combined = [float(row['val_alignment']) + 0.5 * float(row['train_progress']) for row in rows]
    best = load_checkpoint(tmp_path / 'run/ckpt/best_model_combined.pt')
    assert best['loss'] == pytest.approx(min(combined)) and best['epoch'] == combined.index(min(combined)) + 1


def test_validation_is_repeatable_and_keeps_random_state(recordings, small_config):
    _, val = loaders(recordings, small_config)
    model, loss = build_model(small_config).train(), get_loss_function(small_config)
    before = torch.get_rng_state()
    first = run_validation_epoch(model, val, loss, 0, small_config)
    second = run_validation_epoch(model, val, loss, 3, small_config)
    assert {'total_loss', 'alignment_loss', 'progress_loss', 'tcc_loss'} == set(first)
    assert all(value.shape == () for value in first.values())
    assert first == second
    assert torch.equal(before, torch.get_rng_state()) and model.training


def test_single_validation_recording_is_paired_with_training(recordings, small_config):
    _, val = loaders(recordings, small_config, val_count=1)
    result = run_validation_epoch(build_model(small_config), val, get_loss_function(small_config), 0, small_config)
    assert result['alignment_loss'] != 0 and result['progress_loss'] > 0


def test_same_seed_gives_same_losses(recordings, small_config, tmp_path):
    (first, one), (second, two) = (run(recordings, small_config, tmp_path / name) for name in ('a', 'b'))
    assert [{**row, 'seconds': 0} for row in one.rows] == [{**row, 'seconds': 0} for row in two.rows]
    for weight, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(weight, other)


def filter_settings(config):
    """A causal encoder, a filter as head, augmentation, weight decay, and a cosine schedule."""
    config.update(NUM_EPOCHS=2, CAUSAL=True, LEARNING_RATE_SCHEDULE='cosine', WEIGHT_DECAY=0.01)
    config.AUGMENTATION.update(scale=0.1, shift=0.2, noise=0.1)
    config.BASEARCH.ARCHITECTURE = 'temporal_stacking'
    config.BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels = 8
    config.PROGRESS_LOSS.update(sampling='dense', head='hsmm')
    fill_in_sizes(config, WIDTH, 1)
    fill_in_head(config, {'task': [[Action('cut', 5, 24)]]})


@pytest.mark.parametrize('change', [lambda config: None, filter_settings], ids=['defaults', 'filter'])
def test_resumed_run_ends_like_an_uninterrupted_one(recordings, small_config, tmp_path, monkeypatch, change):
    small_config.NUM_EPOCHS = 3
    change(small_config)
    # A filter is fitted in each epoch, to each subset of the three recordings of training.
    recordings = recordings[:5]
    whole, whole_history = run(recordings, small_config, tmp_path / 'whole')

    calls = []
    validate = run_validation_epoch

    def stop_in_second_epoch(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr('models.alignment_training_loop.run_validation_epoch', stop_in_second_epoch)
        run(recordings, small_config, tmp_path / 'cut')
    torch.manual_seed(99)
    resumed, resumed_history = run(recordings, small_config, tmp_path / 'cut', resume=True)
    assert [{**row, 'seconds': 0} for row in resumed_history.rows] == [{**row, 'seconds': 0}
                                                                       for row in whole_history.rows]
    resumed_values = resumed.state_dict()
    assert all(torch.equal(value, resumed_values[name]) for name, value in whole.state_dict().items())


def test_resuming_with_other_settings_is_refused(recordings, small_config, tmp_path):
    run(recordings, small_config, tmp_path / 'run')
    small_config.LEARNING_RATE = 0.5
    with pytest.raises(UserError, match='LEARNING_RATE is 0.5, but .*last.pt was written with 0.001'):
        run(recordings, small_config, tmp_path / 'run', resume=True)


def diverged(output, epoch, times, *, epochs=range(100)):
    """Loss that is not finite in these epochs, counted from 0."""
    loss = sum(embedding.sum() for embedding in output['outputs']) * (math.nan if epoch in epochs else 1)
    return LossTerms({'alignment_loss': loss, 'total_loss': loss}, ['alignment_loss'])


def test_epoch_without_optimizer_step_is_never_best(recordings, small_config, tmp_path):
    train, _ = loaders(recordings, small_config)
    history = alignment_training_loop(ScriptedModel(), train, partial(diverged, epochs=[1]), tmp_path / 'run',
                                      small_config)
    assert history.rows[0]['train_total'] is not None and history.rows[1]['train_total'] is None
    assert load_checkpoint(tmp_path / 'run/ckpt/best_model_combined.pt')['epoch'] != 2
    with pytest.raises(UserError, match='all 3 steps skipped'):
        alignment_training_loop(ScriptedModel(), train, diverged, tmp_path / 'other', small_config)


def test_too_many_steps_without_a_finite_loss_end_the_run(recordings, small_config, tmp_path):
    small_config.MAX_SKIPPED_STEPS = 1
    train, val = loaders(recordings, small_config)
    with pytest.raises(UserError, match='2 steps skipped because loss or gradient was not finite, last on rec'):
        alignment_training_loop(ScriptedModel(), train, diverged, tmp_path / 'run', small_config, val)
    assert not list((tmp_path / 'run/ckpt').iterdir())


def test_end_reports_steps_and_memory_also_after_resume(recordings, small_config, tmp_path, caplog):
    logging.getLogger('progress').propagate = True
    small_config.NUM_EPOCHS = 2
    for resume in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger='progress'):
            run(recordings, small_config, tmp_path / 'run', resume=resume)
        assert '6 steps taken, 0 skipped' in caplog.text and 'max memory: ' in caplog.text


def test_anomalies_are_located_if_enabled(recordings, small_config, tmp_path):
    small_config.DETECT_ANOMALY = True
    train, val = loaders(recordings, small_config)
    model = build_model(small_config)
    nn.init.constant_(model.base_model.fc_layers[0].weight, math.nan)
    with pytest.raises(UserError, match=r'layer .*fc_layers.0 \(Linear\) returns NaN .* in the step on rec'):
        alignment_training_loop(model, train, get_loss_function(small_config), tmp_path / 'run', small_config, val)
