import copy
from pathlib import Path

import pytest
from easydict import EasyDict

from configs.generic_config import CONFIG

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def config() -> EasyDict:
    """A copy of the defaults that a test may change."""
    return copy.deepcopy(CONFIG)
