"""Batches of one task, validation pairs, and reading ahead."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper

from recordings.batches import TaskBatchSampler, make_train_loaders, make_validation_loaders, merge_loaders, read_ahead
from tests.recordings.recording_files import WIDTH, make_recordings
from utils.errors import UserError


@pytest.fixture
def tasks(tmp_path):
    return {task: make_recordings(tmp_path, task, count) for task, count in (('tea', 5), ('pie', 1), ('egg', 4))}


def handles(batches):
    return [[times['name'] for times in batch.times] for batch in batches]


def epoch_of(tasks, batch_size=2, seed=0, epoch=0):
    loader = merge_loaders(make_train_loaders(tasks, batch_size, seed=seed), batch_size, seed=seed)
    loader.batch_sampler.epoch = epoch
    return list(loader)


@pytest.mark.parametrize('batch_size', [1, 2, 3, 8])
def test_epoch_yields_every_recording_in_batches_of_one_task(tasks, batch_size):
    batches = epoch_of(tasks, batch_size)
    assert len(batches) == sum(-(-len(members) // batch_size) for members in tasks.values())
    shown = Counter(handle for batch in handles(batches) for handle in batch)
    assert set(shown) == {recording.handle for members in tasks.values() for recording in members}
    for batch, names in zip(batches, handles(batches), strict=True):
        assert all(name.startswith(batch.task) for name in names)
        assert len(names) == len(set(names)) == min(batch_size, len(tasks[batch.task]))
        for video, times in zip(batch.videos, batch.times, strict=True):
            assert video.dtype == torch.float32 and video.shape == (times['end_frame'][0] + 1, WIDTH)
            assert torch.all(video == int(times['name'][3:]))
    repeats = {task: sum(shown[recording.handle] - 1 for recording in members) for task, members in tasks.items()}
    assert all(repeats[task] == (-len(members) % batch_size if len(members) > batch_size else 0)
               for task, members in tasks.items())


def test_order_depends_only_on_seed_and_epoch(tasks):
    first = handles(epoch_of(tasks, epoch=3))
    torch.manual_seed(5)
    random.seed(5)
    assert handles(epoch_of(tasks, epoch=3)) == first
    assert handles(epoch_of(tasks, epoch=4)) != first and handles(epoch_of(tasks, seed=1, epoch=3)) != first


def test_tasks_are_shuffled_together():
    sampler = TaskBatchSampler([range(20), range(20, 40)], 2, seed=0)
    order = [batch[0] // 20 for batch in sampler]
    assert len(order) == len(sampler) == 20
    assert sum(here != after for here, after in zip(order, order[1:], strict=False)) > 4


def test_recordings_fill_batches_equally_often():
    sampler, filled = TaskBatchSampler([range(3)], 2, seed=0), Counter()
    for sampler.epoch in range(300):
        filled.update(Counter(index for batch in sampler for index in batch) - Counter(range(3)))
    assert set(filled) == {0, 1, 2} and min(filled.values()) > 70


def validation_batches(folder, val_count, train_count, batch_size):
    recordings = make_recordings(folder, 'tea', val_count + train_count)
    loaders = make_validation_loaders({'tea': recordings[:val_count], 'pie': []},
                                      {'tea': recordings[val_count:], 'pie': []}, batch_size)
    assert set(loaders) == {'tea'}, 'a task without validation recordings has no loader'
    batches = list(loaders['tea'])
    assert handles(batches) == handles(loaders['tea']), 'the order is fixed'
    return [[(int(times['name'][3:]), bool(times['step'])) for times in batch.times] for batch in batches]


@pytest.mark.parametrize(('val', 'train', 'batch_size', 'expected'), [
    (1, 3, 2, [[(0, True), (1, False)]]),
    (1, 3, 1, [[(0, True), (1, False)]]),
    (1, 3, 4, [[(0, True), (1, False), (2, False), (3, False)]]),
    (1, 1, 4, [[(0, True), (1, False)]]),
    (2, 1, 2, [[(0, True), (1, True)]]),
    (3, 1, 2, [[(0, True), (1, True)], [(2, True), (0, False)]]),
    (3, 1, 1, [[(0, True), (1, True)], [(2, True), (0, False)]]),
    (2, 2, 3, [[(0, True), (1, True), (2, False)]]),
    (4, 1, 3, [[(0, True), (1, True), (2, True)], [(3, True), (0, False), (1, False)]])])
def test_validation_recordings_count_once_and_are_never_alone(tmp_path, val, train, batch_size, expected):
    assert validation_batches(tmp_path, val, train, batch_size) == expected


def test_filling_recordings_have_features_but_no_times(tmp_path):
    recordings = make_recordings(tmp_path, 'tea', 2)
    batch, = make_validation_loaders({'tea': recordings[:1]}, {'tea': recordings[1:]}, 2)['tea']
    assert torch.all(batch.videos[1] == 1) and len(batch.videos[1]) == recordings[1].num_frames
    assert batch.times[1] == {'step': [], 'start_frame': [], 'end_frame': [], 'name': 'tea1', 'task': 'tea'}
    assert recordings[1].times['step'] == ['pour'], 'the training recording keeps its own'


@pytest.mark.parametrize('workers', [0, 1])
def test_reading_ahead_yields_same_batches(tasks, workers):
    merged = merge_loaders(make_train_loaders(tasks, 2, seed=0), 2, seed=0, workers=workers)
    for merged.batch_sampler.epoch in range(2):
        expected, found = epoch_of(tasks, epoch=merged.batch_sampler.epoch), list(read_ahead(merged))
        assert handles(found) == handles(expected)
        assert all(torch.equal(one, other) for left, right in zip(found, expected, strict=True)
                   for one, other in zip(left.videos, right.videos, strict=True))


class BrokenWorkers:
    """Loader that behaves as if a worker process failed; real workers would take seconds to end after that."""

    num_workers = 1

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        try:
            yield self.dataset[0]
        except UserError:
            ExceptionWrapper(where='in DataLoader worker process 0').reraise()


@pytest.mark.parametrize('workers', [0, 1])
def test_reading_ahead_passes_errors_unchanged(tasks, workers):
    path = tasks['tea'][0].path
    path.unlink()
    loader = make_train_loaders(tasks, 2, seed=0)['tea']
    with pytest.raises(UserError) as error:
        list(read_ahead(BrokenWorkers(loader.dataset) if workers else loader))
    assert str(error.value).startswith(f'{path}: no such file') and '\n' not in str(error.value)


def test_reading_ahead_can_be_stopped(tasks):
    batches = read_ahead(merge_loaders(make_train_loaders(tasks, 2, seed=0), 2, seed=0))
    next(batches)
    batches.close()
    assert list(batches) == []


@pytest.mark.parametrize('workers', [0, 1])
def test_loaders_do_not_use_global_generators(tasks, workers):
    loader = merge_loaders(make_train_loaders(tasks, 2, seed=0), 2, seed=0, workers=workers)
    validation = make_validation_loaders(tasks, tasks, 2)['tea']
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    list(read_ahead(loader)), list(validation)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
