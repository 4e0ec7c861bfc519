"""Command line and config file -> one checked configuration: the command line over the file over the defaults."""

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from configs.encoders import ENCODER_ENTRIES
from configs.generic_config import CONFIG
from configs.validation import SAFE_NAME, check_key, check_value, flatten
from utils.command_line import OneLineParser
from utils.errors import UserError
from utils.files import unique_keys

DATASET_FLAGS = {
    'egoprocel': ('--egoprocel', '--ego'), 'cmu': ('--cmu',), 'egtea': ('--egtea',),
    'penn-action': ('--penn_action', '--penn'), 'pouring': ('--pouring', '--pour'), 'coin': ('--coin',),
}
LOSS_FLAGS = {name: (f'--{name.lower()}', f'--{name.upper()}') for name in CONFIG.LOSS_TYPE}
ARCHITECTURE_FLAGS = {name: entry.flags for name, entry in ENCODER_ENTRIES.items()}
CHOICE_HELP = {
    'tcc': 'temporal cycle consistency', 'GTCC': 'generalised temporal cycle consistency',
    'LAV': 'soft dynamic time warping', 'VAVA': 'optimal transport that keeps the order',
    **{name: entry.help for name, entry in ENCODER_ENTRIES.items()},
}
# Settings of GTCC that were published for a dataset, where they are not the defaults.
LONG_ACTIVITY_GTCC = {'GTCC_PARAMS.delta': 0.2}
# Recordings of one short action each: few modes to align with, half a sequence as window, nothing to drop.
SHORT_ACTION_GTCC = {'GTCC_PARAMS.n_components': 5, 'GTCC_PARAMS.delta': 0.5, 'GTCC_PARAMS.gamma': 1.0}
PUBLISHED_GTCC = {**dict.fromkeys(('egoprocel', 'cmu', 'egtea'), LONG_ACTIVITY_GTCC),
                  **dict.fromkeys(('penn-action', 'pouring', 'coin'), SHORT_ACTION_GTCC)}
# Settings that are an option of their own: option -> dotted key.
VALUE_FLAGS = {
    'learning_rate': 'LEARNING_RATE', 'batch_size': 'BATCH_SIZE', 'epochs': 'NUM_EPOCHS',
    'output_dimensions': 'OUTPUT_DIMENSIONALITY', 'progress_loss': 'PROGRESS_LOSS.loss_type',
    'progress_sampling': 'PROGRESS_LOSS.sampling', 'seed': 'SEED', 'device': 'DEVICE', 'workers': 'WORKERS',
    'init_from': 'INIT_FROM', 'max_frames': 'MAX_FRAMES',
}
# Options without a value that switch a setting on: option -> dotted key.
SWITCHES = {
    'mcn': 'ARCHITECTURE.MCN', 'progress': 'PROGRESS_LOSS.enabled', 'debug': 'DEBUG',
    'detect_anomaly': 'DETECT_ANOMALY', 'freeze_encoder': 'FREEZE_ENCODER',
    'condition_on_step': 'PROGRESS_LOSS.condition_on_step', 'amp': 'AMP',
}
# Options of the progress head, of no use without it.
HEAD_OPTIONS = ('progress_loss', 'progress_sampling', 'progress_lambda', 'progress_curriculum', 'progress_pooling')
OFF_SWITCHES = {'no_tensorboard': 'TENSORBOARD'}  # and those that switch one off
Layer = tuple[str, dict[str, Any]]  # where settings come from, and the settings by their dotted keys


