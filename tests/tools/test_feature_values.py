"""Notes on the values of features: copies, constant dimensions, frozen recordings, scales."""

import numpy as np
import pytest

from recordings.feature_files import CHUNK_BYTES
from tools import feature_values
from tools.feature_values import constant_in_training, copies, copies_in_two_parts, summarize, value_notes


def random(seed, frames=40, dims=4, scale=1.0, offset=0.0):
    return (np.random.default_rng(seed).normal(size=(frames, dims)) * scale + offset).astype(np.float32)


def notes_on(arrays):
    return value_notes({name: summarize(array) for name, array in arrays.items()})


def test_summary_is_that_of_the_whole_array_in_any_chunks(monkeypatch):
    array = random(0, frames=37, offset=1e4)
    frames = np.random.default_rng(1).normal(size=(9, 3, 2, 2)).astype(np.float16)
    whole = summarize(array)
    monkeypatch.setattr(feature_values, 'CHUNK_BYTES', array[0].nbytes * 4 * 5)
    assert CHUNK_BYTES > array.nbytes and summarize(array).digest == whole.digest
    for view in (whole, summarize(array)):
        np.testing.assert_allclose(view.mean, array.astype(float).mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(view.std, array.astype(float).std(axis=0), rtol=1e-6)
        assert (view.low == array.min(axis=0)).all() and (view.high == array.max(axis=0)).all()
    view = summarize(frames)
    np.testing.assert_allclose(view.mean, frames.astype(float).mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(view.std, frames.astype(float).std(axis=(0, 2, 3)), rtol=1e-5)


def test_copies_are_found_in_another_precision_and_length():
    array = random(0)
    arrays = {'a': array, 'half': array.astype(np.float16), 'b': random(2),
              'longer': np.concatenate([array, random(1)]), 'short': random(3, frames=5),
              'short copy': random(3, frames=5), 'near': array * 1.01}
    groups = copies({name: summarize(values) for name, values in arrays.items()})
    assert groups == [['a', 'half', 'longer'], ['short', 'short copy']]
    parts = {'train': ['a', 'b'], 'val': [], 'test': ['longer', 'short', 'short copy']}
    assert [note.split(' have')[0] for note in copies_in_two_parts(groups, parts)] == ['a (train) and longer (test)']


def test_black_recordings_are_frozen_but_no_copies():
    still = {name: np.repeat(random(seed, frames=1), 40, axis=0) for seed, name in enumerate('ab')}
    found = notes_on({**still, 'c': random(5)})
    assert found == ['the features of 2 recordings do not change over time: a, b; extract them again']


@pytest.mark.parametrize(('arrays', 'expected'), [
    ({'a': random(0), 'b': random(1), 'c': random(2)}, []),
    ({'a': random(0, scale=1e-6), 'b': random(1, scale=1e-6)}, ['but networks expect values']),
    ({'a': random(0, scale=1e6), 'b': random(1, scale=1e6)}, ['but networks expect values']),
    ({'a': random(0, offset=1e5), 'b': random(1, offset=1e5)}, ['are near 1e+05 and vary by only']),
    ({'a': np.concatenate([random(0), np.zeros((20, 4))]), 'b': random(1)}, ['many frames repeat the frame before']),
    ({'a': random(0) * [1, 1, 1, 1e5], 'b': random(1) * [1, 1, 1, 1e5]}, ['dimension 3 varies by']),
    ({'a': random(0) * [1, 0, 1, 1], 'b': random(1) * [1, 0, 1, 1]}, ['1 of 4 feature dimensions have one value']),
    ({'a': random(0), 'b': random(1), 'c': random(2, scale=100)}, ['1 recordings have another scale']),
    ({'a': random(0), 'b': random(1, dims=5)}, []), ({}, [])])
def test_unusual_values_are_named(arrays, expected):
    found = notes_on({name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()})
    assert len(found) == len(expected) and all(text in note for text, note in zip(expected, found, strict=True)), found


def test_dimensions_that_only_training_lacks():
    values = {'a': summarize(random(0) * [1, 0, 1, 0]), 'b': summarize(random(1) * [1, 1, 1, 0])}
    assert constant_in_training(values, ['a']) == (
        '1 of 4 feature dimensions have one value in the training recordings, but not in the others: 1')
    assert constant_in_training(values, ['a', 'b']) is constant_in_training(values, []) is None
