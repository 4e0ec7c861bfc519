"""Functions shared by the benchmarks: time and memory of a case, fresh processes, tables, the machine."""

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

ENOUGH_SECONDS = 20.0  # a case is not repeated after this total time
MIB = 2 ** 20
Result = TypeVar('Result')


class Measurement(NamedTuple):
    """The cost of a case.

    Attributes:
        seconds: median over the repeats.
        peak_mib: peak memory of the process minus its memory before the first run, MiB.
    """

    seconds: float
    peak_mib: float


def time_and_memory(run: Callable[[], object], repeats: int) -> Measurement:
    """Run a case once to warm up, then several times, and return the median time and the peak memory.

    Args:
        run: the case; its libraries should be loaded and its code compiled before.
        repeats: number of timed runs, >= 1; there are fewer if their total time exceeds 20 s.
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
    """Call a function in a new process that inherits no state.

    Returns:
        The return value of the function, or None if the process was killed, for example because memory ran out.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context('spawn')) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return None


def growth_exponent(lengths: Sequence[int], values: Sequence[float]) -> float | None:
    """Fit ``value ~ length^p`` to the longer half of the lengths, by least squares on the logarithms.

    Args:
        lengths: numbers of frames, ascending.
        values: measured values; values <= 0 are ignored.

    Returns:
        p, or None if there are fewer than two points.
    """
    points = [(length, value) for length, value in zip(lengths, values, strict=True) if value > 0]
    points = points[-max(2, (len(points) + 1) // 2):]
    if len(points) < 2:
        return None
    return float(np.polyfit(*np.log(points).T, deg=1)[0])


def describe_command(module: str, argv: Sequence[str] | None) -> str:
    """Return the command line of a benchmark as Markdown; if ``argv`` is None, with the arguments of the process."""
    return f'`{shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])}`'


def describe_machine(threads: int) -> str:
    """Describe the processor, the number of threads, the versions and the load in one line.

    The load is the recent number of runnable processes: above a few tenths, other processes disturbed the times.
    """
    load = f', load before {os.getloadavg()[0]:.1f}' if hasattr(os, 'getloadavg') else ''
    return (f'{_processor()}, {os.cpu_count()} cores, {threads} {"thread" if threads == 1 else "threads"}, '
            f'Python {platform.python_version()}, torch {torch.__version__}{load}')


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows with the same keys as a Markdown table; only the first column is left-aligned."""
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    aligned = align_columns(cells)
    rule = ['-' * len(cell) if position == 0 else '-' * (len(cell) - 1) + ':'
            for position, cell in enumerate(aligned[0])]
    return '\n'.join(f'| {" | ".join(row)} |' for row in [aligned[0], rule, *aligned[1:]])


def short(value: float | None) -> str:
    """Format a number with at least three significant digits; None is `-`."""
    if value is None:
        return '-'
    return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'


def positive(text: str) -> int:
    """Parse a positive integer from the command line.

    Raises:
        argparse.ArgumentTypeError: the text is not an integer >= 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer >= 1')
    return int(text)


def _start_peak() -> int:
    """Reset the peak memory of the process if possible, and return the baseline in bytes."""
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return process_memory('VmHWM')  # the peak cannot be reset, so it is the baseline
    return process_memory('VmRSS')


def _processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
