"""Standardized features: mean and std of all training frames, stored with the weights, the same in a stream."""

import copy

import torch

from configs.generic_config import apply_settings
from models.build import build_model
from models.standardizer import FeatureStandardizer
from models.streaming import EmbeddingStream


def recordings():
    generator = torch.Generator().manual_seed(0)
    return [1e6 * torch.randn(frames, 3, generator=generator) + torch.tensor([1e6, 0.0, -5e6]) for frames in (7, 1, 12)]


def test_frames_of_all_recordings_have_mean_0_and_std_1():
    standardizer, frames = FeatureStandardizer(3), torch.cat(recordings())
    standardizer.fit(recordings())
    torch.testing.assert_close(standardizer.mean, frames.double().mean(dim=0).float())
    torch.testing.assert_close(standardizer.std, frames.double().std(dim=0, unbiased=False).float())
    result = standardizer(frames)
    torch.testing.assert_close(result.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(result.std(dim=0, unbiased=False), torch.ones(3))


def test_constant_dimensions_are_only_shifted():
    standardizer = FeatureStandardizer(3)
    standardizer.fit([torch.tensor([[0.1, 0.0, 1.0]]).repeat(5, 1), torch.tensor([[0.1, 0.0, 3.0]])])
    assert standardizer(torch.tensor([[1.1, 2.0, 1.0]])).tolist()[0][:2] == [1.0, 2.0]


def test_the_model_reads_standardized_features_also_in_a_stream(config):
    apply_settings(config, {'STANDARDIZE_FEATURES': True, 'BASEARCH.ARCHITECTURE': 'naive',
                            'BASEARCH.NAIVE_ARCH.layers': [5], 'BASEARCH.NAIVE_ARCH.input_dimensions': 3,
                            'OUTPUT_DIMENSIONALITY': 4})
    torch.manual_seed(0)
    model = build_model(config).eval()
    model.standardizer.fit(recordings())
    expected = [model.base_model([model.standardizer(video)])['outputs'][0] for video in recordings()]
    for video, outputs, own in zip(recordings(), model(recordings())['outputs'], expected, strict=True):
        torch.testing.assert_close(outputs, own)
        stream = EmbeddingStream(model)
        streamed = [embedding for frame in video for embedding in stream.push(frame)] + stream.finish()
        torch.testing.assert_close(torch.stack(streamed), own)
    loaded = build_model(config)
    loaded.load_state_dict(copy.deepcopy(model.state_dict()))
    assert loaded.standardizer.mean.equal(model.standardizer.mean) and loaded.standardizer.std.equal(
        model.standardizer.std)
