"""Distributed data-parallel training: process group, collectives, loss weights, and distributed validation.

If the run was started by torchrun, every process holds the whole model and reads different batches. Gradients are
averaged so that an optimizer step equals the step that a single process would take over all of these batches.
"""

import gc
import os
import random
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from recordings.batches import Batch, make_loader, read_ahead
from utils.command_line import choose_device, seed_everything
from utils.errors import StoppedError, UserError, first_line
from utils.loss_entry import LossTerms

SEED_STEP = 7_919  # difference between the seeds of two consecutive processes
# Parts of error messages about a lost process; gloo raises them as plain RuntimeErrors.
LOST = ('gloo', 'nccl', 'connection closed', 'connection reset', 'broken pipe')
GRACE = 0.2  # seconds for gloo's threads to free what they hold


@dataclass(frozen=True)
class World:
    """The processes of a run, as seen from the current process.

    Attributes:
        rank: rank of this process.
        count: number of processes.
        per_node: number of processes on this machine.
        device: device of this process; None if unknown.
    """

    rank: int = 0
    count: int = 1
    per_node: int = 1
    device: torch.device | None = None

    def __str__(self) -> str:
        return f'{self.device}' + (f', one of {self.count} processes' if self.count > 1 else '')

    @property
    def first(self) -> bool:
        """True if this is the process that logs and writes files."""
        return self.rank == 0

    @property
    def launcher(self) -> list[str]:
        """The command that starts the same number of processes."""
        nodes = [f'--nnodes={self.count // self.per_node}'] if self.count > self.per_node else []
        return ['torchrun', *nodes, f'--nproc_per_node={self.per_node}'] if self.count > 1 else ['python']

    def all_gather(self, value: object) -> list:
        """Return the values of all processes, by rank; all processes must call this."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def largest(self, number: int) -> int:
        """Return the largest number over all processes; all processes must call this."""
        if self.count == 1:
            return number
        shared = torch.tensor(number, device=self.device)  # NCCL reduces tensors on the GPU only
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def sums(self, numbers: list[int]) -> list[int]:
        """Return the sum of each number over all processes; all processes must call this."""
        shared = torch.tensor(numbers, device=self.device)
        dist.all_reduce(shared)
        return shared.tolist()

    def seed(self, seed: int) -> None:
        """Seed every process except the first differently; the first keeps its random state."""
        if not self.first:
            # Different draws per process, because each has other batches; the first draws as a single process would.
            seed_everything(seed + SEED_STEP * self.rank)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its backward pass averages gradients over the processes."""
        if self.count == 1 or not any(weight.requires_grad for weight in module.parameters()):
            return module
        # Which weights an optimizer step uses depends on the batch: a single recording has no alignment, hence does
        # not use the drop network. A weight that is never used keeps torch from warning if all other weights are used.
        module.register_parameter('never_used', nn.Parameter(torch.zeros((), device=self.device)))
        return DistributedDataParallel(module, find_unused_parameters=True)

    def copy_from_first(self, module: nn.Module) -> None:
        """Copy a module's weights and buffers from the first process; all processes must call this."""
        if self.count > 1:
            # state_dict holds the tensors themselves, so this writes into the module.
            for values in module.state_dict().values():
                dist.broadcast(values, 0)

    def weigh_loss(self, terms: LossTerms) -> tuple[Tensor, bool]:
        """Weight a loss for the common optimizer step; all processes must call this.

        A term is a mean over elements of a batch, such as segments. A single process would average over the elements
        of all batches, so a term's weight is this batch's count relative to the other processes, which may be 0.

        Args:
            terms: loss terms of this process's batch.

        Returns:
            The loss whose gradient, averaged over the processes, equals the gradient of a single process over all
            batches; and True if the loss of every process is finite.
        """
        total, alignment = terms['total_loss'], terms['alignment_loss']
        own = [terms.counts.get(name, 0) for name in ('alignment_loss', 'progress_loss')]
        # A single collective for counts and finiteness, so that all processes take or skip the step together.
        *sums, broken = self.sums([*own, int(not torch.isfinite(total))])
        # Backward averages gradients over the P processes: with w_p = P n_p / N, the mean over p of w_p g_p is the
        # sum of n_p g_p / N: the gradient of the mean over all N elements. If N is 0, the term is a zero everywhere.
        weights = [self.count * here / everywhere if everywhere else 1.0
                   for here, everywhere in zip(own, sums, strict=True)]
        # total - alignment is lambda * progress.
        return weights[0] * alignment + weights[1] * (total - alignment), not broken


