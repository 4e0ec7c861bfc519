import pytest
import torch

from models.encoders import NaiveEncoder, Resnet50Encoder, StackingEncoder
from models.initialisation import EMBEDDING_NORM, initialise_
from models.model_multiprong import HeadModel

ENCODERS = [
    (StackingEncoder(2, 256, 128, 64), (2000, 64)),
    (StackingEncoder(2, 64, 16, 2048), (500, 2048)),
    (NaiveEncoder([1024, 512, 512, 256], 128, 64), (2000, 64)),
    (Resnet50Encoder(2, in_size=16, output_dimensions=32), (20, 16, 4, 4)),
]


def root_mean_square(values):
    return values.square().mean().sqrt().item()


@pytest.mark.parametrize(('encoder', 'shape'), ENCODERS)
def test_a_new_encoder_tells_frames_apart(encoder, shape):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = encoder([features])['outputs'][0]
    # The maximum over a window's outputs lifts the frame encoder's embeddings.
    assert EMBEDDING_NORM / 2 < embeddings.norm(dim=1).mean() < 4 * EMBEDDING_NORM
    nearest = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf).amin(1)
    assert nearest.median() > 0.1  # the temperature of TCC and GTCC


def test_a_head_keeps_the_scale():
    torch.manual_seed(0)
    embeddings = torch.randn(1000, 128)
    with torch.no_grad():
        assert 0.5 < root_mean_square(HeadModel(128)(embeddings)) / root_mean_square(embeddings) < 2


def test_gain_and_biases():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(400, 300), torch.nn.ReLU(), torch.nn.Linear(300, 500))
    initialise_(network, 0.1)
    with torch.no_grad():
        assert root_mean_square(network(torch.randn(500, 400))) == pytest.approx(0.1, rel=0.1)
    assert all(layer.bias.abs().max() == 0 for layer in network if hasattr(layer, 'bias'))


def test_weights_follow_the_seed():
    def first_weight(seed):
        torch.manual_seed(seed)
        return StackingEncoder(2, 32, 8, 4).convolutional_layers[0].weight

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))
