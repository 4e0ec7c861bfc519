"""Kill training and the other commands, and run them again: python -m benchmarks.reliability.crash_safety.

Half of the kills (SIGKILL) occur while a checkpoint is being written, synced or renamed. After each kill all files of
the run folder are read. Each run that finishes is compared with an uninterrupted run.
"""

import argparse
import csv
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import multitask_train
from benchmarks.reliability.crash_commands import OTHER_PLACES, Outcome, jobs, kill_job
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from tools.demo import DemoSettings, write_demo
from utils import ckpt_save
from utils.ckpt_save import BEST_NAMES, load_checkpoint, load_model
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.files import atomic_path, read_json
from utils.plotter import plot_dual_losses
from utils.run_folder import RunFolder

PARTS = 6  # training, import, extraction, evaluation, prediction, alignment
EPOCHS = 4
OPTIONS = ['1', '--dataset', 'demo', '--gtcc', '--naive', '--mcn', '--progress', '-ep', str(EPOCHS), '-od', '16',
           '--set', 'TRAIN_SPLIT=[0.5,0.25,0.25]', '--set', 'ARCHITECTURE.attn_layers=[16]',
           '--set', 'ARCHITECTURE.drop_layers=[16]', '--set', 'BASEARCH.NAIVE_ARCH.layers=[32]']
RUN = Path('multi-task-setting/V1___GTCC_demo')
DATASET = DemoSettings(people=4, repetitions=1, width=8)
WRITING, RENAMING, DONE = b'writing', b'renaming', b'done'  # stages of a checkpoint
PLACES = {WRITING: 'while a checkpoint is written', RENAMING: 'while it is synced and renamed', DONE: 'elsewhere'}
CHECKPOINTS_IN_REACH = 8  # a targeted kill waits for at most this many checkpoints
STAGE_SECONDS = {WRITING: 0.02, RENAMING: 0.003}  # and occurs at most this long after the start of a stage
SLICE_BYTES, SLICE_SECONDS = 2**17, 0.0003  # simulate a slow disk: pause this long after each slice
PNG_END = b'IEND\xaeB`\x82'


@dataclass
class Tally:
    """Outcomes of the kills.

    Attributes:
        kills: place -> number of kills.
        checkpoints: place -> checkpoints that were read after these kills.
        leftovers: place -> kills that left a partially written file.
        lost_epochs: kills before the end of the first epoch, after which training starts from the beginning.
        runs: number of runs that finished.
    """

    kills: Counter = field(default_factory=Counter)
    checkpoints: Counter = field(default_factory=Counter)
    leftovers: Counter = field(default_factory=Counter)
    lost_epochs: int = 0
    runs: int = 0

    @property
    def aimed(self) -> int:
        """Number of kills during the saving of a checkpoint."""
        return self.kills[WRITING] + self.kills[RENAMING]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: kill_and_resume(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.reliability.crash_safety',
                           description='Kill training and the other commands, run them again, compare.')
    parser.add_argument('--kills', type=positive, default=300, help='in all, a sixth of them in training; default 300')
    parser.add_argument('--seed', type=int, default=0, help='seed of the times of the kills, default 0')
    return parser.parse_args(argv)


