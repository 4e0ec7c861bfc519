"""Write checkpoints of the published GTCC code as a run folder that ``eval.py`` reads."""

import argparse
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from models.build import build_model, check_input_width
from recordings.from_config import choose_splits, load_dataset
from recordings.splits import Splits
from tools.published_checkpoint import PublishedCheckpoint, configuration_of, read_published
from utils.ckpt_save import BEST_NAMES, EPOCH_NAME, OLD_BEST_NAME, ckpt_save, first_not_finite, to_plain
from utils.errors import UserError
from utils.logging import get_logger
from utils.run_folder import check_run_folder, create_run_folder

LOGGER = get_logger(__name__)
DROP_NETWORK = 'dropout.'


def convert(arguments: argparse.Namespace) -> None:
    """Read and check the checkpoints, and write the run folder.

    Raises:
        UserError: a checkpoint cannot be read or belongs to another network, or the dataset does not fit.
    """
    check_run_folder(arguments.run, overwrite=arguments.overwrite)
    for path in arguments.checkpoints:
        if arguments.run.resolve() in path.resolve().parents:
            raise UserError(f'{path}: is in {arguments.run}, which --overwrite replaces; give another --run')
    names = own_names(arguments.checkpoints)
    # All of them are read and checked before the run folder is created.
    published = [read_published(path) for path in arguments.checkpoints]
    config = configuration_of(published[0], arguments.checkpoints[0])
    config.update(EXPERIMENTNAME=arguments.run.resolve().name,
                  DATASET_NAME=arguments.dataset or config.DATASET_NAME)
    models = [build_converted(config, old, path)
              for old, path in zip(published, arguments.checkpoints, strict=True)]
    splits = _choose_splits(config, arguments.splits)
    with ExitStack() as locks:
        folder = create_run_folder(arguments.run, to_plain(config), splits.as_json(), overwrite=arguments.overwrite,
                                   locks=locks)
        for name, model, old in zip(names, models, published, strict=True):
            ckpt_save(model, torch.optim.Adam(model.parameters()), old.epoch, old.loss, folder.checkpoints / name,
                      config)
    LOGGER.info('wrote %s; evaluate it with: python eval.py -f %s', ', '.join(names), shlex.quote(str(arguments.run)))


def own_names(paths: Sequence[Path]) -> list[str]:
    """Return the file names of the converted checkpoints: unchanged if evaluation knows them, else best_model.pt.

    Raises:
        UserError: two checkpoints would get the same name.
    """
    known = (*BEST_NAMES.values(), OLD_BEST_NAME)
    names = [path.name if path.name in known or EPOCH_NAME.fullmatch(path.name) else OLD_BEST_NAME for path in paths]
    if len(set(names)) < len(names):
        raise UserError(f'{", ".join(map(str, paths))}: two would be {max(names, key=names.count)}, expected different '
                        'names such as epoch-10.pt; rename them or convert them one by one')
    return names


def build_converted(config: EasyDict, published: PublishedCheckpoint, path: Path) -> nn.Module:
    """Build the network of a published checkpoint and load its weights.

    Raises:
        UserError: the weights do not fit the network that ``config`` describes, or are not finite.
    """
    if broken := first_not_finite(published.weights):
        raise UserError(f'{path}: {broken} holds NaN or infinity, expected finite weights; choose another '
                        'checkpoint of the run')
    try:
        model = build_model(config)
    except ValueError as error:
        raise UserError(f'{path}: its weights do not fit any published network ({error}); it is damaged: choose '
                        'another checkpoint of the run') from error
    weights = dict(published.weights)
    own = {name: value for name, value in model.state_dict().items() if name.startswith(DROP_NETWORK)}
    if {name: value.shape for name, value in own.items()} != {
            name: value.shape for name, value in weights.items() if name.startswith(DROP_NETWORK)}:
        # Only GTCC training uses the drop network. In some published encoders its output is one dimension too small.
        LOGGER.warning('%s: the drop network is not converted, because it does not fit the loss or the embedding '
                       'dimension; evaluation does not use it', path)
        weights = {**{name: value for name, value in weights.items() if not name.startswith(DROP_NETWORK)}, **own}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())[:300]
        raise UserError(f'{path}: its weights do not fit any published network ({reason}); convert checkpoints of '
                        'one model, of --tstack or --naive, with or without --mcn') from error
    return model


def _choose_splits(config: EasyDict, path: Path | None) -> Splits:
    """Check the dataset and return the split of the run.

    Raises:
        UserError: the dataset is missing, or does not fit the network or the split file.
    """
    if config.DATASET_NAME is None:
        raise UserError('--dataset: not given, and the checkpoint stores no name; give the name of the dataset of the '
                        'old run')
    recordings = load_dataset(config)
    check_input_width(config, next(iter(recordings.values()))[0].width)
    if path is None:
        LOGGER.warning('no --splits: a new split is drawn, so the old run may have been trained on recordings that are '
                       'now test recordings; give its split for meaningful results')
    return choose_splits(config, recordings, path)
