"""Kill the other commands, import, extraction, evaluation and prediction, and compare what they leave.

Part of ``benchmarks.reliability.crash_safety``. Half of the kills (SIGKILL) occur while a file is synced or renamed,
which is slowed down for that; the others at random times. After each kill every file with a name of its own must be
whole: the one from before the command, or the one of an uninterrupted command. Then the command runs again, and must
give the files of an uninterrupted command and leave no partial ones.
"""

import csv
import hashlib
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from utils.errors import UserError

OTHER_PLACES = ('while a file is synced or renamed', 'at a random time')
STEP_SECONDS = 0.004  # added to each sync and rename
STEPS_IN_REACH = 12  # a targeted kill waits for at most this many of them
LONGEST_WAIT = 120.0  # seconds
VIDEO_FRAMES, VIDEO_SIZE = 30, (48, 64)
Files = dict[str, str]  # path -> checksum


@dataclass(frozen=True)
class Job:
    """A command line whose process is killed.

    Attributes:
        name: what is killed, for the table.
        module: module of the command line.
        arguments: its arguments, with {out} for the folder that it writes to.
        overwrite: option that lets it run again.
        earlier: arguments of a command that wrote the earlier files; None if there was no such command.
    """

    name: str
    module: str
    arguments: Sequence[str]
    overwrite: Sequence[str] = ()
    earlier: Sequence[str] | None = None


@dataclass
class Outcome:
    """What the kills of a job left.

    Attributes:
        kills: number of kills.
        leftovers: kills that left a partial file.
        files: whole files that were read after the kills.
        runs: number of times that the command ended.
        places: place -> number of kills.
    """

    kills: int = 0
    leftovers: int = 0
    files: int = 0
    runs: int = 0
    places: dict[str, int] = field(default_factory=dict)


def jobs(folder: Path, run: Path, features: Path) -> list[Job]:
    """Return the jobs for a trained run and its dataset; extraction only if its packages are installed.

    Args:
        folder: folder for the sources of the jobs.
        run: run folder.
        features: folder of features to predict.
    """
    for module in IMPORTED_LATE:
        importlib.import_module(module)
    found = [
        Job('import', 'tools.import_segments', ['imported', str(_write_tables(folder, 24, 'step')), *IMPORT],
            ['--overwrite'], ['imported', str(_write_tables(folder, 12, 'earlier')), *IMPORT]),
        Job('evaluation', 'eval', ['-f', '{out}/run', '--report', '--device', 'cpu']),
        Job('prediction', 'predict', ['-f', str(run), '--features', str(features), '-o', '{out}/predictions',
                                      '--task', 'make_tea', '--device', 'cpu'], ['--overwrite']),
        Job('alignment', 'align', [str(features), '-f', str(run), '-o', '{out}/alignment', '--device', 'cpu'],
            ['--overwrite']),
    ]
    if all(map(find_spec, ('av', 'efficientnet_lite_pytorch'))):
        found.insert(1, Job('extraction', 'tools.extract', [str(_write_videos(folder)), 'extracted', '--workers', '0',
                                                            '--device', 'cpu']))
    for job in found:
        importlib.import_module(job.module)
    return found


IMPORT = ['--unit', 'frames', '--layout', 'TD']
# What the commands import when they need it: once here instead of in every forked process.
IMPORTED_LATE = ('evaluation.evaluate', 'evaluation.report', 'evaluation.single_tasks', 'prediction.command',
                 'alignment.command')


def _write_tables(folder: Path, count: int, label: str) -> Path:
    """Write features and a table of segments, and return the table."""
    source = folder / f'source_{label}'
    (source / 'features').mkdir(parents=True)
    draw = np.random.default_rng(count)
    with (source / 'table.csv').open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['recording', 'start', 'end', 'label'])
        for number in range(count):
            np.save(source / f'features/r{number}.npy', draw.normal(size=(60, 16)).astype(np.float32))
            table.writerows([f'r{number}', start, start + 20, f'{label}_{start}'] for start in (0, 20, 40))
    return source / 'table.csv'


