"""Mutated command lines for the fuzzer: every program, with hostile values, paths, and files.

Each program runs in this process. It must end with status 0, with 1 (only ``tools.check``, for a dataset with
problems), or with 2 and one line on standard error.
"""

import importlib
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from benchmarks.reliability.crash_commands import IMPORTED_LATE
from benchmarks.reliability.mutations import NAMES, NUMBERS, mutate_bytes, mutate_json
from configs.entry_config import parse_training_arguments
from models.build import build_model, fill_in_head, fill_in_sizes
from recordings.from_config import choose_splits, list_all_actions, load_dataset, split_recordings
from utils.ckpt_save import ckpt_save, to_plain
from utils.errors import UserError
from utils.files import write_json
from utils.run_folder import create_run_folder

NETWORK = ['--gtcc', '--naive', '--mcn', '--progress', '-od', '8', '--device', 'cpu',
           '--set', 'ARCHITECTURE.attn_layers=[8]', '--set', 'ARCHITECTURE.drop_layers=[8]',
           '--set', 'BASEARCH.NAIVE_ARCH.layers=[8]', '--set', 'TRAIN_SPLIT=[0.6,0,0.4]']
CONFIG = {'PROGRESS_LOSS': {'enabled': True, 'samples_per_video': 2}, 'BATCH_SIZE': 2, 'LEARNING_RATE': 0.001}
TABLE = 'recording,start,end,label\nt1,0,2,boil\nt1,2,6,pour\nt2,0,6,boil\nt3,1,6,pour\n'
SEGMENTS = 'start,end,label\n0,2,boil\n2,6,pour\n'
# Program -> a valid command line; {d} is the folder of the dataset, {o} an empty one.
PROGRAMS: Mapping[str, Sequence[str]] = {
    'multitask_train': ['1', '--dataset', 'set', *NETWORK, '--config', '{d}/config.json', '--splits', '{d}/splits.json',
                        '-ep', '1', '-lr', '0.001', '--workers', '0', '--seed', '3', '--print_config'],
    'singletask_train': ['1', '--dataset', 'set', *NETWORK, '--splits', '{d}/splits.json', '--progress_curriculum',
                         '0.1', '0.5', '--max_frames', '5', '--print_config'],
    'eval': ['-f', '{d}/run', '--checkpoint_type', 'combined', '--device', 'cpu'],
    'predict': ['-f', '{d}/run', '--features', '{d}/features/t1.npy', '--task', 'tea', '--fps', '4', '--format',
                'jsonl', '--device', 'cpu', '-o', '{o}/out'],
    'predict segments': ['-f', '{d}/run', '--features', '{d}/features/t1.npy', '--segments', '{d}/segments.csv',
                         '--task', 'tea', '--unit', 'frames', '--device', 'cpu', '-o', '{o}/out', '--overwrite'],
    'tools.import_segments': ['new', '{d}/table.csv', '--features', '{d}/features', '--unit', 'frames', '--layout',
                              'TD', '--sample_rate', '1', '--labels_per_feature', '1', '--max_mismatch', '10',
                              '--skip_missing'],
    'tools.check': ['set', '--splits', '{d}/splits.json', '--time_scale', '1', '--background', '0'],
    'tools.demo': ['{o}/demo', '--name', 'demo', '--seed', '1', '--people', '4', '--repetitions', '1', '--width', '6'],
    'tools.extract': ['{d}/features/t1.npy', 'new', '--fps', '4', '--batch_size', '2', '--workers', '0', '--device',
                      'cpu', '--shard', '1/1'],
    'tools.convert_checkpoint': ['{d}/run/ckpt/best_model_combined.pt', '--run', '{o}/run', '--dataset', 'set',
                                 '--splits', '{d}/splits.json'],
    'align': ['{d}/features/t1.npy', '{d}/features/t2.npy', '-f', '{d}/run', '--reference', 't1', '--labels',
              '{d}/segments.csv', '--task', 'tea', '--unit', 'frames', '--device', 'cpu', '-o', '{o}/aligned'],
    'tools.export': ['{d}/run', '{o}/export', '--task', 'tea', '--checkpoint_type', 'combined'],
}
MUTATED_FILES = ('config.json', 'splits.json', 'set.json', 'table.csv', 'segments.csv', 'run/splits.json',
                 'run/config.json', 'run/ckpt/best_model_combined.pt')
PATHS = ('{d}', '{d}/features', '{d}/config.json', '{d}/nowhere/x', '/dev/null', '/proc/self/mem', '/proc/1/root/x',
         '{o}', '{d}/' + 'x' * 300, '{d}/gr\udcf6sse.npy', '{d}/link', '{d}/closed')
VALUES = ('', '1e999999999', '1e5000', '9' * 5000, '-1', '0', '1/0', '1/1' * 200, '00:00:01', 'inf', '1_000',
          '\u0661', 'A=1', 'PROGRESS_LOSS=1', 'A.b.c={"x": NaN}', 'SEED=' + '9' * 5000, 'BATCH_SIZE=[[1]]',
          'GROUP_REGEX=(a+)+$', '(')
OPTIONS = ('--help', '--overwrite', '--resume', '--dry_run', '--set', '--config', '--progress', '--report', '--frames',
           '--unit', '--fps', '--task', '-o', '--no_such', '--mcn', '--ego', '--tcc', '--skip_bad', '--video')


class WrongEndError(Exception):
    """A program ended with another status, or with other than one line on standard error."""


