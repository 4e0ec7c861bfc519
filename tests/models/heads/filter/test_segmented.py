"""The filter with boundaries given: stream and batch, causality, prior, storage."""

import copy
import math

import numpy as np
import pytest
import torch

from models.heads.durations import Completed
from models.heads.filter.segmented import LEVELS, SegmentedFilter, TrainingRecording


def make(seed=0, recordings=6, dim=4):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(recordings):
        labels, starts, ends, parts, at = [0, 1, 2, 1], [], [], [], 0
        for label in labels:
            length = int(torch.randint(4, 20, (1,), generator=generator)) * (label + 1)
            phase = torch.arange(length) / length
            look = [torch.cos(3 * phase + label), torch.sin(3 * phase + label), phase * 0 + label, phase]
            clean = torch.stack(look, dim=1)
            parts.append(clean + 0.2 * torch.randn(length, dim, generator=generator))
            starts.append(at)
            at += length
            ends.append(at - 1)
        made.append(TrainingRecording(torch.cat(parts), labels, starts, ends, f'p{index // 2}'))
    return made


@pytest.fixture(scope='module')
def fitted():
    filter_ = SegmentedFilter(3, 4)
    filter_.fit(make())
    filter_.weights.copy_(torch.tensor([0.2, 0.1]))
    return filter_


def arguments(filter_, recording, label_given=False):
    done = recording.completed()
    starts = [filter_.start(done[:i], done[i].label if label_given else None) for i in range(len(done))]
    return recording.segments(), starts


def naive_progress(filter_, segment, start, level):
    """Bayes' rule in loops over labels and durations, at each frame; each cell of durations is a crowd of durations."""
    grid, bins = filter_.grid, filter_.cells.bins
    by_label, by_phase = filter_.cells.log_evidence(filter_.features(segment))
    density = filter_.durations.log_density(grid.centers(), start.log_pace, start.num_known)
    log_mass = [[(start.log_label[k] + density[k].log_softmax(0)[g]).item() for g in range(grid.size)]
                for k in range(filter_.num_labels)]
    label_weight, phase_weight = filter_.weights.tolist()
    found = []
    for t in range(1, len(segment) + 1):
        crowd = []
        for k, row in enumerate(log_mass):
            for g in range(grid.size):
                # The phase of the frame if the action has this duration, in bins from the center of the first one.
                place = (t - 0.5) / grid.frames[g].item() * bins - 0.5
                phase = np.interp(place, np.arange(bins), by_phase[t - 1, k].numpy())
                row[g] += label_weight * by_label[t - 1, k].item() + phase_weight * phase
                upper, cell = grid.upper[g].item(), grid.cell.item()
                # Durations shorter than the frames so far are out; half a frame, because durations are integers.
                lowest = max(upper - cell, math.log(t - 0.5))
                if lowest < upper:
                    weight = math.exp(row[g]) * (upper - lowest) / cell
                    crowd += [(lowest + (upper - lowest) * (piece + 0.5) / 20, weight / 20) for piece in range(20)]
        durations, mass = np.array(sorted(crowd, reverse=True)).T  # progress t / L rises as L falls
        at = np.searchsorted(mass.cumsum(), level * mass.sum())
        found.append(min(t / math.exp(durations[at]), 1.0))
    return found


@pytest.mark.parametrize('level', [0, 1, 2])
def test_progress_is_that_of_a_loop_over_labels_and_durations(fitted, level):
    segments, starts = arguments(fitted, make(4)[0])
    expected = naive_progress(fitted, segments[1], starts[1], LEVELS[level])
    found = fitted.forward_dense(segments[1:2], starts[1:2])[0][:, level]
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize('label_given', [False, True])
def test_step_equals_the_batch(fitted, label_given):
    segments, starts = arguments(fitted, make(1)[0], label_given)
    outputs = fitted.forward_dense(segments, starts)
    for segment, start, output in zip(segments, starts, outputs, strict=True):
        state = None
        for t, frame in enumerate(segment):
            one, state = fitted.step(frame, state, start)
            torch.testing.assert_close(one, output[t], atol=1e-5, rtol=1e-5)
    assert fitted._cache is not None  # most steps were traced


def test_chunks_change_nothing(fitted, monkeypatch):
    segments, starts = arguments(fitted, make(2)[0])
    expected = fitted.forward_dense(segments, starts)
    monkeypatch.setattr('models.heads.filter.segmented.MOST_ENTRIES', 3 * 128 * 7)
    for a, b in zip(fitted.forward_dense(segments, starts), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_later_frames_change_nothing(fitted):
    segments, starts = arguments(fitted, make(3)[0])
    expected = fitted.forward_dense(segments, starts)
    changed = [torch.cat([s[:4], 100 * torch.randn(50, 4)]) for s in segments]
    for a, b in zip(fitted.forward_dense(changed, starts), expected, strict=True):
        torch.testing.assert_close(a[:4], b[:4], atol=1e-6, rtol=1e-6)


def test_posterior_without_sensors_is_that_of_survival():
    """Two labels with known durations: given survival past the short one, only the long one is left."""
    recordings = []
    for label, length in [(0, 10), (1, 100)] * 10:
        recordings.append(TrainingRecording(torch.randn(length, 2), [label], [0], [length - 1], f'p{len(recordings)}'))
    filter_ = SegmentedFilter(2, 2)
    filter_.fit(recordings)
    segments, starts = [torch.randn(100, 2)], [filter_.start([])]
    progress = filter_.forward_dense(segments, starts)[0][:, 0]
    ((_, elapsed, log_mass),) = filter_.log_masses(segments, starts)
    mass = log_mass[0].flatten(1).softmax(1).view_as(log_mass[0]) * filter_.grid.surviving(elapsed)[:, None]
    probability = mass.sum(2) / mass.sum((1, 2), keepdim=True)[..., 0]  # (100, 2)
    torch.testing.assert_close(probability[0], torch.tensor([0.5, 0.5]), atol=0.02, rtol=0)
    assert probability[30, 1] > 0.9
    assert abs(progress[49] - 0.5) < 0.05
    given = filter_.forward_dense(segments, [filter_.start([], 0)])[0][:, 0]
    assert abs(given[4] - 0.5) < 0.05


def test_unseen_labels_and_endless_actions_stay_finite(fitted):
    starts = [fitted.start([Completed(7, 30), Completed(-1, 3)]), fitted.start([], 9)]
    for output in fitted.forward_dense([torch.randn(5000, 4) * 50, torch.randn(1, 4)], starts):
        progress, low, high = output.unbind(1)
        assert (output > 0).all() and (output <= 1).all()
        assert (low <= progress + 1e-6).all() and (progress <= high + 1e-6).all()


def test_pace_scales_time(fitted):
    slow = [Completed(0, 60), Completed(1, 120), Completed(2, 180)] * 3
    fitted = copy.deepcopy(fitted)
    fitted.weights.zero_()
    segment = torch.randn(10, 4)
    fast = fitted.forward_dense([segment], [fitted.start([], 0)])[0][-1, 0]
    late = fitted.forward_dense([segment], [fitted.start(slow, 0)])[0][-1, 0]
    assert late < fast


def test_state_dict_round_trip(fitted, tmp_path):
    torch.save(fitted.state_dict(), tmp_path / 'f.pt')
    other = SegmentedFilter(3, 4)
    other.load_state_dict(torch.load(tmp_path / 'f.pt', weights_only=True))
    segments, starts = arguments(fitted, make(4)[0])
    for a, b in zip(fitted.forward_dense(segments, starts), other.forward_dense(segments, starts), strict=True):
        torch.testing.assert_close(a, b)
