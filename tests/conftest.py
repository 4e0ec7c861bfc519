import copy
import functools
import gc
from pathlib import Path

import pytest
import torch
from easydict import EasyDict
from matplotlib.figure import Figure

from configs.generic_config import CONFIG
from tests import launch

ROOT = Path(__file__).resolve().parents[1]

# The objects of torch, matplotlib and 4,000 tests are many and live to the end: looking through them for garbage at the
# default rate takes 5 % of the time.
gc.set_threshold(20_000, 20, 50)


@pytest.fixture(autouse=True)
def same_draws():
    """Draw the same numbers in every run: one unlucky draw in 200 would fail in one run of 200."""
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True, optionalhook=True)  # before that of pytest-xdist, which may be missing
def pytest_xdist_make_scheduler(config, log):
    """Run each file in one process of `make test`, and all that fork in the same, which loads what they share once."""
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


def pytest_collection_modifyitems(items):
    """Start with the files that fork, and the export, which is slow: if they came last, other processes would wait."""
    items.sort(key=lambda item: ('forks', 'tests/tools/test_export.py').count(group_of(item.nodeid)), reverse=True)


def group_of(nodeid):
    """Return the group of a test: tests of one group run in one process."""
    return _group_of_file(nodeid.partition('::')[0])


@functools.cache
def _group_of_file(name):
    return 'forks' if 'from tests.launch import' in (ROOT / name).read_text() else name


def pytest_sessionfinish():
    """End what the tests of this process started."""
    launch.stop_server()


@pytest.fixture
def config() -> EasyDict:
    """A copy of the defaults that a test may change."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, coarsely: of a picture's pixels, most tests look at none."""
    saved, original = [], Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *rest, **more: saved.append(figure)
                        or original(figure, *rest, **{**more, 'dpi': 40}))
    return saved


@pytest.fixture(scope='module')
def blank_pictures():
    """Save one white pixel for each picture: drawing takes most of the time of a short run.

    For modules that test which files a run has, and their numbers; other modules test what is drawn.
    """
    with pytest.MonkeyPatch.context() as patch:
        launch.blank_pictures(patch.setattr)
        yield