def write_world(folder: Path) -> None:
    """Write what the valid command lines read, next to the dataset of ``fuzz_loaders``: a run and tables."""
    if (folder / 'run').exists():
        return
    for module in (*IMPORTED_LATE, *{name.split()[0] for name in PROGRAMS}):  # which takes seconds
        importlib.import_module(module)
    write_json(folder / 'config.json', CONFIG)
    (folder / 'table.csv').write_text(TABLE)
    (folder / 'segments.csv').write_text(SEGMENTS)
    (folder / 'link').symlink_to(folder / 'link')  # of itself
    (folder / 'closed').mkdir(mode=0)
    with _environment(folder, folder):
        config, _ = parse_training_arguments(['1', '--dataset', 'set', *NETWORK], 'fuzz')
        recordings = load_dataset(config)
        splits = choose_splits(config, recordings, folder / 'splits.json')
        train = split_recordings(recordings, splits)['train']
        fill_in_sizes(config, next(iter(train.values()))[0].width, len(splits))
        fill_in_head(config, list_all_actions(train))
        model = build_model(config)
        run = create_run_folder(folder / 'run', to_plain(config), splits.as_json(), overwrite=False)
        ckpt_save(model, torch.optim.Adam(model.parameters()), 1, 0.5, run.checkpoints / 'best_model_combined.pt',
                  config)


def draw_case(folder: Path, out: Path, draw: random.Random) -> tuple[str, list[str]]:
    """Return a program and its arguments, after damaging one of the files in some cases."""
    name = draw.choice(tuple(PROGRAMS))
    arguments = list(PROGRAMS[name])
    if draw.random() < 0.35:
        _damage(folder / draw.choice(MUTATED_FILES), draw)
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        _mutate(arguments, draw)
    # Training itself is not what is tested here: it ends after its settings are known.
    if name.endswith('_train') and '--print_config' not in arguments:
        arguments.append('--print_config')
    return name.split()[0], [argument.replace('{d}', str(folder)).replace('{o}', str(out)) for argument in arguments]


def _mutate(arguments: list[str], draw: random.Random) -> None:
    """Change an argument, in place."""
    place = draw.randrange(len(arguments)) if arguments else 0
    match draw.randrange(6):
        case 0 | 1 | 2 if arguments:
            arguments[place] = _hostile(draw)
        case 3 if arguments:
            del arguments[place]
        case 4 if arguments:
            arguments.insert(place, arguments[draw.randrange(len(arguments))])
        case _:
            arguments[place:place] = [draw.choice(OPTIONS), *([_hostile(draw)] if draw.random() < 0.5 else [])]


def _hostile(draw: random.Random) -> str:
    kind = draw.choice((NAMES, NUMBERS, PATHS, VALUES))
    value = draw.choice(kind)
    try:
        return str(value).replace('\0', '')  # no argument of a process contains a NUL
    except ValueError:  # Python refuses to print numbers of many digits
        return '9' * 5000


def _damage(path: Path, draw: random.Random) -> None:
    """Replace a file by a mutated one; :func:`restored` puts it back."""
    content = path.read_bytes()
    shutil.copy(path, path.with_name(f'{path.name}.whole'))
    path.unlink()
    if path.name == 'config.json' and path.parent.name != 'run':
        path.write_bytes(mutate_json(CONFIG, draw))
    else:
        path.write_bytes(mutate_bytes(content, draw))


@contextmanager
def restored(folder: Path, out: Path) -> Iterator[None]:
    """Put damaged files back, and empty the folder of results, at the end of the block."""
    try:
        yield
    finally:
        for name in MUTATED_FILES:
            whole = folder / f'{name}.whole'
            if whole.exists():
                whole.replace(folder / name)
        shutil.rmtree(out, ignore_errors=True)
        for left in (folder / 'new', folder / 'run/EVAL'):
            shutil.rmtree(left, ignore_errors=True)
        for left in folder.glob('new*.json'):
            left.unlink()


@contextmanager
def _environment(folder: Path, out: Path) -> Iterator[None]:
    """Set the environment variables of the project: the dataset set has its features in {d}/features."""
    (folder / 'data').mkdir(exist_ok=True)
    if not (folder / 'data/set').exists():
        (folder / 'data/set').symlink_to(folder)
    names = {'DATASET_PATH': folder / 'data', 'JSON_DPATH': folder, 'OUTPUT_PATH': out}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(path) for name, path in names.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def run_command_line(folder: Path, draw: random.Random) -> None:
    """Run a mutated command line.

    Args:
        folder: folder with the files of :func:`write_world` and ``fuzz_loaders.write_dataset``.
        draw: random generator.

    Raises:
        UserError: the program refused it, in one line.
        WrongEndError: the program ended in another way.
    """
    out = folder / 'out'
    out.mkdir(exist_ok=True)
    # Results with a relative path are in the folder that is removed.
    with restored(folder, out), _environment(folder, out), chdir(out):
        program, arguments = draw_case(folder, out, draw)
        status, errors = _call(importlib.import_module(program).main, arguments)
        lines = [line for line in errors.splitlines() if line.startswith('error: ')]
        if status == 2 and len(lines) == 1:
            raise UserError(lines[0])
        if lines or status not in ((0, 1) if program == 'tools.check' else (0,)):
            raise WrongEndError(f'{program} {" ".join(arguments)[-300:]!a}: status {status}, errors {errors[:200]!r}')


def _call(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> tuple[int, str]:
    """Call a program in this process; return its status and what it printed on standard error."""
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        try:
            status = main(arguments)
        except SystemExit as left:  # after --help
            status = left.code or 0
    return status, errors.getvalue()
