import pytest
import torch

from models.encoders import NaiveEncoder
from tests.models.encoders.small import shapes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_naive_encoder_has_the_published_layers():
    widths = [2048, 1024, 512, 512, 256, 128]
    expected = {f'fc_layers.{2 * i}.{kind}': (widths[i + 1], widths[i]) if kind == 'weight' else (widths[i + 1],)
                for i in range(5) for kind in ('weight', 'bias')}
    assert shapes(NaiveEncoder([1024, 512, 512, 256])) == expected
