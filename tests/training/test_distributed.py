"""Two processes against one: the same gradients, means and draws; and each process knows its place."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.build import build_model, fill_in_sizes
from recordings.batches import TaskBatchSampler, make_validation_loaders
from recordings.json_dataset import Recording
from tests.launch import run_processes
from training.distributed import SharedValidation, World, device_of_process, join_processes
from training.epoch import run_validation_epoch
from training.history import ComponentMeans
from training.step import LossModule
from utils.errors import UserError
from utils.loss_entry import LossTerms, get_loss_function
from utils.tensorops import Action

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 6
# Per case: the batches of the processes, as lengths of recordings; a length below 0 has no action.
CASES = {'pairs': [(20, 25), (30, 15)], 'no action in one': [(20, 25), (-30, -15)], 'no action': [(-20, 9), (-9, -9)],
         'a lone one': [(20, 25), (30,)], 'nothing left for one': [(20, 25), ()]}
# Every process goes back from its batch of each case; the first one saves the gradients.
PROGRAM = '''
import sys
import torch
from configs.generic_config import CONFIG
from tests.training.test_distributed import CASES, batch, make
from training.distributed import join_processes
with join_processes('cpu') as world:
    module = world.wrap(make())
    gradients = {}
    for case, batches in CASES.items():
        module.zero_grad(set_to_none=True)
        videos, times = batch(batches[world.rank])
        loss, finite = world.weigh_loss(module(videos, times, 0))
        loss.backward()
        gradients[case] = {name: weight.grad for name, weight in module.module.model.named_parameters()}
        assert finite
    terms = module(*batch((20, 25)), 0)
    if world.rank == 1:
        terms['total_loss'] = terms['total_loss'] * float('nan')
    assert not world.weigh_loss(terms)[1]  # both skip the step
    module(*batch((20, 25)), 0)  # and the next step still works
    assert world.all_gather(world.rank) == [0, 1] and world.largest(3 * world.rank) == 3
    head = torch.nn.BatchNorm1d(2)  # has weights and buffers of several types
    for values in head.state_dict().values():
        values.fill_(world.rank + 3)
    world.copy_from_first(head)
    assert all((values == 3).all() for values in head.state_dict().values())
    if world.first:
        torch.save(gradients, sys.argv[1])
    del module, terms, loss  # a wrapped model must not outlive the group
'''


def batch(lengths):
    """Recordings of the given lengths with their times."""
    videos, times = [], []
    for length in lengths:
        frames = abs(length)
        generator = torch.Generator().manual_seed(frames)
        videos.append(torch.randn(frames, WIDTH, generator=generator, dtype=torch.float64))
        names = ['cut', 'stir'] if length > 0 else ['0', '0']
        times.append({'step': names, 'start_frame': [1, 6], 'end_frame': [4, frames - 1], 'name': str(length)})
    return videos, times


def make():
    """A model with its loss: TCC and the progress of whole actions, which draw nothing."""
    import copy

    from configs.generic_config import CONFIG
    config = copy.deepcopy(CONFIG)
    config.LOSS_TYPE.tcc, config.BASEARCH.ARCHITECTURE, config.ARCHITECTURE.MCN = True, 'naive', True
    config.BASEARCH.NAIVE_ARCH.layers, config.OUTPUT_DIMENSIONALITY = [8], 4
    config.ARCHITECTURE.attn_layers = [8]
    config.PROGRESS_LOSS.update(enabled=True, sampling='dense', coefficient=0.7)
    fill_in_sizes(config, WIDTH, 2)
    torch.manual_seed(0)
    # In double precision, so that the order of summation, which depends on the number of threads, is of no account.
    return LossModule(build_model(config).double(), get_loss_function(config))


@pytest.fixture(scope='module')
def gradients(tmp_path_factory):
    """Gradients of two gloo processes in each case."""
    folder = tmp_path_factory.mktemp('gloo')
    (folder / 'program.py').write_text(PROGRAM)
    finished = run_processes(2, folder / 'program.py', folder / 'gradients.pt', cwd=folder)
    assert [(process.returncode, process.stderr) for process in finished] == [(0, '')] * 2
    return torch.load(folder / 'gradients.pt', weights_only=True)


@pytest.mark.parametrize('case', CASES)
def test_gradients_of_two_processes_are_those_of_one(gradients, case):
    module = make()
    batches = [batch(lengths) for lengths in CASES[case] if lengths]
    outputs = [module.model(videos) for videos, _ in batches]
    module.loss_fn(outputs, 0, times=[times for _, times in batches])['total_loss'].backward()
    expected = {name: weight.grad for name, weight in module.model.named_parameters()}
    assert set(expected) == set(gradients[case]) and any(gradient.abs().max() > 1e-3 for gradient in expected.values()
                                                         if gradient is not None)
    for name, gradient in expected.items():
        shared = gradients[case][name]
        if gradient is None or shared is None:
            assert (gradient is None or not gradient.any()) and (shared is None or not shared.any()), name
        else:
            assert (gradient - shared).abs().max() < 1e-6, name


@pytest.mark.parametrize(('tasks', 'size', 'count'), [
    ([range(7), range(7, 9), [9]], 2, 2), ([range(12)], 2, 4), ([range(3)], 2, 4), ([range(5)], 3, 1)])
def test_batches_are_shared_out_without_overlap_in_as_many_steps(tasks, size, count):
    samplers = [TaskBatchSampler(tasks, size, seed=4, rank=rank, processes=count) for rank in range(count)]
    for epoch in range(3):
        whole = TaskBatchSampler(tasks, size, seed=4)
        whole.epoch = epoch
        dealt = []
        for sampler in samplers:
            sampler.epoch = epoch
            dealt.append(list(sampler))
            assert len(dealt[-1]) == len(sampler) == -(-len(whole) // count)
        assert [own for step in zip(*dealt, strict=True) for own in step if own] == list(whole)


@pytest.fixture
def recordings(tmp_path):
    made = []
    for index in range(5):
        path = tmp_path / f'rec{index}.npy'
        np.save(path, np.random.default_rng(index).normal(size=(9 + index, WIDTH)).astype(np.float32))
        made.append(Recording('tea', f'rec{index}', path, 9 + index, WIDTH, *[(Action('cut', 0, 8),)] * 2))
    return made


def drawing_loss(output, epoch, times):
    """A loss with as many draws as there are frames, from both generators."""
    values = [embedding.mean() + torch.rand(len(embedding)).mean() + random.random() for embedding in output['outputs']]
    total = torch.stack(values).mean()
    return LossTerms({'alignment_loss': total, 'total_loss': total}, ['alignment_loss'])


class Doubled(nn.Module):
    def forward(self, videos):
        return {'outputs': [2 * video for video in videos]}


def test_shared_validation_has_the_means_of_one_process(recordings, config):
    loaders = make_validation_loaders({'tea': recordings[:4], 'pie': recordings[4:]},
                                      {'tea': recordings[4:], 'pie': recordings[:2]}, 2)
    expected = run_validation_epoch(Doubled(), loaders, drawing_loss, 0, config)['total_loss'].item()
    parts = []

    class Recorded(World):
        def all_gather(self, value):
            parts.append(value)
            return [value]

    shares = [SharedValidation(Recorded(rank, 2)) for rank in range(2)]
    for share in shares:  # the first pass is whole
        first = run_validation_epoch(Doubled(), loaders, drawing_loss, 0, config, shared=share)
        assert first['total_loss'].item() == expected
    parts.clear()
    before = random.getstate(), torch.get_rng_state()
    for share in shares:
        run_validation_epoch(Doubled(), loaders, drawing_loss, 1, config, shared=share)
    assert [counts['alignment_loss'] for _, counts, _ in parts] == [2, 1]
    merged = ComponentMeans()
    merged.merge(lambda own: parts)
    assert merged.means(0.0)['total_loss'].item() == pytest.approx(expected, abs=1e-12)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_alone_everything_is_its_own(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    with join_processes('cpu') as world:
        assert (world.rank, world.count, world.device) == (0, 1, torch.device('cpu'))
        assert world.first and world.all_gather('x') == ['x'] and world.largest(4) == 4
        module = nn.Linear(2, 2)
        assert world.wrap(module) is module and world.launcher == ['python'] and str(world) == 'cpu'


def test_the_command_that_starts_as_many_processes():
    assert World(1, 4, 4).launcher == ['torchrun', '--nproc_per_node=4']
    assert World(1, 16, 8).launcher == ['torchrun', '--nnodes=2', '--nproc_per_node=8']


def test_each_process_has_a_device_and_draws_of_its_own():
    assert device_of_process('cpu', 3) == 'cpu' and device_of_process('cuda', 3) == 'cuda:3'
    with pytest.raises(UserError, match='cuda:1: one device for several processes'):
        device_of_process('cuda:1', 0)
    draws = []
    for rank in range(3):
        torch.manual_seed(0)
        World(rank, 3).seed(0)
        draws.append(torch.rand(1).item())
    torch.manual_seed(0)
    assert draws[0] == torch.rand(1).item() and len(set(draws)) == 3
