"""A pass over the data: what training changes of it and validation does not, and the schedule it follows."""

import numpy as np
import pytest
import torch
from torch import nn

from recordings.batches import make_train_loaders, make_validation_loaders
from recordings.json_dataset import Recording
from training.epoch import run_validation_epoch, train_epoch
from training.trainer import Trainer
from utils.loss_entry import LossTerms
from utils.run_folder import RunFolder
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
def train(recordings, config, tmp_path):
    """Train an epoch of the configuration's run; returns the model and its optimizer."""
    config.TENSORBOARD = False

    def run(epoch):
        torch.manual_seed(epoch)
        trainer = Trainer(Recorder(), loss_fn, config, RunFolder(tmp_path),
                          make_train_loaders({'tea': recordings}, 2, seed=0))
        train_epoch(trainer, epoch)
        return trainer.model, trainer.optimizer
    return run


def in_files(recordings):
    return {recording.num_frames: torch.from_numpy(np.load(recording.path)) for recording in recordings}


@pytest.mark.parametrize('augmented', [True, False])
def test_training_sees_augmented_features_where_asked_for(train, recordings, config, augmented):
    if augmented:
        config.AUGMENTATION.update(scale=0.1, shift=0.2, noise=0.1)
    model, _ = train(0)
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
def test_each_epoch_has_its_learning_rate(train, config, schedule, expected):
    config.update(LEARNING_RATE=0.01, LEARNING_RATE_SCHEDULE=schedule, NUM_EPOCHS=3)
    rates = [train(epoch)[1].param_groups[0]['lr'] for epoch in range(3)]
    assert rates == pytest.approx(expected)
