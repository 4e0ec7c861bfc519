import copy
import gc
from pathlib import Path

import pytest
from easydict import EasyDict
from matplotlib.figure import Figure

from configs.generic_config import CONFIG
from tests.launch import save_one_pixel, stop_server

ROOT = Path(__file__).resolve().parents[1]
SLOWEST = ('test_torchrun.py', 'test_crash_safety.py', 'test_command_lines.py', 'test_export.py')


# The objects of torch, matplotlib and 4,000 tests are many and live to the end: looking through them for garbage at the
# default rate takes 5 % of the time.
gc.set_threshold(20_000, 20, 50)


def pytest_collection_modifyitems(items):
    """Start with the slowest files: if one came last, the other processes of `make test` would wait for it."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)


def pytest_sessionfinish():
    """End what the tests of this process started."""
    stop_server()


@pytest.fixture
def config() -> EasyDict:
    """A copy of the defaults that a test may change."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    saved, original = [], Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *rest, **more: saved.append(figure)
                        or original(figure, *rest, **more))
    return saved


@pytest.fixture(scope='module')
def blank_pictures():
    """Save one white pixel for each picture: drawing takes most of the time of a short run.

    For modules that test which files a run has, and their numbers; other modules test what is drawn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, 'savefig', save_one_pixel)
        yield
