"""Provide the demo dataset in a temporary folder for benchmarks that train."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.choices import LOSSES
from tools.demo import write_demo

NAME = 'demo'


@contextmanager
def demo_environment() -> Iterator[list[str]]:
    """Write the demo dataset, set the environment variables, and yield the options that select dataset and split."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_demo(Path(folder), NAME)
        os.environ.update({variable: str(path) for variable, path in paths.items()})
        yield ['--dataset', NAME, '--splits', str(paths['JSON_DPATH'] / f'{NAME}.splits.json')]


def loss_flag(name: str) -> str:
    """Return the option that selects the loss with this name in LOSS_TYPE."""
    return LOSSES[name].flags[0]
