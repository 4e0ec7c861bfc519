"""A training run from its settings to its last epoch."""

import argparse
import shlex
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

from easydict import EasyDict

from models.alignment_training_loop import alignment_training_loop
from models.build import build_model, fill_in_head, fill_in_sizes, reads_frames
from recordings.batches import make_train_loaders, make_validation_loaders
from recordings.feature_info import read_feature_info, write_feature_info
from recordings.from_config import (
    choose_splits,
    count_recordings,
    explain_unused,
    list_all_actions,
    reading_options,
    split_recordings,
)
from recordings.json_dataset import RecordingsByTask
from recordings.splits import Splits, load_run_splits
from training.distributed import SINGLE_PROCESS, World
from training.dry_run import dry_run
from training.interrupt import StopRequest, stop_on_signals
from training.report import RunReport
from training.resume import LAST_NAME
from training.standardize import fit_standardizer
from training.start_checks import warn_of_start
from training.step import freeze_encoder
from utils.ckpt_save import load_encoder_weights, to_plain
from utils.command_line import option, seed_everything
from utils.errors import UserError
from utils.files import expand_home
from utils.logging import get_logger, log_to_file
from utils.loss_entry import get_loss_function
from utils.run_folder import RunFolder, check_run_folder, create_run_folder, locked_run
from utils.standard_streams import say

LOGGER = get_logger(__name__)


def has_begun(run_path: Path) -> bool:
    """Return True if a run has completed an epoch, so that it can be resumed."""
    return (RunFolder(run_path).checkpoints / LAST_NAME).exists()


def check_start(run_path: Path, arguments: argparse.Namespace) -> None:
    """Check, before data are read, that a run can start or resume in a folder.

    Raises:
        UserError: the run cannot start or resume there.
    """
    if not arguments.resume:
        check_run_folder(run_path, overwrite=arguments.overwrite)
    elif not has_begun(run_path):
        raise UserError(f'--resume: {RunFolder(run_path).checkpoints / LAST_NAME} does not exist; start the run '
                        'without --resume')
    else:
        with locked_run(run_path):
            pass


def check_init_from(config: EasyDict, run_path: Path, arguments: argparse.Namespace) -> None:
    """Check that INIT_FROM is not about to be replaced.

    Raises:
        UserError: INIT_FROM is in the folder that --overwrite replaces.
    """
    source = expand_home(Path(config.INIT_FROM or ''), '--init_from ').resolve()
    replaced = run_path.resolve()
    if arguments.overwrite and config.INIT_FROM and replaced in (source, *source.parents):
        raise UserError(f'--init_from {config.INIT_FROM}: is in {run_path}, which --overwrite replaces; give another '
                        'VERSION or --message')


def choose_run_splits(config: EasyDict, recordings: RecordingsByTask, arguments: argparse.Namespace, stored: Path,
                      trainable: Callable[[Splits], Splits] = lambda splits: splits) -> Splits:
    """Return the split of a run: the ``stored`` split if the run resumes, otherwise from --splits or TRAIN_SPLIT.

    Args:
        config: configuration of the run.
        recordings: the dataset.
        arguments: arguments of the command line: resume, splits.
        stored: file with the split of the run.
        trainable: removes tasks and recordings that are not trained on.

    Raises:
        UserError: the split does not fit the dataset, or differs from the split of the resumed run.
    """
    if not arguments.resume:
        with option('--splits') if arguments.splits else nullcontext():
            return trainable(choose_splits(config, recordings, arguments.splits, frames=reads_frames(config)))
    # --splits may be repeated next to --resume, but must not change the split.
    kept = load_run_splits(stored)
    if arguments.splits and trainable(choose_splits(config, recordings, arguments.splits,
                                                    frames=reads_frames(config))).as_json() != kept.as_json():
        raise UserError(f'--splits {arguments.splits}: differs from the split of the run, {stored}, which --resume '
                        'keeps; leave --splits out')
    return kept