def training_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of ``multitask_train.py`` and its like."""
    parser = OneLineParser(prog=prog, description='Train alignment and, with --progress, a progress head. '
                                                  'Data and results lie under $DATASET_PATH, $JSON_DPATH and '
                                                  '$OUTPUT_PATH.')
    parser.add_argument('version', metavar='VERSION', help='name of the run in its folder, e.g. 1')
    _add_choices(parser, 'alignment loss (one of)', 'loss', LOSS_FLAGS)
    _add_choices(parser, 'encoder (one of)', 'architecture', ARCHITECTURE_FLAGS)
    datasets = _add_choices(parser, 'dataset (one of)', 'dataset', DATASET_FLAGS)
    datasets.add_argument('--dataset', metavar='NAME', help='any NAME with NAME.json under $JSON_DPATH')
    _add_settings(parser)
    _add_progress(parser)
    run = parser.add_argument_group('run')
    run.add_argument('--config', type=Path, metavar='FILE', help='JSON with any part of the configuration')
    run.add_argument('--set', action='append', default=[], metavar='KEY=VALUE', dest='assignments',
                     help='one setting by its dotted key; repeatable')
    run.add_argument('--splits', type=Path, metavar='FILE', help='JSON with train, val and test handles per task')
    existing = run.add_mutually_exclusive_group()
    existing.add_argument('--resume', action='store_true', help='continue a run from its ckpt/last.pt')
    existing.add_argument('--overwrite', action='store_true', help='replace an existing run folder')
    run.add_argument('--debug', action='store_true', default=None, help='verbose log')
    run.add_argument('--no_tensorboard', action='store_true', default=None, help='write no curves for TensorBoard')
    run.add_argument('--detect_anomaly', action='store_true', default=None,
                     help='end the run where a value first stops being finite, and tell where; slow')
    look = run.add_mutually_exclusive_group()
    look.add_argument('--print_config', action='store_true', help='print every setting with its source, and stop')
    look.add_argument('--dry_run', action='store_true', help='load, build, train one step on the largest batch, print '
                                                            'sizes, time and memory, and stop; writes nothing')
    return parser


def _add_choices(parser: argparse.ArgumentParser, title: str, target: str,
                 flags: dict[str, tuple[str, ...]]) -> argparse._MutuallyExclusiveGroup:
    """Add flags of which one may be given; its name lands in ``target``."""
    group = parser.add_argument_group(title).add_mutually_exclusive_group()
    for name, spellings in flags.items():
        group.add_argument(*spellings, action='store_const', const=name, dest=target, help=CHOICE_HELP.get(name))
    return group


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options for network and optimisation."""
    group = parser.add_argument_group('network and optimisation')
    group.add_argument('--mcn', action='store_true', default=None, help='multi-head cross-task network')
    group.add_argument('-lr', '--learning_rate', type=float, help=f'default {CONFIG.LEARNING_RATE}')
    group.add_argument('-bs', '--batch_size', type=int, help=f'default {CONFIG.BATCH_SIZE}')
    group.add_argument('-ep', '--epochs', type=int, help=f'default {CONFIG.NUM_EPOCHS}')
    group.add_argument('-od', '--output_dimensions', type=int, help=f'default {CONFIG.OUTPUT_DIMENSIONALITY}')
    group.add_argument('-m', '--message', help='suffix of the run folder')
    group.add_argument('--max_frames', type=int, metavar='N',
                       help='frames of a recording used at most, evenly chosen; default: all')
    group.add_argument('--seed', type=int, help=f'default {CONFIG.SEED}')
    group.add_argument('--init_from', metavar='RUN', help='start from the encoder and heads of the best alignment '
                                                       'checkpoint of a run')
    group.add_argument('--freeze_encoder', action='store_true', default=None, help='train the progress head alone')
    group.add_argument('--amp', action='store_true', default=None,
                       help='compute the network in bf16 in training: faster where the processor knows bf16')
    group.add_argument('--device', help="'auto', 'cpu', 'cuda', 'cuda:1', ...")
    group.add_argument('--workers', type=int, help='loader processes; 0 reads ahead in a thread')


def _add_progress(parser: argparse.ArgumentParser) -> None:
    """Add the options of the progress loss."""
    group = parser.add_argument_group('progress head')
    group.add_argument('--progress', action='store_true', default=None, help='train a progress head')
    group.add_argument('--progress_loss', choices=['l1', 'l2'], help='error of the predicted progress')
    group.add_argument('--progress_sampling', choices=['segment', 'prefix', 'dense'],
                       help='what the head is trained on: a stretch of an action, its beginning, or all of it')
    weight = group.add_mutually_exclusive_group()
    weight.add_argument('--progress_lambda', type=float, metavar='X', help='constant weight')
    weight.add_argument('--progress_curriculum', type=float, nargs=2, metavar=('START', 'END'),
                        help='weight that rises over the epochs')
    group.add_argument('--progress_pooling', choices=['gru', 'mean'], help='how the head reads an action')
    group.add_argument('--condition_on_step', action='store_true', default=None,
                       help="give the step label to the head; needs PROGRESS_LOSS.head 'steps'")


