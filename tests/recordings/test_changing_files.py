"""Feature files that are replaced, rewritten or cut while they are read: an error, never a crash or wrong frames."""

import os

import numpy as np
import pytest

from recordings.feature_files import check_finite, open_recording
from recordings.json_dataset import Recording, RecordingDataset
from utils.errors import UserError


def save(path, array):
    np.save(path, array)
    os.utime(path, ns=(1, 1))  # so that a change shows, even on a disk whose clock is coarse
    return path


def cut(path):
    os.truncate(path, 200)


def replace(path):
    np.save(path.with_name('other.npy'), np.zeros((50, 4), np.float32))
    os.replace(path.with_name('other.npy'), path)


def rewrite(path):
    np.save(path, np.zeros((50, 4), np.float32))


CHANGES = [cut, replace, rewrite]


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('read', [
    lambda array, path: check_finite(array, path), lambda array, path: np.asarray(array), lambda array, path: array[3],
    lambda array, path: array[np.array([1, 2, 7])], lambda array, path: array[::7]])
def test_open_file_that_changes(tmp_path, change, order, read):
    path = save(tmp_path / 'a.npy', np.asarray(np.ones((50, 4), np.float32), order=order))
    array = open_recording(path, 2)
    read(array, path)
    change(path)
    with pytest.raises(UserError, match='a.npy: has changed while it was read'):
        read(array, path)


@pytest.mark.parametrize('shape', [(49, 4), (3, 4), (100, 4), (50, 5)])
@pytest.mark.parametrize('frames', [False, True])
def test_dataset_whose_file_gets_another_shape(tmp_path, shape, frames):
    more = (2, 2) if frames else ()
    path = save(tmp_path / 'a.npy', np.ones((50, 4, *more), np.float32))
    dataset = RecordingDataset([Recording('tea', 'a', path, 50, 4, (), ())], frames=frames)
    dataset[0]
    np.save(path, np.ones((*shape, *more), np.float32))
    with pytest.raises(UserError, match='a.npy: .* its annotations belong to other frames'):
        dataset[0]


@pytest.mark.parametrize('value', [np.nan, np.inf, 1.0])
def test_values_of_a_file_that_changes_are_checked_again(tmp_path, value):
    path = save(tmp_path / 'a.npy', np.ones((50, 4), np.float32))
    dataset = RecordingDataset([Recording('tea', 'a', path, 50, 4, (), (), stamp=open_recording(path, 2).stamp)])
    dataset[0]
    np.save(path, np.full((50, 4), value, np.float32))
    if np.isfinite(value):
        assert dataset[0][0].tolist() == [[1.0] * 4] * 50
    else:
        with pytest.raises(UserError, match='frame 0 holds NaN or infinity'):
            dataset[0]


@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('index', [0, -1, 5, slice(None), slice(3, 40, 7), slice(60, 70), slice(None, None, 3),
                                   np.array([0, 1, 2, 10, 11, 49]), np.array([4])])
def test_reads_what_numpy_reads(tmp_path, order, index):
    values = np.asarray(np.random.default_rng(0).normal(size=(50, 3, 2, 2)).astype(np.float16), order=order)
    array = open_recording(save(tmp_path / 'a.npy', values), 4)
    np.testing.assert_array_equal(array[index], values[index])
    assert array[index].shape == values[index].shape and array[index].flags.writeable