def _write_videos(folder: Path) -> Path:
    """Write two short videos, and return their folder."""
    import av  # optional

    source = folder / 'videos'
    source.mkdir()
    for name in ('first', 'second'):
        with av.open(str(source / f'{name}.mp4'), 'w') as container:
            stream = container.add_stream('libx264', rate=10)
            (stream.height, stream.width), stream.pix_fmt = VIDEO_SIZE, 'yuv420p'
            for number in range(VIDEO_FRAMES):
                image = np.full((*VIDEO_SIZE, 3), 8 * number % 256, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode())
    return source


def kill_job(job: Job, folder: Path, run: Path, draw: random.Random, kills: int) -> Outcome:
    """Kill a job ``kills`` times, each time followed by a check, and let it end at times.

    Args:
        job: the job.
        folder: folder for its files.
        run: run folder, a copy of which the evaluation writes to.
        draw: random generator of the times of the kills.
        kills: number of kills.

    Raises:
        UserError: a file is not whole, or the result differs from that of an uninterrupted command.
    """
    whole, killed, outcome = folder / f'{job.name}_whole', folder / f'{job.name}_killed', Outcome()
    _prepare(job, whole, run)
    before = _files(whole)
    started = time.monotonic()
    _run_to_end(job, whole, again=False)
    seconds, after = time.monotonic() - started, _files(whole)
    _prepare(job, killed, run)
    while outcome.kills < kills:
        place = _kill_once(job, killed, draw, seconds)
        if place is not None:
            outcome.kills += 1
            outcome.places[place] = outcome.places.get(place, 0) + 1
            outcome.leftovers += bool(_hidden(killed))
            outcome.files += _check_whole(job, killed, before, after)
        if place is None or draw.random() < 0.3:
            _end(job, killed, after, outcome)
            shutil.rmtree(killed)
            _prepare(job, killed, run)
    _kill_once(job, killed, draw, seconds)
    _end(job, killed, after, outcome)
    return outcome


def _prepare(job: Job, out: Path, run: Path) -> None:
    """Create the folder of a job with what is there before it: a run, or an earlier dataset."""
    out.mkdir()
    if job.name == 'evaluation':
        shutil.copytree(run, out / 'run')
    if job.earlier is not None:
        status = _start(job, out, job.earlier, None)
        if status != 0:
            raise UserError(f'{job.name}: the earlier command ended with status {status}: {_last_line(out)}')


def _end(job: Job, out: Path, after: Files, outcome: Outcome) -> None:
    """Let a job end after its kills, and compare its files with those of an uninterrupted one."""
    _run_to_end(job, out, again=True)
    outcome.runs += 1
    found = _files(out)
    if found != after:
        names = sorted(name for name in {**found, **after} if found.get(name) != after.get(name))
        raise UserError(f'{job.name}: after kills, expected the files of an uninterrupted command; different: '
                        f'{", ".join(names[:5])}')
    if hidden := _hidden(out):
        raise UserError(f'{job.name}: expected no partial files at the end; found {", ".join(hidden[:5])}')


def _check_whole(job: Job, out: Path, before: Files, after: Files) -> int:
    """Check the files after a kill, and return their number.

    Raises:
        UserError: a file is neither that of before the command, nor that of an uninterrupted one.
    """
    found = _files(out)
    for name, checksum in found.items():
        if checksum not in (before.get(name), after.get(name)):
            raise UserError(f'{job.name}: after a kill, {name} is not whole')
    if job.name == 'import':
        # Annotations of one import must not be next to features of another one.
        for name in [name for name in found if name.endswith('imported.json')]:
            written = after if found[name] == after.get(name) else before
            features = {other: found[other] for other in found if '/features/' in other}
            if features != {other: written[other] for other in written if '/features/' in other}:
                raise UserError(f'{job.name}: after a kill, the annotations do not belong to the features')
    return len(found)


