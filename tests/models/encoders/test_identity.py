import pytest
import torch

from models.encoders import IdentityEncoder
from tests.models.encoders.small import recordings, shapes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('dropping', [True, False])
def test_identity_returns_features_without_gradient(dropping):
    encoder = IdentityEncoder(5, 5, dropping, drop_layers=[4])
    videos = [video.requires_grad_() for video in recordings(encoder, 9, 1)]
    result = encoder(videos)
    assert all(torch.equal(output, video) for output, video in zip(result['outputs'], videos, strict=True))
    assert (encoder.lookahead, len(result['outputs'])) == (0, 2)
    assert all(name.startswith('dropout.') for name in shapes(encoder)) and bool(shapes(encoder)) == dropping
    assert [drop.shape for drop in result.get('dropouts', [])] == [(6,)] * (2 * dropping)
    gradient, = torch.autograd.grad(result['outputs'][0].sum(), videos[0])
    assert gradient.eq(1).all()


def test_identity_refuses_other_feature_dim():
    with pytest.raises(ValueError, match='output_dimensions is 8, expected 5, the feature dimension'):
        IdentityEncoder(5, 8)
    with pytest.raises(ValueError, match='input_width is 0, expected at least 1'):
        IdentityEncoder(0, 5)
    with pytest.raises(ValueError, match=r'video 0 has shape \(3, 4\), expected \(T, D\) with T >= 1 and D = 5'):
        IdentityEncoder(5, 5)([torch.ones(3, 4)])
