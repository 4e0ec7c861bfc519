"""Load mutated files and run mutated command lines: python -m benchmarks.reliability.fuzz_loaders.

Each case must give a readable dataset, a command that ends well, or a UserError of one line, never another exception or
a hang. A case depends only on the seed and its number, so a single case can be repeated.
"""

import json
import logging
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np

from benchmarks.reliability.fuzz_commands import run_command_line, write_world
from benchmarks.reliability.mutations import mutate_json, mutate_npy
from benchmarks.speed.measure import describe_command, format_table, positive
from configs.generic_config import CONFIG
from recordings.from_config import split_recordings
from recordings.json_dataset import Recording, RecordingDataset, load_recordings
from recordings.splits import load_splits, make_splits
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError

COMMANDS = 'command lines'
MOST_SECONDS = 10  # a slower case counts as a hang
MOST_SHOWN = 10
FINDING_LETTERS = 400
FRAMES, FEATURE_DIM = 6, 4
HANDLES = {'tea': ['t1', 't2', 't3'], 'tyre.views': ['v1', 'v2']}
FRACTIONS = (0.6, 0.0, 0.4)  # of train, val and test recordings


class Hang(BaseException):
    """A case took too long. It is not an Exception, so that the loaders do not catch it."""


@dataclass
class Outcome:
    """Outcomes of the cases of one kind.

    Attributes:
        counts: 'accepted', 'refused', 'other exception' and 'hang' -> number of cases.
        slowest: seconds of the slowest case.
        findings: one line for each case with a wrong outcome.
    """

    counts: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    findings: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return fuzz_command('fuzz_loaders', 'Mutated files for the loaders, and mutated command lines.', fuzz, argv)


def fuzz_command(name: str, description: str, run: Callable[[int, Sequence[int]], dict[str, Outcome]],
                 argv: Sequence[str] | None) -> int:
    """Run the command line of a fuzzer and return its exit status: 0 if every case has an expected outcome.

    Args:
        name: name of its module in ``benchmarks.reliability``.
        description: for ``--help``.
        run: runs cases, given the seed and the numbers of the cases.
        argv: arguments.
    """
    def command() -> None:
        module = f'benchmarks.reliability.{name}'
        parser = OneLineParser(prog=f'python -m {module}', description=description)
        parser.add_argument('--cases', type=positive, default=20_000, help='default 20000')
        parser.add_argument('--seed', type=int, default=0, help='default 0')
        parser.add_argument('--first', type=int, default=0, help='number of the first case, to repeat a case')
        arguments = parser.parse_args(argv)
        logging.disable(logging.CRITICAL)
        print(f'{describe_command(module, argv)}\n', flush=True)
        started = time.monotonic()
        report(run(arguments.seed, range(arguments.first, arguments.first + arguments.cases)), started)

    return run_command(command)


def report(outcomes: Mapping[str, Outcome], started: float) -> None:
    """Print the outcomes as a table.

    Args:
        outcomes: kind of mutated input -> outcomes.
        started: time.monotonic() of the first case.

    Raises:
        UserError: the outcome of a case is neither a dataset nor a UserError of one line.
    """
    print(format_table([{'mutated': kind, 'cases': sum(outcome.counts.values()),
                         **{result: outcome.counts[result]
                            for result in ('accepted', 'refused', 'other exception', 'hang')},
                         'slowest, ms': f'{1000 * outcome.slowest:.0f}'} for kind, outcome in outcomes.items()]))
    cases = sum(outcome.counts.total() for outcome in outcomes.values())
    print(f'\n{cases} cases in {time.monotonic() - started:.0f} s.')
    findings = [finding for outcome in outcomes.values() for finding in outcome.findings]
    if findings:
        raise UserError(f'{len(findings)} cases had another outcome, among them: ' + '; '.join(findings[:MOST_SHOWN]))


def fuzz(seed: int, numbers: Sequence[int], kinds: Sequence[str] = ()) -> dict[str, Outcome]:
    """Run cases by their numbers.

    Args:
        seed: seed of the mutations.
        numbers: numbers of the cases.
        kinds: what to mutate; empty: everything.

    Returns:
        Kind of mutated file -> outcomes.
    """
    outcomes = {kind: Outcome() for kind in kinds or MUTATIONS}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # from numpy, about unusual headers that it can still parse
        folder = Path(name)
        for number in numbers:
            draw = random.Random(f'{seed}/{number}')
            kind = draw.choice(tuple(outcomes))
            write_dataset(folder)
            if kind == COMMANDS:
                write_world(folder)
                run_case(lambda chosen=draw: run_command_line(folder, chosen), outcomes[kind], number)
            else:
                MUTATIONS[kind](folder, draw)
                run_case(lambda: load_and_read(folder), outcomes[kind], number)
    return outcomes