SINGLE_PROCESS = World()


@contextmanager
def join_processes(device: str) -> Iterator[World]:
    """Join the process group if torchrun started the run; otherwise use this process only.

    Args:
        device: the setting DEVICE.

    Raises:
        UserError: the device does not exist, or another process is lost.
    """
    # WORLD_SIZE alone does not tell: cluster schedulers set it, too.
    if int(os.environ.get('WORLD_SIZE', 1)) == 1 or not dist.is_torchelastic_launched():
        yield World(device=choose_device(device))
        return
    rank, count, local = (int(os.environ[name]) for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'))
    own = choose_device(device_of_process(device, local))
    if own.type == 'cuda':
        # Gathering objects goes through the current GPU, which would be the first one in every process.
        torch.cuda.set_device(own)
    try:
        dist.init_process_group('nccl' if own.type == 'cuda' else 'gloo')
        yield World(rank, count, int(os.environ['LOCAL_WORLD_SIZE']), own)
    except StoppedError as stop:  # all processes stop after the same step
        traceback.clear_frames(stop.__traceback__)  # they hold the wrapped model
        _leave()
        raise
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or any(part in str(error).lower() for part in LOST)):
            raise
        raise UserError(f'process {rank} of {count}: another process is lost ({first_line(error):.120}); see its own '
                        'message above or below for the cause, then resume the run') from error
    _leave()


def _leave() -> None:
    """Leave the process group; gloo may abort a process in which a wrapped model outlives the group."""
    gc.collect()
    # The threads of gloo free the tensors of work that is done, for which they need Python's lock. This thread holds it
    # while the group is destroyed, and waits for them: without a pause before, possibly forever.
    time.sleep(GRACE)
    dist.destroy_process_group()


def device_of_process(name: str, local_rank: int) -> str:
    """Return the device of a process of this machine.

    Args:
        name: the setting DEVICE.
        local_rank: rank of the process on this machine.

    Raises:
        UserError: the setting names a single GPU for all processes.
    """
    if ':' in name:
        raise UserError(f'{name}: one device for several processes; expected auto, cuda or cpu under '
                        'torchrun, where each process takes its own GPU')
    cuda = name == 'cuda' or (name == 'auto' and torch.cuda.is_available())
    return f'cuda:{local_rank}' if cuda else name


class SharedValidation:
    """Distributes validation batches over the processes, with the random draws of a single-process validation.

    The random state at a batch depends on the lengths of all batches before it. In the first pass, every process reads
    all batches and stores these states; in later passes, each process reads only its own batches.

    Args:
        world: the processes of the run.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._states: list[tuple[tuple, Tensor]] = []

    def batches(self, loaders: Mapping[str, DataLoader]) -> Iterator[Batch]:
        """Yield batches, with the generators of ``random`` and torch set for each batch."""
        if self.world.count == 1:
            yield from (batch for loader in loaders.values() for batch in read_ahead(loader))
        elif not self._states:
            for batch in (batch for loader in loaders.values() for batch in read_ahead(loader)):
                # The states before the batch is used. In this pass no process skips a batch, so they equal a single
                # process's.
                self._states.append((random.getstate(), torch.get_rng_state()))
                yield batch
        else:
            yield from self._own_batches(loaders)

    def _own_batches(self, loaders: Mapping[str, DataLoader]) -> Iterator[Batch]:
        start = 0
        for loader in loaders.values():
            indices = list(loader.batch_sampler)
            # Batches are numbered across tasks and dealt out in turn.
            numbers = [number for number in range(start, start + len(indices))
                       if number % self.world.count == self.world.rank]
            own = make_loader(loader.dataset, [indices[number - start] for number in numbers])
            for number, batch in zip(numbers, read_ahead(own), strict=True):
                python_state, torch_state = self._states[number]
                random.setstate(python_state)
                torch.set_rng_state(torch_state)
                yield batch
            start += len(indices)
