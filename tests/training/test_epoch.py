"""A pass over the data: what training changes of it and validation does not, and the schedule it follows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from models.heads.steps import CONTENT_WEIGHTS, StepProgressHead
from recordings.json_dataset import Recording, make_train_loaders, make_validation_loaders, merge_loaders
from training.epoch import SkippedSteps, choose_content_weight, run_training_epoch, run_validation_epoch
from training.step import LossModule, build_optimizer
from utils.loss_entry import LossTerms, content_term
from utils.tensorops import Action

WIDTH = 3


class Recorder(nn.Module):
    """A model that notes what it is shown, and in which mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 2)
        self.seen, self.modes = [], set()

    def forward(self, videos):
        self.seen += [video.clone() for video in videos]
        self.modes.add(self.training)
        return {'outputs': [self.layer(video) for video in videos]}


def loss_fn(output, epoch, times):
    total = sum(embedding.square().mean() for embedding in output['outputs'])
    return LossTerms({'alignment_loss': total, 'total_loss': total}, ['alignment_loss'])


@pytest.fixture
def recordings(tmp_path):
    made = []
    for index in range(4):
        path = tmp_path / f'rec{index}.npy'
        np.save(path, np.random.default_rng(index).normal(size=(9 + index, WIDTH)).astype(np.float32))
        made.append(Recording('tea', f'rec{index}', path, 9 + index, WIDTH, *[(Action('cut', 0, 8),)] * 2))
    return made


@pytest.fixture
def train_epoch(recordings, config):
    """Train an epoch of the configuration's run; returns the model and its optimizer."""
    def run(epoch):
        torch.manual_seed(epoch)
        model = Recorder()
        optimizer = build_optimizer(model, config.LEARNING_RATE)
        loader = merge_loaders(make_train_loaders({'tea': recordings}, 2, seed=0), 2, seed=0, workers=0)
        run_training_epoch(LossModule(model, loss_fn), optimizer, loader, epoch, config, device='cpu',
                           skipped=SkippedSteps(0))
        return model, optimizer
    return run


def in_files(recordings):
    return {recording.num_frames: torch.from_numpy(np.load(recording.path)) for recording in recordings}


@pytest.mark.parametrize('augmented', [True, False])
def test_training_sees_augmented_features_where_asked_for(train_epoch, recordings, config, augmented):
    if augmented:
        config.AUGMENTATION.update(scale=0.1, shift=0.2, noise=0.1)
    model, _ = train_epoch(0)
    original = in_files(recordings)
    assert sorted(map(len, model.seen)) == sorted(original) and model.modes == {True}
    for video in model.seen:
        assert torch.equal(video, original[len(video)]) != augmented
        assert (video - original[len(video)]).abs().max() < 2


def test_validation_sees_the_features_as_they_are(recordings, config):
    config.AUGMENTATION.update(scale=0.5, shift=0.5, noise=0.5)
    model, loaders = Recorder().train(), make_validation_loaders({'tea': recordings[:2]}, {'tea': recordings[2:]}, 2)
    run_validation_epoch(model, loaders, loss_fn, 0, config)
    original = in_files(recordings)
    assert sorted(map(len, model.seen)) == [9, 10] and model.modes == {False} and model.training
    assert all(torch.equal(video, original[len(video)]) for video in model.seen)


@pytest.mark.parametrize(('schedule', 'expected'), [
    ('constant', [0.01, 0.01, 0.01]), ('cosine', [0.01, 0.0075, 0.0025])])
def test_each_epoch_has_its_learning_rate(train_epoch, config, schedule, expected):
    config.update(LEARNING_RATE=0.01, LEARNING_RATE_SCHEDULE=schedule, NUM_EPOCHS=3)
    rates = [train_epoch(epoch)[1].param_groups[0]['lr'] for epoch in range(3)]
    assert rates == pytest.approx(expected)


def test_a_content_head_gets_the_weight_of_the_lowest_progress_loss():
    head = StepProgressHead(WIDTH, steps=[('tea', 'cut')], content_head=True)
    model = SimpleNamespace(progress_head=head)
    errors = {weight: 1 + (weight - 0.6) ** 2 for weight in CONTENT_WEIGHTS}
    means = {'alignment_loss': torch.tensor(2.0), 'progress_loss': torch.tensor(1.36), 'total_loss': torch.tensor(6.08),
             **{content_term(weight): torch.tensor(error) for weight, error in errors.items()}}
    chosen = choose_content_weight(model, means, progress_weight=3)
    assert head.content_weight == pytest.approx(0.6)
    assert chosen == {'alignment_loss': 2, 'progress_loss': 1, 'total_loss': 5}
    equal = {**means, **dict.fromkeys(map(content_term, CONTENT_WEIGHTS), torch.tensor(1.0))}
    choose_content_weight(model, equal, progress_weight=3)
    assert head.content_weight == 0
    head.content_weight.fill_(0.5)
    without = {name: means[name] for name in ('alignment_loss', 'progress_loss', 'total_loss')}
    assert choose_content_weight(model, without, progress_weight=3) == without and head.content_weight == 0.5
