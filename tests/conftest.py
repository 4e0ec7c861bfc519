import copy
import gc
from pathlib import Path

import pytest
from easydict import EasyDict
from matplotlib.figure import Figure

from configs.generic_config import CONFIG
from tests.launch import save_one_pixel, stop_server

ROOT = Path(__file__).resolve().parents[1]

# The objects of torch, matplotlib and 4,000 tests are many and live to the end: looking through them for garbage at the
# default rate takes 5 % of the time.
gc.set_threshold(20_000, 20, 50)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep each file in one process of `make test`, and all that fork in the same, which loads what they share once.

    They come first, with the export, which is slow as well: if they came last, the other processes would wait for them.
    """
    for item in items:
        forks = {'run_program', 'run_processes'} & set(vars(item.module))
        item.add_marker(pytest.mark.xdist_group('forks' if forks else str(item.path.relative_to(ROOT))))
    items.sort(key=lambda item: ('forks', 'tests/tools/test_export.py').count(group_of(item)), reverse=True)


def group_of(item):
    return item.get_closest_marker('xdist_group').args[0]


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