def build_config(arguments: argparse.Namespace) -> EasyDict:
    """Merge defaults, config file and command line into one checked configuration.

    Args:
        arguments: what ``training_parser`` returned.

    Returns:
        A configuration of its own; the defaults are left alone.

    Raises:
        UserError: an unknown key, a wrong type, a value out of range, or a choice that is missing.
    """
    config = copy.deepcopy(CONFIG)
    for _, values in settings_in_order(arguments):
        apply_settings(config, values)
    _check_choices(config)
    if not config.PROGRESS_LOSS.enabled and (idle := [f'--{option}' for option in HEAD_OPTIONS
                                                      if getattr(arguments, option) is not None]):
        raise UserError(f'{idle[0]}: there is no progress head to take it; give --progress, too')
    config.EXPERIMENTNAME = experiment_name(config, arguments.message)
    return config


def settings_in_order(arguments: argparse.Namespace) -> list[Layer]:
    """Return what a command line puts over the defaults, the later over the earlier.

    Args:
        arguments: what ``training_parser`` returned.

    Returns:
        Each source with its settings: the preset of the dataset, the config file, the options, each ``--set``.

    Raises:
        UserError: an unknown key, a wrong type, or a value out of range.
    """
    own = [(f'--config {arguments.config}', _read_config_file(arguments.config))] if arguments.config else []
    own += [*_options(arguments), *_assignments(arguments)]
    dataset = next((values['DATASET_NAME'] for _, values in reversed(own) if values.get('DATASET_NAME')), None)
    return [(f'preset of {dataset}', PUBLISHED_GTCC.get(dataset, {})), *own]


def apply_settings(config: EasyDict, values: dict[str, Any]) -> None:
    """Set dotted keys in place."""
    for key, value in values.items():
        *sections, name = key.split('.')
        target = config
        for section in sections:
            target = target[section]
        target[name] = value


def _read_config_file(path: Path) -> dict[str, Any]:
    """Read a JSON config file as checked, dotted settings."""
    defaults = flatten(CONFIG)
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'), object_pairs_hook=unique_keys(f'--config {path}'))
    except OSError as error:
        raise UserError(f'--config {path}: cannot be read ({error.strerror}); expected a JSON file') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'--config {path}: not valid JSON ({error}); expected an object such as '
                        '{"PROGRESS_LOSS": {"enabled": true}}') from error
    if not isinstance(content, dict):
        raise UserError(f'--config {path}: holds a {type(content).__name__}, expected an object of settings')
    source = f'--config {path}'
    for key in (values := flatten(content)):
        check_key(key, defaults, source)
    return {key: check_value(key, value, defaults[key], source) for key, value in values.items()}


def _options(arguments: argparse.Namespace) -> Iterator[Layer]:
    """Yield each option that was given, with the settings behind it, checked."""
    defaults = flatten(CONFIG)
    for option, values in _given_options(arguments):
        yield option, {key: check_value(key, value, defaults[key], option) for key, value in values.items()}


def _given_options(arguments: argparse.Namespace) -> Iterator[Layer]:
    """Yield each option that was given, with the settings behind it."""
    yield 'VERSION', {'VERSION': arguments.version}
    if arguments.dataset:
        yield DATASET_FLAGS.get(arguments.dataset, ['--dataset'])[0], {'DATASET_NAME': arguments.dataset}
    if arguments.loss:
        yield LOSS_FLAGS[arguments.loss][0], {f'LOSS_TYPE.{name}': name == arguments.loss for name in CONFIG.LOSS_TYPE}
    if arguments.architecture:
        yield ARCHITECTURE_FLAGS[arguments.architecture][0], {'BASEARCH.ARCHITECTURE': arguments.architecture}
    yield from ((f'--{option}', {key: True}) for option, key in SWITCHES.items() if getattr(arguments, option))
    yield from ((f'--{option}', {key: False}) for option, key in OFF_SWITCHES.items() if getattr(arguments, option))
    yield from ((f'--{option}', {key: getattr(arguments, option)}) for option, key in VALUE_FLAGS.items()
                if getattr(arguments, option) is not None)
    yield from _progress_weight(arguments)
    if arguments.progress_pooling:
        yield '--progress_pooling', {'PROGRESS_LOSS.use_gru': arguments.progress_pooling == 'gru'}


