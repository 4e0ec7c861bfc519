"""State of a training run: a single object that the stages of an epoch read and update."""

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader

from recordings.batches import merge_loaders
from training.distributed import SINGLE_PROCESS, SharedValidation, World
from training.interrupt import StopRequest
from training.monitor import Monitor
from training.report import RunReport
from training.resume import LAST_NAME, RunState, resume_run
from training.step import LossModule, build_optimizer
from utils.loss_entry import LossTerms
from utils.run_folder import RunFolder


@dataclass(eq=False)
class Trainer:
    """State of a run; the constructor moves the model to its device and, if ``resume``, loads ``ckpt/last.pt``.

    Attributes:
        model: network; takes a list of videos, returns a dict with 'outputs'.
        loss_fn: from ``get_loss_function``.
        config: CONFIG of the run.
        folder: folder of the run.
        train_loaders: task -> loader of its training recordings.
        val_loaders: task -> loader of its validation recordings, in a fixed order.
        device: device to compute on.
        world: processes of the run.
        stop: request to stop, checked after each optimizer step and before each epoch.
        optimizer: optimizer with the encoder and the progress head as parameter groups.
        state: epochs done, history, best losses, and step counts; stored in ``ckpt/last.pt``.
        module: model and loss, wrapped if the run has several processes.
        loader: batches of this process, from all tasks shuffled together.
        shared_validation: distributes the validation batches over the processes.
        monitor: monitors the run.

    Raises:
        UserError: ``ckpt/last.pt`` cannot be read or was written under other settings, or the folder is not writable.
    """

    model: nn.Module
    loss_fn: Callable[..., LossTerms]
    config: Mapping
    folder: RunFolder
    train_loaders: Mapping[str, DataLoader]
    val_loaders: Mapping[str, DataLoader] = field(default_factory=dict)
    device: torch.device | str = 'cpu'
    world: World = SINGLE_PROCESS
    stop: StopRequest = field(default_factory=StopRequest)
    resume: InitVar[bool] = False
    report: InitVar[RunReport | None] = None
    optimizer: torch.optim.Optimizer = field(init=False)
    state: RunState = field(init=False)
    module: nn.Module = field(init=False)
    loader: DataLoader = field(init=False)
    shared_validation: SharedValidation = field(init=False)
    monitor: Monitor = field(init=False)

    def __post_init__(self, resume: bool, report: RunReport | None) -> None:
        config, world = self.config, self.world
        # First to the device: the optimizer and its loaded state refer to the weights there.
        self.model.to(self.device)
        self.optimizer = build_optimizer(self.model, config.LEARNING_RATE, config.PROGRESS_LOSS.head_learning_rate,
                                         config.WEIGHT_DECAY)
        if resume:
            self.state = resume_run(self.folder.checkpoints / LAST_NAME, self.model, self.optimizer, config,
                                    self.device, world)
        else:
            self.state = RunState()
            # A resumed run restores the generators instead.
            world.seed(config.SEED)
        # Only the module is wrapped. Checkpoints are written from the model, whose names have no prefix.
        self.module = world.wrap(LossModule(self.model, self.loss_fn, amp=config.AMP))
        self.loader = merge_loaders(self.train_loaders, config.BATCH_SIZE, seed=config.SEED, workers=config.WORKERS,
                                    rank=world.rank, processes=world.count)
        self.shared_validation = SharedValidation(world)
        self.monitor = Monitor(config, self.state, folder=self.folder.path, report=report, world=world)
