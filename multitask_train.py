"""Train one model over all tasks of a dataset: python multitask_train.py VERSION --gtcc --ego --tstack --mcn."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from easydict import EasyDict

from configs.entry_config import parse_training_arguments
from configs.paths import environment_path
from configs.sources import describe_config
from datasets.from_config import (
    choose_splits,
    count_recordings,
    list_all_actions,
    load_dataset,
    reading_options,
    split_recordings,
)
from datasets.json_dataset import make_train_loaders, make_validation_loaders
from datasets.unused import explain_unused
from models.alignment_training_loop import alignment_training_loop
from models.build import build_model, fill_in_sizes, fill_in_steps
from training.distributed import ALONE, Processes, join_processes
from training.dry_run import dry_run
from training.interrupt import StopRequest, command_to_go_on, stop_on_signals
from training.report import RunReport
from training.resume import LAST_NAME
from training.step import freeze_encoder
from utils.ckpt_save import load_encoder_weights, to_plain
from utils.command_line import run_command, seed_everything
from utils.errors import StoppedError, UserError
from utils.logging import get_logger, log_to_file, set_up_logging
from utils.loss_entry import get_loss_function
from utils.run_folder import MULTI_TASK, RunFolder, check_run_folder, create_run_folder

LOGGER = get_logger('multitask_train')


def run_folder_of(config: EasyDict) -> Path:
    """Return where a run of the configuration goes."""
    return environment_path('OUTPUT_PATH') / MULTI_TASK / config.EXPERIMENTNAME


def train(config: EasyDict, arguments: argparse.Namespace, processes: Processes = ALONE) -> None:
    """Load, build, train.

    Args:
        config: of the run.
        arguments: of the command line.
        processes: of the run; the first one writes the files.

    Raises:
        UserError: any mistake in options, data or the run folder; found before the run folder is made where it can be.
        StoppedError: a signal asked the run to stop.
    """
    run_path = run_folder_of(config)
    if arguments.resume and not (run_path / 'ckpt' / LAST_NAME).exists():
        raise UserError(f'--resume: {run_path / "ckpt" / LAST_NAME} does not exist; start the run without --resume')
    if arguments.resume and arguments.splits:
        raise UserError('--splits: not with --resume, which keeps the split of the run; leave it out')
    if not arguments.resume and processes.first:
        check_run_folder(run_path, overwrite=arguments.overwrite)
    recordings = load_dataset(config)
    stored_splits = run_path / 'splits.json' if arguments.resume else None
    splits = choose_splits(config, recordings, arguments.splits or stored_splits)
    parts = split_recordings(recordings, splits)
    reading = reading_options(config, recordings)
    train_loaders = make_train_loaders(parts['train'], config.BATCH_SIZE, seed=config.SEED, **reading)
    val_loaders = make_validation_loaders(parts['val'], parts['train'], config.BATCH_SIZE, **reading)

    first = next(iter(parts['train'].values()))[0]
    config.DATAFOLDER = str(first.path.parent)
    fill_in_sizes(config, first.width, len(splits))
    actions = list_all_actions(parts['train'], config.BACKGROUND_LABELS)
    fill_in_steps(config, actions)
    seed_everything(config.SEED)
    model = build_model(config)
    if config.PROGRESS_LOSS.enabled and config.PROGRESS_LOSS.step_durations:
        model.progress_head.durations.fit(actions)
    if config.INIT_FROM and not arguments.resume:
        LOGGER.info('encoder and heads start from %s', load_encoder_weights(model, config.INIT_FROM))
    if config.FREEZE_ENCODER:
        freeze_encoder(model)
    loss_fn = get_loss_function(config, config.NUM_EPOCHS)
    if arguments.dry_run:
        if processes.first:
            print(dry_run(model, loss_fn, train_loaders, val_loaders, config, processes.device))
        return

    if processes.first:
        if not arguments.resume:
            create_run_folder(run_path, to_plain(config), splits, overwrite=arguments.overwrite)
        log_to_file(RunFolder(run_path).log)
    LOGGER.info('%s: %d train, %d val, %d test recordings of %d tasks; %d parameters; on %s', config.EXPERIMENTNAME,
                *count_recordings(parts), len(splits), sum(weight.numel() for weight in model.parameters()),
                processes)
    report = RunReport([recording.handle for members in parts['train'].values() for recording in members],
                       explain_unused(config, recordings, parts))
    with stop_on_signals(StopRequest(processes.largest, announce=processes.first)) as stop:
        alignment_training_loop(model, train_loaders, loss_fn, run_path, config, val_loaders,
                                device=processes.device, resume=arguments.resume, stop=stop, report=report,
                                processes=processes)
    LOGGER.info('done; evaluate it with: python eval.py -f %s', run_path)


def how_to_go_on(config: EasyDict, processes: Processes, argv: Sequence[str]) -> str:
    """Tell, in the first process, how the run of a command line goes on after a signal stopped it."""
    if not processes.first:
        return ''
    saved = (run_folder_of(config) / 'ckpt' / LAST_NAME).exists()
    command = command_to_go_on([*processes.launcher, Path(__file__).name], argv, saved=saved)
    return (f'interrupted; the last whole epoch is saved, go on with: {command}' if saved else
            f'interrupted before an epoch was whole; start again with: {command}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        config, arguments = parse_training_arguments(argv, Path(__file__).name)
        set_up_logging(config.DEBUG)
        if arguments.print_config:
            print(describe_config(config, arguments))
            return
        with join_processes(config.DEVICE) as processes:
            set_up_logging(config.DEBUG, quiet=not processes.first)
            try:
                train(config, arguments, processes)
            except StoppedError as stop:
                stop.args = (how_to_go_on(config, processes, sys.argv[1:] if argv is None else argv),)
                raise

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())
