"""What the benchmarks share: time and memory of a case, a fresh process for it, tables, the machine in words."""

import argparse
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from utils.memory import process_memory
from utils.tables import align_columns

ENOUGH_SECONDS = 20.0  # a case that has been run for so long is not repeated any more
MIB = 2 ** 20
Result = TypeVar('Result')


class Measurement(NamedTuple):
    """What a case costs.

    Attributes:
        seconds: median over the repeats.
        peak_mib: most memory of the process above what it held before the first run, MiB.
    """

    seconds: float
    peak_mib: float


def time_and_memory(run: Callable[[], object], repeats: int) -> Measurement:
    """Run a case once to warm up, then several times, and take the median of their times.

    Args:
        run: the case; libraries it uses should have been loaded, and code compiled, before.
        repeats: timed runs, >= 1; fewer where they take longer than 20 s together.
    """
    before = _start_peak()
    seconds: list[float] = []
    run()
    while len(seconds) < repeats and sum(seconds) < ENOUGH_SECONDS:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return Measurement(statistics.median(seconds), (process_memory('VmHWM') - before) / MIB)


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result | None:
    """Call a function in a process of its own, which starts from nothing.

    Returns:
        What the function returns, or None where the process was killed, as it is when memory runs out.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context('spawn')) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return None


def growth_exponent(lengths: Sequence[int], values: Sequence[float]) -> float | None:
    """Fit ``value ~ length^p`` to the longer half of the lengths, by least squares between the logarithms.

    Args:
        lengths: ascending, frames.
        values: > 0 where they count; others are left out.

    Returns:
        p, or None with fewer than two points.
    """
    points = [(length, value) for length, value in zip(lengths, values, strict=True) if value > 0]
    points = points[-max(2, (len(points) + 1) // 2):]
    if len(points) < 2:
        return None
    return float(np.polyfit(*np.log(points).T, deg=1)[0])


def describe_command(module: str, argv: Sequence[str] | None) -> str:
    """Return the command line of a benchmark, as Markdown; without arguments given, those of the process."""
    return f'`{shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])}`'


def describe_machine(threads: int) -> str:
    """Return the processor, the number of threads and the versions, in one line.

    The load counts the processes that lately wanted to compute: above a few tenths, others disturbed the times.
    """
    load = f', load before {os.getloadavg()[0]:.1f}' if hasattr(os, 'getloadavg') else ''
    return (f'{_processor()}, {os.cpu_count()} cores, {threads} thread{"s" * (threads > 1)}, Python '
            f'{platform.python_version()}, torch {torch.__version__}{load}')


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows of the same keys as a Markdown table, the first column to the left, the others to the right."""
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    aligned = align_columns(cells)
    rule = ['-' * len(cell) if position == 0 else '-' * (len(cell) - 1) + ':'
            for position, cell in enumerate(aligned[0])]
    return '\n'.join(f'| {" | ".join(row)} |' for row in [aligned[0], rule, *aligned[1:]])


def short(value: float | None) -> str:
    """Format a number with three digits that count, or a dash for None."""
    if value is None:
        return '-'
    return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'


def positive(text: str) -> int:
    """Read a count from the command line.

    Raises:
        argparse.ArgumentTypeError: not an integer >= 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer >= 1')
    return int(text)


def _start_peak() -> int:
    """Forget the peak of memory so far, and return what the process holds now, in bytes."""
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return process_memory('VmHWM')  # the peak cannot be set back: what exceeds it counts
    return process_memory('VmRSS')


def _processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
