"""Which frames are matched, to which, and which are left out."""

import numpy as np
import pytest
import torch

from alignment.forward_backward import PathPosterior
from alignment.matching import UNMATCHED, FrameMatches, decide, match_frames, partners, windowed_sum
from tests.alignment.steps import recording

STEPS = [(0, 12), (1, 20), (2, 15)]


def starts(steps):
    """Label -> its first frame."""
    ends = np.cumsum([frames for _, frames in steps])
    return {label: int(end) - frames for (label, frames), end in zip(steps, ends, strict=True)}


def matches_of(frames, confidence=None):
    frames = np.array(frames)
    whole = np.ones(len(frames)) if confidence is None else np.array(confidence)
    return FrameMatches(frames, whole, None, 0.0)


def test_windowed_sums():
    values = np.array([[1, 2, 3, 4]])
    assert windowed_sum(values, 1).tolist() == [[3, 6, 9, 7]]
    assert windowed_sum(values, 9).tolist() == [[10] * 4]


def test_a_decision_by_hand():
    # Frame 0: most around place 5, although place 0 has the largest single value. Frame 1: rather nothing.
    matched = np.array([[0.3, 0, 0, 0, 0.2, 0.2, 0.2, 0.1], [0.4, 0, 0, 0, 0, 0, 0, 0]])
    frames, confidence = decide(PathPosterior(matched, np.array([0, 0.6])))
    assert frames.tolist() == [5, UNMATCHED] and confidence == pytest.approx([0.7, 0.6])


def test_a_recording_matches_itself_frame_by_frame():
    embedding, _ = recording(STEPS)
    found = match_frames(embedding, embedding)
    np.testing.assert_array_equal(found.frames, np.arange(len(embedding)))
    assert found.cost < 1e-6 and found.confidence.min() > 0.9


@pytest.mark.parametrize('pace', [0.5, 1, 3])
def test_another_pace_keeps_order_and_phase(pace):
    reference, _ = recording(STEPS)
    other, _ = recording([(label, round(pace * frames)) for label, frames in STEPS], seed=1)
    found = match_frames(other, reference)
    assert found.matched.all()
    np.testing.assert_allclose(found.frames / len(reference), np.arange(len(other)) / len(other), atol=0.12)


def test_a_changed_order_and_a_repetition_are_followed():
    steps = [(2, 15), (0, 12), (1, 20), (0, 12)]
    reference, labels = recording(STEPS)
    other, true = recording(steps, seed=1)
    found = match_frames(other, reference)
    assert np.mean([labels[match] == label for match, label in zip(found.frames, true, strict=True)]) > 0.95


@pytest.mark.parametrize('unseen', [3, 4])
def test_an_unseen_step_is_left_out_and_the_others_are_not(unseen):
    reference, _ = recording(STEPS)
    other, true = recording([(0, 12), (unseen, 15), (1, 20), (2, 15)], seed=1)
    found = match_frames(other, reference)
    assert np.mean(found.matched == (np.array(true) != str(unseen))) > 0.95


@pytest.mark.parametrize('scale', [1e-4, 1e4])
def test_the_scale_and_a_rotation_of_the_embedding_do_not_matter(scale):
    reference, other = recording(STEPS)[0], recording([(0, 12), (4, 15), (1, 20)], seed=1)[0]
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))[0]
    expected, found = match_frames(other, reference), match_frames(scale * other @ turn, scale * reference @ turn)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-3)
    assert found.cost == pytest.approx(scale * expected.cost, rel=1e-4)


@pytest.mark.parametrize(('frames', 'size'), [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_short_and_constant_recordings_match(frames, size):
    found = match_frames(torch.ones(frames, 4), torch.ones(size, 4))
    assert found.frames.shape == found.confidence.shape == (frames,) and found.matched.all() and found.cost == 0


@pytest.mark.parametrize(('frames', 'size', 'expected'), [
    ([0, 1, 2], 3, [0, 1, 2]),
    ([0, 0, 1, 1], 2, [0, 2]),  # of several, the closest to the previous partner
    ([1, 3], 4, [0, 0, 0, 1]),  # a fast recording skips frames; of two as close, the one shown before
    ([0, UNMATCHED, 1], 9, [0, 2, 2, 2, 2, -1, -1, -1, -1]),
    ([5, 6, 0, 1], 7, [2, 3, 3, 3, 0, 0, 1]),  # another order
    ([0, 1, 0, 1], 2, [0, 1]),  # a repetition
    ([UNMATCHED] * 2, 2, [UNMATCHED] * 2)])
def test_partners_of_the_reference_frames(frames, size, expected):
    assert partners(matches_of(frames), size).tolist() == expected
