"""Augmentation: nothing by default, and the spreads that were asked for."""

import numpy as np
import pytest
import torch

from training.augmentation import augment_batch, augment_features

NOTHING = {'scale': 0.0, 'shift': 0.0, 'noise': 0.0}
EVERYTHING = {'scale': 0.1, 'shift': 0.2, 'noise': 0.1}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def features(frames=50, width=4):
    """Features whose dimensions have spreads of their own."""
    return torch.randn(frames, width) * torch.logspace(-2, 2, width) + 3


def test_by_default_nothing_is_drawn_or_changed(config):
    video, state = features(), torch.get_rng_state()
    assert augment_features(video) is video
    assert augment_batch([video], NOTHING)[0] is video and augment_batch([video], config.AUGMENTATION)[0] is video
    assert torch.equal(torch.get_rng_state(), state)


def spread_of(video, **settings):
    return torch.stack([augment_features(video, **settings) - video for _ in range(3000)])


def test_scale_is_one_factor_for_each_dimension():
    video = features(8)
    factors = spread_of(video, scale=0.3) / video + 1  # (draws, frames, dimensions)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=0, atol=1e-3)
    torch.testing.assert_close(factors[:, 0].mean(0), torch.ones(4), rtol=0, atol=0.03)
    torch.testing.assert_close(factors[:, 0].std(0), torch.full((4,), 0.3), rtol=0.06, atol=0)
    assert torch.corrcoef(factors[:, 0].T).fill_diagonal_(0).abs().max() < 0.08


def test_shift_is_one_offset_for_each_dimension_in_units_of_its_spread():
    video = features(8)
    offsets = spread_of(video, shift=0.5) / video.std(0, correction=0)
    torch.testing.assert_close(offsets, offsets[:, :1].expand_as(offsets), rtol=0, atol=1e-3)
    torch.testing.assert_close(offsets[:, 0].mean(0), torch.zeros(4), rtol=0, atol=0.05)
    torch.testing.assert_close(offsets[:, 0].std(0), torch.full((4,), 0.5), rtol=0.06, atol=0)


def test_noise_is_one_draw_for_each_entry_in_units_of_the_dimensions_spread():
    video = features(8)
    noise = spread_of(video, noise=0.2) / video.std(0, correction=0)
    torch.testing.assert_close(noise.std(0), torch.full((8, 4), 0.2), rtol=0.08, atol=0)
    assert torch.corrcoef(noise.flatten(1).T).fill_diagonal_(0).abs().max() < 0.1


def test_what_does_not_vary_is_not_shifted():
    standing, single = torch.full((9, 3), 2.0), torch.randn(1, 3)
    for video in (standing, single):
        assert torch.equal(augment_features(video, shift=0.5, noise=0.5), video)
        assert augment_features(video, **EVERYTHING).isfinite().all()


def test_draws_are_seeded_and_differ_from_recording_to_recording():
    video = features()
    torch.manual_seed(5)
    first, second = augment_batch([video, video], EVERYTHING)
    torch.manual_seed(5)
    again = augment_batch([video, video], EVERYTHING)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_given_features_are_left_as_they_were(dtype):
    video = features().to(dtype)
    kept = video.clone()
    changed = augment_features(video, **EVERYTHING)
    assert torch.equal(video, kept) and changed.shape == video.shape and changed.dtype == dtype


def test_frames_are_left_as_they_are(tmp_path):
    np.save(tmp_path / 'frames.npy', np.ones((4, 2, 3, 3), np.float16))
    mapped, frames = np.load(tmp_path / 'frames.npy', mmap_mode='r'), torch.randn(4, 2, 3, 3)
    found = augment_batch([mapped, frames, features()], EVERYTHING)
    assert found[0] is mapped and found[1] is frames
