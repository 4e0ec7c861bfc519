import copy
from pathlib import Path

import pytest
from easydict import EasyDict
from matplotlib.figure import Figure

from configs.generic_config import CONFIG

ROOT = Path(__file__).resolve().parents[1]


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