def train_run(config: EasyDict, run_path: Path, recordings: RecordingsByTask, splits: Splits,
              arguments: argparse.Namespace, world: World = SINGLE_PROCESS, stop: StopRequest | None = None,
              before_writing: Callable[[], object] | None = None) -> None:
    """Train one model on the tasks of a split.

    Args:
        config: configuration of the run; settings that depend on the data are filled in.
        run_path: folder of the run.
        recordings: the dataset.
        splits: splits of the tasks to train on.
        arguments: arguments of the command line: resume, overwrite, dry_run.
        world: processes of the run; the first process writes the files.
        stop: request to stop that is checked between steps; if None, signals set it.
        before_writing: called by the writing process after all checks, right before the run folder is created.

    Raises:
        UserError: options, data or the run folder are invalid; raised before the run folder is created if possible.
        StoppedError: a signal asked the run to stop.
    """
    parts = split_recordings(recordings, splits)
    reading = reading_options(config, recordings, frames=reads_frames(config))
    train_loaders = make_train_loaders(parts['train'], config.BATCH_SIZE, seed=config.SEED, **reading)
    # Training recordings fill up validation batches, because a single recording cannot be aligned.
    val_loaders = make_validation_loaders(parts['val'], parts['train'], config.BATCH_SIZE, **reading)

    first = next(iter(parts['train'].values()))[0]  # all files have the same dimensions
    config.DATAFOLDER = str(first.path.parent)
    fill_in_sizes(config, first.width, len(splits))
    fill_in_head(config, list_all_actions(parts['train']))
    if config.PROGRESS_LOSS.enabled:
        _warn_without_validation_actions(parts['val'])
    # Right before the model is built, so that its first weights depend on the seed alone, not on how data were read.
    seed_everything(config.SEED)
    model = build_model(config, copies=4)  # weights, gradients, and Adam's two moments
    if not arguments.resume:  # else ckpt/last.pt has it
        fit_standardizer(model, [loader.dataset for loader in train_loaders.values()])
    if config.INIT_FROM and not arguments.resume:
        with option('--init_from'):
            LOGGER.info('encoder and heads start from %s', load_encoder_weights(model, config.INIT_FROM))
    if config.FREEZE_ENCODER:
        freeze_encoder(model)
    loss_fn = get_loss_function(config, config.NUM_EPOCHS)
    if world.first and not arguments.resume:
        warn_of_start(model, loss_fn, train_loaders, val_loaders, config, world.device)
    # After all checks of settings and data, before anything is written.
    if arguments.dry_run:
        if world.first:
            say(dry_run(model, loss_fn, train_loaders, val_loaders, config, world.device))
        return

    # Settings and data have been checked: from here on, files are written.
    with ExitStack() as locks:
        if world.first:
            _open_folder(run_path, config, splits, arguments, locks, before_writing)
        LOGGER.info('%s: %d train, %d val, %d test recordings of %d task%s; %d parameters; on %s%s',
                    config.EXPERIMENTNAME, *count_recordings(parts), len(splits), 's' if len(splits) > 1 else '',
                    sum(weight.numel() for weight in model.parameters()), world, ', in bf16' if config.AMP else '')
        report = RunReport([recording.handle for members in parts['train'].values() for recording in members],
                           explain_unused(config, recordings, parts))
        # singletask_train.py passes its own request, which ends all of its runs.
        stop = locks.enter_context(nullcontext(stop) if stop else
                                   stop_on_signals(StopRequest(world.largest, announce=world.first)))
        alignment_training_loop(model, train_loaders, loss_fn, run_path, config, val_loaders,
                                device=world.device, resume=arguments.resume, stop=stop, report=report,
                                world=world)
    LOGGER.info('done; evaluate it with: python eval.py -f %s', shlex.quote(str(run_path)))


def _open_folder(run_path: Path, config: EasyDict, splits: Splits, arguments: argparse.Namespace, locks: ExitStack,
                 before_writing: Callable[[], object] | None) -> None:
    """Create the run's folder, or take that of the resumed run, lock it until ``locks`` are closed, and log to it."""
    if arguments.resume:
        locks.enter_context(locked_run(run_path))
    else:
        if before_writing:
            before_writing()
        create_run_folder(run_path, to_plain(config), splits.as_json(), overwrite=arguments.overwrite, locks=locks)
        if info := read_feature_info(Path(config.DATAFOLDER)):  # predict.py --video encodes new videos in the same way
            write_feature_info(run_path, info)
    log_to_file(RunFolder(run_path).log)


def _warn_without_validation_actions(recordings: RecordingsByTask) -> None:
    """Warn if there are validation recordings, but no action in them to measure progress on."""
    if any(recordings.values()) and not any(map(any, list_all_actions(recordings).values())):
        LOGGER.warning('the validation recordings contain no action: the training progress loss, together with the '
                       'validation alignment loss, selects the best combined checkpoint')
