"""A trained run for prediction: its model, and checks of features, tasks, and labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from easydict import EasyDict

from models.build import input_width
from models.heads.base import ProgressHeadBase
from models.model_multiprong import ProgressModel
from recordings.feature_files import AXES
from recordings.feature_info import FeatureInfo, read_feature_info
from recordings.splits import load_run_splits
from utils.ckpt_save import find_checkpoint, load_model
from utils.command_line import choose_device
from utils.errors import UserError
from utils.logging import get_logger
from utils.run_folder import open_run_folder

LOGGER = get_logger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A checkpoint of a run, usually with a progress head.

    Attributes:
        name: name of the run folder.
        checkpoint: name of the checkpoint without '.pt'.
        epoch: epoch after which it was saved.
        model: model in eval mode, on ``device``.
        config: configuration of the run.
        device: device of the model.
        tasks: tasks that the run was trained on.
        feature_info: description of the features of the run; None if unknown.
    """

    name: str
    checkpoint: str
    epoch: int
    model: ProgressModel
    config: EasyDict
    device: torch.device
    tasks: Sequence[str]
    feature_info: FeatureInfo | None = None
    _warnings: set[str] = field(default_factory=set, repr=False, compare=False)  # subjects that were warned about

    @property
    def head(self) -> ProgressHeadBase:
        """The progress head; an AttributeError if the run has none, see :func:`load_run`."""
        return self.model.progress_head

    @property
    def skip_rate(self) -> int:
        """Only every n-th frame is used, starting with the first frame."""
        rate: int = self.config.SKIP_RATE
        return rate

    @property
    def max_frames(self) -> int | None:
        """Largest number of frames that are used of a whole recording; None if there is no limit."""
        limit: int | None = self.config.MAX_FRAMES
        return limit

    @property
    def delay(self) -> int:
        """Number of frames after the current frame that its progress depends on."""
        # The encoder counts used frames, which are skip_rate feature frames apart.
        return self.model.lookahead * self.skip_rate

    @property
    def ndim(self) -> int:
        """Number of axes of a recording: 2 for features (T, D), 4 for frames (T, C, H, W)."""
        return len(self.model.base_model.input_axes)

    def is_background(self, label: str | None) -> bool:
        """Return True if segments with this label are background, not actions; compared without case."""
        return label is not None and label.casefold() in {name.casefold() for name in self.config.BACKGROUND_LABELS}

    def check_shape(self, shape: Sequence[int], where: str) -> None:
        """Check that features have the shape that the run was trained on.

        Args:
            shape: shape of a recording, (T, D) or (T, C, H, W).
            where: name of the recording, for the message.

        Raises:
            UserError: the number of axes or of channels differs, or there is no frame.
        """
        width = input_width(self.config)
        # Transposed, unless the shape fits both ways.
        if self.ndim == len(shape) == 2 and shape[0] == width != shape[1]:
            raise UserError(f'{where}: shape {tuple(shape)} looks like (D, T), expected (T, D) with D = {width}, as in '
                            'training; save the transposed array')
        if len(shape) != self.ndim or shape[1] != width or 0 in shape:
            raise UserError(f'{where}: shape {tuple(shape)}, expected {AXES[self.ndim]} with at least one frame and '
                            f'{AXES[self.ndim][4]} = {width}, as in training; extract these features with the same '
                            'network')

    def check_task(self, task: str | None) -> str | None:
        """Return the given task of a recording, or the only task of the run if no task is given.

        Raises:
            UserError: the run does not know the task, or no task is given although the head requires it.
        """
        if task is not None and task not in self.tasks:
            raise UserError(f'{task!r}: not a task of the run, expected one of {", ".join(self.tasks)}')
        if task is None and len(self.tasks) == 1:
            return self.tasks[0]
        try:
            warning = self.head.check_task(task)
        except UserError as error:
            raise UserError(f'no task given: {error}') from error
        if warning:
            self.warn_once('task', f'no task given: {warning}')
        return task

    def check_label(self, task: str | None, label: str | None, where: str) -> None:
        """Check an action's label; warn about unknown labels.

        Args:
            task: task of the recording, if known.
            label: label of the action; None if the action is unlabeled.
            where: place of the label, for the message.

        Raises:
            UserError: the label is missing, but the head requires it.
        """
        try:
            warning = self.head.check_label(task, label)
        except UserError as error:
            raise UserError(f'{where}: {error}') from error
        if warning:
            self.warn_once(f'label {label}', f'{where}: {warning}')

    def warn_once(self, subject: str, message: str) -> None:
        """Log a warning unless a warning on the same subject was logged before."""
        if subject not in self._warnings:
            self._warnings.add(subject)
            LOGGER.warning(message)


def load_run(folder: Path | str, checkpoint_type: str = 'combined', device: str | torch.device = 'auto', *,
             needs_head: bool = True) -> TrainedRun:
    """Load the best checkpoint of a run.

    Args:
        folder: run folder, as printed by training.
        checkpoint_type: 'combined' (lowest total loss) or 'alignment' (lowest alignment loss).
        device: 'auto', 'cpu', 'cuda', 'cuda:1', ...
        needs_head: refuse a run without a progress head; False for uses that only need its embeddings.

    Raises:
        UserError: the run does not exist, contains no checkpoint, or has no progress head although it is needed.
    """
    run = open_run_folder(Path(folder))
    try:
        path = find_checkpoint(run.path, checkpoint_type)
    except FileNotFoundError as error:
        raise UserError(f'{folder}: {error}; train at least one epoch') from error
    chosen = choose_device(device)
    model, config, checkpoint = load_model(path, chosen)
    enabled = config.PROGRESS_LOSS.enabled
    if needs_head and not enabled:
        raise UserError(f'{folder}: this run has no progress head, expected a run trained with '
                        'PROGRESS_LOSS.enabled; train such a run')
    # A head that does not distinguish tasks leaves them to the split of the run.
    tasks = (model.progress_head.tasks if enabled else None) or load_run_splits(run.splits)
    return TrainedRun(run.path.resolve().name, path.stem, checkpoint['epoch'], model, config, chosen, sorted(tasks),
                      read_feature_info(run.path))