def write_dataset(folder: Path) -> None:
    """Write a small valid dataset: a task with one list per recording, and a task with one list per camera view."""
    (folder / 'features').mkdir(exist_ok=True)
    for handle in (handle for handles in HANDLES.values() for handle in handles):
        _replace(folder / 'features' / f'{handle}.npy', lambda path: np.save(path, _features()))
    _replace(folder / 'set.json', lambda path: path.write_text(json.dumps(_annotations())))
    _replace(folder / 'splits.json', lambda path: path.write_text(json.dumps(_splits())))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a new file instead of overwriting the old file, which an earlier case may have memory-mapped."""
    path.unlink(missing_ok=True)
    write(path)


def _features() -> np.ndarray:
    return np.arange(FRAMES * FEATURE_DIM, dtype=np.float32).reshape(FRAMES, FEATURE_DIM)


def _annotations() -> dict:
    plain = {'handles': HANDLES['tea'], 'hdl_actions': [['boil', '0', 'pour']] * 3,
             'hdl_start_times': [[0, 2, 3]] * 3, 'hdl_end_times': [[2, 3, 6]] * 3}
    # Three lists of two people have to be matched with two recordings.
    views = {'handles': HANDLES['tyre.views'], 'hdl_actions': [['jack'], ['jack'], ['lower']],
             'hdl_start_times': [[0], [0], [1]], 'hdl_end_times': [[6], [6], [6]]}
    return {'tea': plain, 'tyre.views': views}


def _splits() -> dict:
    return {'splits': make_splits(HANDLES, FRACTIONS, 0)}


def _mutate_annotations(folder: Path, draw: random.Random) -> None:
    _replace(folder / 'set.json', lambda path: path.write_bytes(mutate_json(_annotations(), draw)))


def _mutate_splits(folder: Path, draw: random.Random) -> None:
    _replace(folder / 'splits.json', lambda path: path.write_bytes(mutate_json(_splits(), draw)))


def _mutate_features(folder: Path, draw: random.Random) -> None:
    handle = draw.choice([handle for handles in HANDLES.values() for handle in handles])
    _replace(folder / 'features' / f'{handle}.npy', lambda path: path.write_bytes(mutate_npy(_features(), draw)))


MUTATIONS: dict[str, Callable[[Path, random.Random], None] | None] = {
    'annotations': _mutate_annotations, 'splits': _mutate_splits, 'features': _mutate_features, COMMANDS: None}


def run_case(read: Callable[[], object], outcome: Outcome, number: int) -> None:
    """Read the input of a case, and record the outcome.

    Args:
        read: reads it; raises UserError if it refuses it.
        outcome: outcomes of its kind.
        number: number of the case.
    """
    started = time.monotonic()
    try:
        with time_limit(MOST_SECONDS):
            read()
        result = 'accepted'
    except UserError as error:
        result = 'refused'
        if '\n' in str(error):
            outcome.findings.append(f'case {number}: a message of several lines')
    except Hang:
        result = 'hang'
        outcome.findings.append(f'case {number}: longer than {MOST_SECONDS} s')
    except Exception as error:  # noqa: BLE001  finding such exceptions is the purpose
        result = 'other exception'
        reason = ' '.join(str(error).split())[:FINDING_LETTERS]
        outcome.findings.append(f'case {number}: {type(error).__name__}: {reason}')
    outcome.counts[result] += 1
    outcome.slowest = max(outcome.slowest, time.monotonic() - started)


def load_and_read(folder: Path) -> None:
    """Load a dataset with its splits and read every recording.

    Raises:
        UserError: the loaders refuse the dataset.
        AssertionError: the loaded dataset is not valid.
    """
    recordings = load_recordings(folder / 'set.json', folder / 'features', background_labels=CONFIG.BACKGROUND_LABELS)
    handles = {task: [recording.handle for recording in members] for task, members in recordings.items()}
    splits = load_splits(folder / 'splits.json', handles)
    for members in (members for part in split_recordings(recordings, splits).values() for members in part.values()):
        for (features, _, task), recording in zip(RecordingDataset(members), members, strict=True):
            assert features.shape == (recording.num_frames, recording.width) and task == recording.task
            check_recording(recording, folder / 'features')


def check_recording(recording: Recording, folder: Path) -> None:
    """Check that a recording is in its folder and that its segments are in order and within its frames.

    Raises:
        AssertionError: one of these checks fails.
    """
    assert recording.path.resolve().parent == folder.resolve() and recording.handle
    previous = -1
    for label, start, end in recording.segments:
        assert isinstance(label, str) and label.encode('utf-8') is not None
        assert previous < start <= end < recording.num_frames
        previous = end


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise :class:`Hang` in the main thread if the block takes longer than ``seconds``."""
    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == '__main__':
    sys.exit(main())
