"""Fit and calibrate: which recordings the head is given, when, and that a head that needs none costs nothing."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from models.alignment_training_loop import alignment_training_loop
from models.heads.base import ProgressHeadBase
from recordings.batches import make_train_loaders, make_validation_loaders
from recordings.json_dataset import Recording
from training.distributed import World
from training.head_stages import embed_recordings
from training.trainer import Trainer
from utils.ckpt_save import load_checkpoint
from utils.loss_entry import LossTerms
from utils.run_folder import RunFolder
from utils.tensorops import Action

FEATURE_DIM = 3
pytestmark = pytest.mark.usefixtures('blank_pictures')


class Learner(ProgressHeadBase):
    """A head that notes what it is given, and draws from the generators of training."""

    def __init__(self, events, *, learns):
        super().__init__(2)
        self.events, self.fits_embeddings, self.calibrates = events, learns, learns

    def fit(self, recordings):
        random.random(), torch.rand(1)
        self.events.append(('fit', self.training, recordings))

    def calibrate(self, recordings, penalty):
        random.random(), torch.rand(1)
        self.events.append(('calibrate', self.training, recordings))

    def chosen(self):
        calibrated = sum(name == 'calibrate' for name, *_ in self.events)
        return {'content': calibrated / 4, 'order': 1.0} if self.calibrates else {}


class Network(nn.Module):
    def __init__(self, *, learns=True):
        super().__init__()
        self.layer, self.events = nn.Linear(FEATURE_DIM, 2), []
        self.progress_head = Learner(self.events, learns=learns)

    def forward(self, videos):
        self.events.append(('forward', self.training, len(videos)))
        return {'outputs': [self.layer(video) for video in videos]}


def drawing_loss(output, epoch, times):
    total = sum(embedding.square().mean() for embedding in output['outputs']) + random.random() + torch.rand(()).item()
    return LossTerms({'alignment_loss': total, 'total_loss': total}, ['alignment_loss'])


@pytest.fixture
def recordings(tmp_path):
    made = []
    for index in range(5):
        path = tmp_path / f'rec{index}.npy'
        np.save(path, np.random.default_rng(index).normal(size=(9 + index, FEATURE_DIM)).astype(np.float32))
        made.append(Recording('tea', f'rec{index}', path, 9 + index, FEATURE_DIM,
                              (Action('cut', 0, 5), Action('0', 6, 8)), (Action('cut', 0, 5),), f'person{index}'))
    return made


@pytest.fixture
def run(recordings, config, tmp_path):
    """Train two epochs; returns the events and the losses. A training recording fills the validation batch."""
    def train(**options):
        config.update(NUM_EPOCHS=2, TENSORBOARD=False)
        torch.manual_seed(0)
        random.seed(0)
        model = Network(**options)
        parts = {'tea': recordings[1:]}, {'tea': recordings[:1]}
        history = alignment_training_loop(model, make_train_loaders(parts[0], 2, seed=0), drawing_loss,
                                          tmp_path / str(options), config,
                                          make_validation_loaders(parts[1], parts[0], 2))
        return model.events, [{**row, 'seconds': 0, 'chosen': None} for row in history.rows]
    return train


def test_the_head_fits_training_and_calibrates_on_validation_recordings_before_each_validation(run):
    events, _ = run()
    stages = [(name, training, *([recording.handle for recording in given] if name != 'forward' else [given]))
              for name, training, given in events]
    embedding = ('forward', False, 1)
    epoch = [('forward', True, 2)] * 2 + [embedding] * 4 + [('fit', False, 'rec1', 'rec2', 'rec3', 'rec4'), embedding,
                                                            ('calibrate', False, 'rec0'), ('forward', False, 2)]
    assert stages == epoch * 2
    for _, _, given in (event for event in events if event[0] != 'forward'):
        for task, handle, embeddings, actions, group in given:
            assert group == f'person{handle.removeprefix("rec")}'
            assert (task, actions) == ('tea', [Action('cut', 0, 5)]) and not embeddings.requires_grad


def test_a_head_that_learns_from_no_embeddings_costs_nothing_and_draws_of_the_others_change_no_number(run):
    events, losses = run(learns=False)
    assert events == ([('forward', True, 2)] * 2 + [('forward', False, 2)]) * 2
    assert losses == run(learns=True)[1]


def test_what_the_head_chose_is_logged_and_stored_after_each_epoch(run, tmp_path, caplog):
    with caplog.at_level('INFO'):
        run()
    assert 'chosen by the progress head: content 0.25, order 1' in caplog.text
    folder = tmp_path / "{}"
    lines = (folder / 'chosen_weights.csv').read_text().splitlines()
    assert lines == ['epoch,content,order', '1,0.25,1.0', '2,0.5,1.0']
    rows = load_checkpoint(folder / 'ckpt/last.pt')['history']
    assert [row['chosen'] for row in rows] == [{'content': 0.25, 'order': 1.0}, {'content': 0.5, 'order': 1.0}]
    run(learns=False)
    assert not (tmp_path / str({'learns': False}) / 'chosen_weights.csv').exists()


def test_processes_embed_different_recordings_and_all_get_all_in_order(recordings, config, tmp_path):
    config.TENSORBOARD = False
    loaders = make_train_loaders({'tea': recordings[:2], 'pie': recordings[2:]}, 2, seed=0)
    model, parts = Network(), []

    class Recorded(World):
        def all_gather(self, value):
            parts.append(value)
            return parts

    for rank in range(2):
        trainer = Trainer(model, drawing_loss, config, RunFolder(tmp_path), loaders)
        trainer.world = Recorded(rank, 2)
        embedded = embed_recordings(trainer, loaders)
    assert [[recording.handle for recording in part] for part in parts] == [['rec0', 'rec2', 'rec4'], ['rec1', 'rec3']]
    assert [recording.handle for recording in embedded] == [f'rec{index}' for index in range(5)]
    for recording, source in zip(embedded, recordings, strict=True):
        assert torch.equal(recording.embeddings, model.layer(torch.from_numpy(np.load(source.path))))
