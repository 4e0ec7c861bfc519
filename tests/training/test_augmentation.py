"""Augmentation: nothing by default, and the spreads that were asked for."""

import numpy as np
import pytest
import torch

from training.augmentation import augment_batch, augment_features, warp_time

NOTHING = {'scale': 0.0, 'shift': 0.0, 'noise': 0.0, 'time_warp': 0.0}
LOOKS = {'scale': 0.1, 'shift': 0.2, 'noise': 0.1}
EVERYTHING = {**LOOKS, 'time_warp': 0.3}
TIMES = {'step': ['a', 'b'], 'start_frame': [0, 12], 'end_frame': [9, 12], 'name': 'x'}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def features(frames=50, width=4):
    """Features whose dimensions have spreads of their own."""
    return torch.randn(frames, width) * torch.logspace(-2, 2, width) + 3


def test_by_default_nothing_is_drawn_or_changed(config):
    video, state = features(), torch.get_rng_state()
    assert augment_features(video) is video
    for settings in (NOTHING, config.AUGMENTATION):
        videos, times = augment_batch([video], [TIMES], settings)
        assert videos[0] is video and times[0] is TIMES
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
        assert augment_features(video, **LOOKS).isfinite().all()


def test_draws_are_seeded_and_differ_from_recording_to_recording():
    video = features()
    torch.manual_seed(5)
    (first, second), times = augment_batch([video, video], [TIMES, TIMES], EVERYTHING)
    torch.manual_seed(5)
    again, times_again = augment_batch([video, video], [TIMES, TIMES], EVERYTHING)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1]) and times == times_again
    assert not torch.equal(first[:10], second[:10]) and len(first) != len(second)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_given_features_are_left_as_they_were(dtype):
    video = features().to(dtype)
    kept = video.clone()
    changed = augment_features(video, **LOOKS)
    assert torch.equal(video, kept) and changed.shape == video.shape and changed.dtype == dtype


def test_frames_are_left_as_they_are(tmp_path):
    np.save(tmp_path / 'frames.npy', np.ones((4, 2, 3, 3), np.float16))
    mapped, frames = np.load(tmp_path / 'frames.npy', mmap_mode='r'), torch.randn(4, 2, 3, 3)
    found, times = augment_batch([mapped, frames, features()], [TIMES] * 3, EVERYTHING)
    assert found[0] is mapped and found[1] is frames and times[0] is TIMES


def warp_by(monkeypatch, factors, video, times):
    monkeypatch.setattr(torch, 'randn', lambda count: torch.tensor(factors).log())
    return warp_time(video, times, 1.0)


def test_twice_as_slow_shows_every_frame_twice(monkeypatch):
    video = torch.arange(14.0).unsqueeze(1)
    slow, times = warp_by(monkeypatch, [2.0, 1.0, 1.0], video, TIMES)
    assert slow.squeeze(1).tolist() == [frame for frame in range(14) for _ in range(2)]
    assert times == {'step': ['a', 'b'], 'start_frame': [0, 24], 'end_frame': [19, 25], 'name': 'x'}


def test_twice_as_quick_shows_every_second_frame_and_loses_short_actions(monkeypatch):
    given = TIMES | {'start_frame': [0, 13], 'end_frame': [9, 13]}
    quick, times = warp_by(monkeypatch, [0.5, 1.0, 1.0], torch.arange(14.0).unsqueeze(1), given)
    assert quick.squeeze(1).tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert times == {'step': ['a'], 'start_frame': [0], 'end_frame': [4], 'name': 'x'}


def test_each_segment_has_a_speed_of_its_own(monkeypatch):
    warped, times = warp_by(monkeypatch, [1.0, 0.5, 2.0], torch.arange(14.0).unsqueeze(1), TIMES)
    assert warped.squeeze(1).tolist() == [0, 2, 4, 6, 8, 10, 11, 12, 12, 13]
    assert times == {'step': ['a', 'b'], 'start_frame': [0, 7], 'end_frame': [4, 8], 'name': 'x'}


def test_warped_frames_stay_within_their_actions():
    labels = torch.zeros(100)
    times = {'step': ['a', 'b', 'c'], 'start_frame': [0, 20, 61], 'end_frame': [19, 55, 99]}
    for number, (start, end) in enumerate(zip(times['start_frame'], times['end_frame'], strict=True), 1):
        labels[start:end + 1] = number
    lengths = set()
    for _ in range(50):
        warped, follows = warp_time(labels.unsqueeze(1), times, 0.5)
        assert 16 <= len(warped) <= 625
        found = torch.zeros(len(warped))
        for number, (start, end) in enumerate(zip(follows['start_frame'], follows['end_frame'], strict=True), 1):
            found[start:end + 1] = number
        assert torch.equal(found, warped.squeeze(1))
        lengths.add(len(warped))
    assert len(lengths) > 20


def test_a_recording_without_actions_is_warped():
    warped, times = warp_time(torch.ones(30, 2), {'step': [], 'start_frame': [], 'end_frame': []}, 0.3)
    assert warped.shape[1] == 2 and times['step'] == []