def kill_and_resume(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Train once without interruption, then with kills, and print a table.

    Raises:
        UserError: a file is not intact, or the result of a run differs from the uninterrupted run.
    """
    torch.set_num_threads(1)  # a process with several threads cannot be forked safely
    print(f'{describe_command("benchmarks.reliability.crash_safety", argv)}\n\n{describe_machine(1)}.\n', flush=True)
    draw, tally, started = random.Random(arguments.seed), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        seconds = bench.train_undisturbed()
        while tally.kills.total() < -(-arguments.kills // PARTS):
            bench.train_until_killed(draw, seconds, tally)
        bench.finish(tally)
        others = bench.kill_other_commands(draw, arguments.kills - tally.kills.total())
    print(format_table([{'killed': words, 'times': tally.kills[place],
                         'left a file half written': tally.leftovers[place],
                         'checkpoints read': tally.checkpoints[place], 'not whole': 0}
                        for place, words in PLACES.items()]))
    print(f'\n{tally.kills.total()} kills in {tally.runs} runs of {EPOCHS} epochs, {tally.lost_epochs} of them before '
          'the first epoch was whole; all runs ended with the weights and losses of an uninterrupted one, and without '
          f'leftovers.\n')
    print(format_table([{'command': name, 'kills': outcome.kills,
                         **{place: outcome.places.get(place, 0) for place in OTHER_PLACES},
                         'left a file half written': outcome.leftovers, 'files read': outcome.files, 'not whole': 0,
                         'ended like an uninterrupted one': outcome.runs} for name, outcome in others.items()]))
    total = tally.kills.total() + sum(outcome.kills for outcome in others.values())
    print(f'\n{total} kills in all. {time.monotonic() - started:.0f} s.')


class SlowPath(type(Path())):
    """A path whose bytes are written slice by slice, so that kills leave partially written files."""

    def write_bytes(self, data: bytes) -> int:
        """Write the data slice by slice with pauses."""
        with self.open('wb', buffering=0) as file:
            for start in range(0, len(data), SLICE_BYTES):
                file.write(data[start:start + SLICE_BYTES])
                time.sleep(SLICE_SECONDS)
        return len(data)


class Bench:
    """A small dataset, an uninterrupted run, and a run that is killed repeatedly.

    Args:
        folder: folder for all files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._paths = folder, write_demo(folder, 'demo', 0, DATASET)
        self._whole, self._run = folder / 'whole' / RUN, folder / 'killed' / RUN
        _load_what_training_loads(folder)
        self._ended = False  # True if the run finished, so that the next start replaces it

    def train_undisturbed(self) -> float:
        """Train the uninterrupted run and return its seconds."""
        started = time.monotonic()
        with self._training('whole', []) as (process, _):
            process.join()
        self._expect_success(process)
        return time.monotonic() - started

    def train_until_killed(self, draw: random.Random, seconds: float, tally: Tally) -> None:
        """Start or resume the run, kill it, and check its files; if it finishes first, compare it instead.

        Args:
            draw: random generator of the time of the kill.
            seconds: duration of an uninterrupted run.
            tally: counters to update.
        """
        new_folder = not (self._run / 'ckpt/last.pt').exists()
        with self._training('killed', self._how_to_start()) as (process, events):
            stage = DONE
            if 2 * tally.aimed <= tally.kills.total():
                stage = _wait_for_stage(events, draw)
            else:
                process.join(draw.uniform(0, seconds))
            process.kill()
            process.join()
            place = _last_event(events, stage)
        if process.exitcode != -signal.SIGKILL:
            self._compare_ended(process, tally)
            return
        tally.kills[place] += 1
        tally.lost_epochs += new_folder and not (self._run / 'ckpt/last.pt').exists()
        tally.leftovers[place] += bool(self._leftovers())
        tally.checkpoints[place] += self._read_all()

    def finish(self, tally: Tally) -> None:
        """Let the last run finish, and compare it."""
        with self._training('killed', self._how_to_start()) as (process, _):
            process.join()
        self._compare_ended(process, tally)

    def kill_other_commands(self, draw: random.Random, kills: int) -> dict[str, Outcome]:
        """Kill the commands other than training, in turn, and return name -> outcome.

        Args:
            draw: random generator of the times of the kills.
            kills: number of kills in all.
        """
        os.environ.update({name: str(path) for name, path in self._paths.items()})
        features = self._folder / 'to_predict'
        features.mkdir()
        for path in sorted((self._paths['DATASET_PATH'] / 'demo/features').glob('*tea*.npy')):
            shutil.copy(path, features)
        found = jobs(self._folder, self._whole, features)
        return {job.name: kill_job(job, self._folder, self._whole, draw, kills // len(found)
                                   + (number < kills % len(found))) for number, job in enumerate(found)}

    def _how_to_start(self) -> list[str]:
        """Return the option that the program requires for the current state of the run folder."""
        if not self._run.exists():
            return []
        resumes = (self._run / 'ckpt/last.pt').exists() and not self._ended
        self._ended = False
        return ['--resume' if resumes else '--overwrite']

    @contextmanager
    def _training(self, output: str, options: list[str]) -> Iterator[tuple[BaseProcess, Connection]]:
        """Train in a process forked from this one, which has already loaded torch; yield the process and its events."""
        context = multiprocessing.get_context('fork')
        events, report = context.Pipe(duplex=False)
        environment = {**self._paths, 'OUTPUT_PATH': self._folder / output}
        process = context.Process(target=_train, args=(environment, [*OPTIONS, *options], report, self._log))
        process.start()
        report.close()
        try:
            yield process, events
        finally:
            process.kill()
            process.join()
            events.close()

    @property
    def _log(self) -> Path:
        return self._folder / 'messages.txt'

    def _expect_success(self, process: BaseProcess) -> None:
        if process.exitcode != 0:
            last = self._log.read_text().strip().splitlines()[-1:]
            raise UserError(f'a training process ended with status {process.exitcode}, expected 0: {" ".join(last)}')

    def _read_all(self) -> int:
        """Read every file of the run folder after a kill and return the number of checkpoints.

        Raises:
            UserError: a file is not intact, or its content is wrong.
        """
        if not self._run.exists():
            return 0
        for name in ('config.json', 'splits.json'):
            own, whole = (read_json(run / name, 'a file of the run') for run in (self._run, self._whole))
            _expect(own == whole, f'{name} is that of the run')
        losses = _losses(self._run)
        _expect(losses == _losses(self._whole)[:len(losses)], 'losses.csv is the start of the uninterrupted one')
        for picture in _shown(self._run, '*.png'):
            _expect(picture.read_bytes().endswith(PNG_END), f'{picture.name} is whole')
        checkpoints = _shown(self._run / 'ckpt', '*.pt')
        for path in checkpoints:
            load_model(path)
        names = {path.name for path in checkpoints}
        _expect('last.pt' not in names or names >= set(BEST_NAMES.values()), 'best checkpoints next to last.pt')
        return len(checkpoints)

    def _compare_ended(self, process: BaseProcess, tally: Tally) -> None:
        """Compare the finished run with the uninterrupted run.

        Raises:
            UserError: they differ, or a partially written file is left.
        """
        self._expect_success(process)
        self._read_all()
        _expect(_losses(self._run) == _losses(self._whole), 'losses.csv is that of the uninterrupted run')
        _expect(not self._leftovers(), f'no leftovers of killed processes, found {self._leftovers()}')
        # TensorBoard's folder is not compared, because each process writes a separate file to it.
        names, own = ({path.relative_to(run) for pattern in ('*', 'ckpt/*') for path in _shown(run, pattern)}
                      for run in (self._whole, self._run))
        _expect(names == own, f'the same files, found a difference in {sorted(map(str, names ^ own))}')
        for name in names:
            if name.suffix == '.pt':
                own, whole = (load_checkpoint(run / name)['model_state_dict'] for run in (self._run, self._whole))
                _expect(all(torch.equal(own[key], whole[key]) for key in whole), f'{name} contains the same weights')
        self._ended = True
        tally.runs += 1

    def _leftovers(self) -> list[str]:
        """Return the names of partially written files and folders, which begin with a dot."""
        folders = (self._run.parent, self._run, self._run / 'ckpt')
        return [path.name for folder in folders if folder.exists() for path in folder.iterdir()
                if path.name.startswith('.')]


def _load_what_training_loads(folder: Path) -> None:
    """Trigger the lazy imports of matplotlib once here instead of in every forked process."""
    plot_dual_losses({}, {}, folder)


def _train(environment: dict[str, Path], options: list[str], report: Connection, log: Path) -> None:
    """Train in a separate process and report when a checkpoint is being written, being renamed, and done."""
    os.environ.update({name: str(path) for name, path in environment.items()})
    with log.open('w') as messages:
        os.dup2(messages.fileno(), sys.stdout.fileno())
        os.dup2(messages.fileno(), sys.stderr.fileno())

    @contextmanager
    def reporting(path: Path | str) -> Iterator[Path]:
        with atomic_path(path) as temporary:
            report.send_bytes(WRITING)
            yield SlowPath(temporary)
            report.send_bytes(RENAMING)
        report.send_bytes(DONE)

    ckpt_save.atomic_path = reporting
    sys.exit(multitask_train.main(options))


def _wait_for_stage(events: Connection, draw: random.Random) -> bytes:
    """Wait for a random stage of one of the next checkpoints and a random time after; return the stage."""
    awaited, checkpoints = draw.choice((WRITING, RENAMING)), draw.randint(1, CHECKPOINTS_IN_REACH)
    try:
        while checkpoints:
            checkpoints -= events.recv_bytes() == awaited
    except EOFError:
        return DONE  # the run finished first
    # Busy waiting, because time.sleep is not precise enough.
    until = time.perf_counter() + draw.uniform(0, STAGE_SECONDS[awaited])
    while time.perf_counter() < until:
        pass
    return awaited


def _last_event(events: Connection, last: bytes) -> bytes:
    """Return the last event of a process that has ended, or ``last`` if there are no more events."""
    try:
        while True:
            last = events.recv_bytes()
    except EOFError:
        return last


def _losses(run: Path) -> list[dict[str, str]]:
    """Return the rows of losses.csv without the seconds, or an empty list if the file does not exist yet."""
    path = RunFolder(run).losses
    if not path.exists():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return [{**row, 'seconds': ''} for row in csv.DictReader(file)]


def _shown(folder: Path, pattern: str) -> list[Path]:
    """Return the files that a program reads as results: their names do not begin with a dot."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith('.'))


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise UserError(f'after a kill: expected {what}; this does not hold')


if __name__ == '__main__':
    sys.exit(main())
