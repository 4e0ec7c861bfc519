import pytest
import torch
import torch.nn.functional as F

from models.encoders import NaiveEncoder, Resnet50Encoder, StackingEncoder
from models.encoders.layers import EMBEDDING_NORM, DropNetwork, initialize_
from models.model_multiprong import HeadModel
from tests.models.encoders.small import shapes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_drop_network_has_the_published_layers():
    widths = [128, 256, 1024, 512, 256, 129]
    expected = {f'{2 * i}.{kind}': (widths[i + 1], widths[i]) if kind == 'weight' else (widths[i + 1],)
                for i in range(5) for kind in ('weight', 'bias')}
    assert shapes(DropNetwork(128, [256, 1024, 512, 256])) == expected


def test_drop_vector_is_the_mean_over_frames():
    network = DropNetwork(3, [4])
    first, second = torch.randn(5, 3), torch.randn(2, 3)

    def by_hand(frames):
        return (F.relu(frames @ network[0].weight.T + network[0].bias) @ network[2].weight.T
                + network[2].bias).mean(dim=0)

    for actual, frames in zip(network([first, second]), (first, second), strict=True):
        assert actual.shape == (4,)
        torch.testing.assert_close(actual, by_hand(frames))


def root_mean_square(values):
    return values.square().mean().sqrt().item()


@pytest.mark.parametrize(('make', 'shape'), [
    (lambda: StackingEncoder(2, 256, 128, 64), (2000, 64)), (lambda: StackingEncoder(2, 64, 16, 2048), (500, 2048)),
    (lambda: NaiveEncoder([1024, 512, 512, 256], 128, 64), (2000, 64)),
    (lambda: Resnet50Encoder(2, in_size=16, output_dimensions=32), (20, 16, 4, 4))])
def test_new_encoder_separates_frames(make, shape):
    encoder, features = make(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = encoder([features])['outputs'][0]
    # The maximum over a window's outputs lifts the frame encoder's embeddings.
    assert EMBEDDING_NORM / 2 < embeddings.norm(dim=1).mean() < 4 * EMBEDDING_NORM
    nearest = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf).amin(1)
    assert nearest.median() > 0.1  # the temperature of TCC and GTCC


def test_head_preserves_scale():
    embeddings = torch.randn(1000, 128)
    with torch.no_grad():
        assert 0.5 < root_mean_square(HeadModel(128)(embeddings)) / root_mean_square(embeddings) < 2


def test_gain_and_biases():
    network = torch.nn.Sequential(torch.nn.Linear(400, 300), torch.nn.ReLU(), torch.nn.Linear(300, 500))
    initialize_(network, 0.1)
    with torch.no_grad():
        assert root_mean_square(network(torch.randn(500, 400))) == pytest.approx(0.1, rel=0.1)
    assert all(layer.bias.abs().max() == 0 for layer in network if hasattr(layer, 'bias'))


def test_weights_follow_the_seed():
    def first_weight(seed):
        torch.manual_seed(seed)
        return StackingEncoder(2, 32, 8, 4).convolutional_layers[0].weight

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))