def _files(out: Path) -> Files:
    """Return the checksums of the results: files whose path has no name that begins with a dot."""
    return {str(path.relative_to(out)): hashlib.sha256(_comparable(path)).hexdigest() for path in out.rglob('*')
            if path.is_file() and path.name != 'messages.txt'
            and not any(part.startswith('.') for part in path.relative_to(out).parts)}


def _comparable(path: Path) -> bytes:
    """Return the content of a file; without the time and the folder, which a report names."""
    content = path.read_bytes()
    if path.suffix != '.html':
        return content
    return b'whole report' if content.rstrip().endswith(b'</html>') else content


def _hidden(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.rglob('.*')]


def _kill_once(job: Job, out: Path, draw: random.Random, seconds: float) -> str | None:
    """Start a job and kill it; return where, or None if it ended first."""
    aims = draw.random() < 0.5
    steps, wait = draw.randint(1, STEPS_IN_REACH), draw.uniform(0, STEP_SECONDS)
    at = None if aims else draw.uniform(0, seconds)

    def kill(process: multiprocessing.Process, events: Connection) -> None:
        if at is not None:
            process.join(at)
        else:
            try:
                for _ in range(steps):
                    if not events.poll(LONGEST_WAIT):
                        break
                    events.recv_bytes()
            except EOFError:
                return
            time.sleep(wait)
        process.kill()

    again = [*job.arguments, *(job.overwrite if any(out.rglob('*')) else ())]
    status = _start(job, out, again, kill)
    if status == -signal.SIGKILL:
        return OTHER_PLACES[0 if aims else 1]
    if status != 0:
        raise UserError(f'{job.name}: ended with status {status}, expected 0: {_last_line(out)}')
    return None


def _run_to_end(job: Job, out: Path, *, again: bool) -> None:
    overwrite = job.overwrite if again or job.earlier is not None else ()
    if (status := _start(job, out, [*job.arguments, *overwrite], None)) != 0:
        raise UserError(f'{job.name}: ended with status {status}, expected 0: {_last_line(out)}')


def _start(job: Job, out: Path, arguments: Sequence[str],
           kill: Callable[[multiprocessing.Process, Connection], None] | None) -> int:
    """Run a command line in a process forked from this one, which has loaded torch; return its exit status."""
    context = multiprocessing.get_context('fork')
    events, report = context.Pipe(duplex=False)
    given = [argument.replace('{out}', str(out)) for argument in arguments]
    process = context.Process(target=_command, args=(job, out, given, report if kill else None))
    process.start()
    report.close()
    if kill:
        kill(process, events)
    process.join()
    events.close()
    return process.exitcode


def _command(job: Job, out: Path, arguments: Sequence[str], report: Connection | None) -> None:
    """Run a command line in this process; with ``report``, send a byte before each sync and rename, and slow it."""
    if job.name in ('import', 'extraction'):
        os.environ.update({'DATASET_PATH': str(out / 'data'), 'JSON_DPATH': str(out / 'json')})
    with (out / 'messages.txt').open('w') as messages:
        os.dup2(messages.fileno(), sys.stdout.fileno())
        os.dup2(messages.fileno(), sys.stderr.fileno())
    main = importlib.import_module(job.module).main
    if report:
        for name in ('fsync', 'replace', 'rename', 'unlink', 'rmdir'):
            setattr(os, name, _reporting(getattr(os, name), report))
    sys.exit(main(arguments))


def _reporting(function: Callable, report: Connection) -> Callable:
    def slow(*arguments: object, **more: Mapping) -> object:
        report.send_bytes(b'step')
        time.sleep(STEP_SECONDS)
        return function(*arguments, **more)
    return slow


def _last_line(out: Path) -> str:
    return ' '.join((out / 'messages.txt').read_text().strip().splitlines()[-1:])