def _progress_weight(arguments: argparse.Namespace) -> Iterator[Layer]:
    """Yield the settings behind --progress_lambda or --progress_curriculum."""
    curriculum = 'PROGRESS_LOSS.lambda_curriculum'
    if arguments.progress_lambda is not None:
        yield '--progress_lambda', {'PROGRESS_LOSS.coefficient': arguments.progress_lambda,
                                    f'{curriculum}.enabled': False}
    if arguments.progress_curriculum is not None:
        start, end = arguments.progress_curriculum
        yield '--progress_curriculum', {f'{curriculum}.enabled': True, f'{curriculum}.start': start,
                                        f'{curriculum}.end': end}


def _assignments(arguments: argparse.Namespace) -> Iterator[Layer]:
    """Yield each --set with its setting, checked."""
    defaults = flatten(CONFIG)
    for assignment in arguments.assignments:
        key, value = _parse_assignment(assignment, defaults)
        yield f'--set {assignment}', {key: value}


def _parse_assignment(assignment: str, defaults: dict[str, Any]) -> tuple[str, Any]:
    """Read one --set; the value is JSON where it parses as JSON, else text."""
    key, equals, text = assignment.partition('=')
    source = f'--set {assignment}'
    if not equals:
        raise UserError(f'{source}: expected KEY=VALUE, e.g. --set PROGRESS_LOSS.hidden_dim=32')
    check_key(key, defaults, source)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return key, check_value(key, value, defaults[key], source)


def _check_choices(config: EasyDict) -> None:
    """Refuse a configuration that leaves loss, encoder or dataset open."""
    chosen = [name for name, active in config.LOSS_TYPE.items() if active]
    if len(chosen) != 1:
        raise UserError(f'alignment loss: {" and ".join(chosen) or "none"} chosen, expected one of '
                        '--tcc --lav --vava --gtcc (or LOSS_TYPE in --config)')
    if config.BASEARCH.ARCHITECTURE is None:
        raise UserError(f'encoder: none chosen, expected one of '
                        f'{" ".join(spellings[0] for spellings in ARCHITECTURE_FLAGS.values())}')
    if config.DATASET_NAME is None:
        raise UserError(f'dataset: none chosen, expected --dataset NAME or one of '
                        f'{" ".join(spellings[0] for spellings in DATASET_FLAGS.values())}')
    if config.PROGRESS_LOSS.condition_on_step and not config.PROGRESS_LOSS.enabled:
        raise UserError('PROGRESS_LOSS.condition_on_step: there is no head to give the label to; give --progress, too')
    if config.FREEZE_ENCODER and not config.PROGRESS_LOSS.enabled:
        raise UserError('--freeze_encoder: nothing is left to train; give --progress, too')
    if not SAFE_NAME.fullmatch(config.DATASET_NAME):
        raise UserError(f'--dataset {config.DATASET_NAME!r}: expected a name of letters, digits, ".", "_" and "-"')


def experiment_name(config: EasyDict, message: str | None) -> str:
    """Return ``V<version>___<loss>_<dataset>[.<message>]``, or the name the configuration sets.

    Raises:
        UserError: the name would not be a plain folder name.
    """
    loss = next(name for name, active in config.LOSS_TYPE.items() if active)
    suffix = f'.{message}' if message else ''
    name = config.EXPERIMENTNAME or f'V{config.VERSION}___{loss}_{config.DATASET_NAME}{suffix}'
    if not SAFE_NAME.fullmatch(name):
        raise UserError(f'run folder name {name!r} (from VERSION and --message): expected letters, digits, ".", "_" '
                        'and "-", 100 at most')
    return name


def parse_training_arguments(argv: Sequence[str] | None, prog: str) -> tuple[EasyDict, argparse.Namespace]:
    """Parse a training command line.

    Args:
        argv: arguments without the program's name; None takes those of the process.
        prog: name of the program for its help.

    Returns:
        The checked configuration and the parsed arguments.

    Raises:
        UserError: see ``build_config``.
    """
    arguments = training_parser(prog).parse_args(argv)
    return build_config(arguments), arguments
