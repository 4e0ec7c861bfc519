"""Runs that were never trained, with heads whose answer depends on frames, steps, pace and label."""

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.choices import HEADS
from configs.entry_config import parse_training_arguments
from models.build import build_model, fill_in_head, fill_in_sizes
from models.heads.base import EmbeddedRecording
from prediction import TrainedRun
from recordings.splits import PARTS
from utils.ckpt_save import ckpt_save
from utils.files import write_json
from utils.tensorops import Action

WIDTH = 6
SETTINGS = ['ARCHITECTURE.drop_layers=[4]', 'ARCHITECTURE.attn_layers=[8]', 'BASEARCH.NAIVE_ARCH.layers=[16]',
            'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=16', 'PROGRESS_LOSS.hidden_dim=16']
# Recordings of two paces, so that the pace of completed actions counts.
TRAINING = {'tea': [[Action('boil', 0, 9 * pace), Action('pour', 9 * pace + 1, 14 * pace)] for pace in (1, 2, 4)],
            'tyre': [[Action('jack', 0, 20)]]}
STEP_HEAD = ('--progress_sampling', 'dense', '--set', 'PROGRESS_LOSS.head=hsmm')


def noise(training, width):
    """Two recordings of each task, the fewest that a filter takes less than a second to be fitted to."""
    return [EmbeddedRecording(task, f'{task}{index}', torch.randn(actions[-1].end + 4, width), actions)
            for task, recordings in training.items() for index, actions in enumerate(filter(None, recordings[:2]))]


def untrained(*options, width=WIDTH, training=TRAINING):
    """A run of its own, which a test may change; equal ones are built and fitted once, because that takes longest."""
    recordings = tuple((task, tuple(map(tuple, members))) for task, members in training.items())
    return copy.deepcopy(_untrained(options, width, recordings, HEADS['gru'].cls))


@functools.cache
def _untrained(options, width, recordings, _):
    training = {task: list(map(list, members)) for task, members in recordings}
    config, _ = parse_training_arguments(
        ['1', '--tcc', '--mcn', '--dataset', 'demo', '--progress', '-od', '8', *options,
         *(option for setting in SETTINGS for option in ('--set', setting))], 'test')
    fill_in_sizes(config, width, len(training))
    fill_in_head(config, training)
    torch.manual_seed(1)
    model = build_model(config)
    head = model.progress_head
    if head.fits_embeddings:
        head.fit(noise(training, config.OUTPUT_DIMENSIONALITY))
        for known in head.filters:
            known.segmented.weights.fill_(0.1)  # so that frames count
    else:
        for weight in head.fc[-2].parameters():
            torch.nn.init.normal_(weight)
    return TrainedRun('untrained', 'best_model_combined', 1, model.eval(), config, torch.device('cpu'),
                      sorted(training))


@pytest.fixture
def filter_head(monkeypatch):
    """Put a head that infers boundaries in the place of the plan's head."""
    monkeypatch.setitem(HEADS, 'gru', replace(HEADS['gru'], cls='tests.prediction.filter_head:FilterHead'))


@pytest.fixture(scope='session')
def make_run():
    """A function from options of training to a run."""
    return untrained


def recorded(task, number):
    """A recording whose features tell label and phase, with background before each action."""
    generator, rows, actions = np.random.default_rng(number), [], []
    for position, label in enumerate({'tea': ('boil', 'pour'), 'tyre': ('jack',)}[task]):
        length, start = int(generator.integers(8, 20)), len(rows) + 3
        rows += [[-1, 0, 0, 0, 0, 0]] * 3 + [[position, 1, frame / length, task == 'tea', 0, 0]
                                             for frame in range(length)]
        actions.append(Action(label, start, start + length - 1))
    features = np.array(rows, np.float32) + 0.3 * generator.standard_normal((len(rows), WIDTH)).astype(np.float32)
    return EmbeddedRecording(task, f'{task}{number}', torch.from_numpy(features), actions, f'person{number // 2}')


@pytest.fixture(scope='session')
def hsmm_run():
    """A run with the filter, fitted to what its network makes of features."""
    recordings = [recorded(task, number) for task in ('tea', 'tyre') for number in range(3)]
    training = {task: [one.actions for one in recordings if one.task == task] for task in ('tea', 'tyre')}
    run = untrained('--identity', '--progress_sampling', 'dense', '--set', 'PROGRESS_LOSS.head=hsmm', training=training)
    with torch.no_grad():
        run.head.fit([one._replace(embeddings=run.model([one.embeddings])['outputs'][0]) for one in recordings])
    return run


def save(run, folder, splits=None):
    """Write a run as training leaves it."""
    (folder / 'ckpt').mkdir(parents=True)
    optimizer = torch.optim.Adam([*run.model.parameters()] or [torch.zeros(1)])  # some runs have no parameters
    ckpt_save(run.model, optimizer, 1, 0.0, folder / 'ckpt/best_model_combined.pt', run.config)
    empty = {part: [] for part in PARTS}
    write_json(folder / 'splits.json', {'splits': splits or dict.fromkeys(run.tasks, empty)})
    return folder


@pytest.fixture(scope='session')
def save_run():
    """A function that writes a run as training leaves it."""
    return save


@pytest.fixture(scope='session')
def step_options():
    """Options of training that choose the head of the recommended preset."""
    return STEP_HEAD


@pytest.fixture(scope='session')
def make_features():
    """A function from a length to features (T, 6)."""
    return lambda length, *shape: np.random.default_rng(length).standard_normal(
        (length, *(shape or (WIDTH,)))).astype(np.float32)
