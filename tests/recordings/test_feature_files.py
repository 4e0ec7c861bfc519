"""Feature files: which files are refused, and with which message."""

import os
import resource

import numpy as np
import pytest

from benchmarks.reliability.mutations import npy_bytes
from recordings.feature_files import (
    CHUNK_BYTES,
    RecordingFile,
    check_finite,
    check_headers,
    open_recording,
    small_enough_to_check,
)
from utils.errors import UserError

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


def save(path, array):
    with path.open('wb') as file:
        np.save(file, array)
    return path


def cut(path, keep):
    save(path, FEATURES)
    path.write_bytes(path.read_bytes()[:keep])


def archive(path, keep=None):
    with path.open('wb') as file:
        np.savez(file, features=FEATURES)
    path.write_bytes(path.read_bytes()[:keep])


def with_header(header):
    """Write features with a custom header."""
    return lambda path: path.write_bytes(npy_bytes(FEATURES, header))


def break_header(path):
    path.write_bytes(save(path, FEATURES).read_bytes().replace(b'(4, 3)', b'((4, 3'))


BROKEN = {
    'truncated values': (lambda path: cut(path, -5), 'truncated'),
    'truncated header': (lambda path: cut(path, 40), 'truncated'),
    '0 bytes': (lambda path: cut(path, 0), 'cannot be read'),
    'text': (lambda path: path.write_text('0.1 0.2\n0.3 0.4\n'), 'is a text file'),
    'damaged header': (break_header, 'cannot be read'),
    'entries no dict holds': (with_header('{[]: 1}'), 'cannot be read'),
    'names that cannot be sorted': (with_header("{'descr': '<f4', 3: 4}"), 'cannot be read'),
    'nested without end': (with_header('-' * 5000 + '1'), 'cannot be read'),
    'type of too few parts': (with_header("{'descr': [('a',)], 'fortran_order': False, 'shape': (4, 3)}"),
                              'cannot be read'),
    'a negative shape': (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3)}"), 'cannot be read'),
    'a shape past all memory': (with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 3)}}"),
                                'cannot be read'),
    'a shape past the file': (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 3)}"),
                              'cannot be read'),
    'a pipe': (os.mkfifo, 'not a regular file'),
    'npz': (archive, 'is a .npz archive of arrays (features), expected a .npy array'),
    'truncated npz': (lambda path: archive(path, 60), 'is a .npz archive'),
    'a folder': (lambda path: path.mkdir(), 'cannot be read'),
    'objects': (lambda path: save(path, np.array([{'a': 1}, None])), 'pickled Python objects'),
    'integers': (lambda path: save(path, FEATURES.astype(np.int64)), 'type int64, expected float16'),
    'complex': (lambda path: save(path, FEATURES.astype(np.complex64)), 'type complex64'),
    'foreign byte order': (lambda path: save(path, FEATURES.astype(FEATURES.dtype.newbyteorder())), 'byte order'),
    'rank 0': (lambda path: save(path, np.float32(1)), 'shape (), expected (T, D)'),
    'rank 1': (lambda path: save(path, FEATURES[0]), 'shape (3,), expected (T, D)'),
    'rank 3': (lambda path: save(path, FEATURES[None]), 'shape (1, 4, 3), expected (T, D)'),
    'no frames': (lambda path: save(path, FEATURES[:0]), 'shape (0, 3) is empty'),
    'no values': (lambda path: save(path, FEATURES[:, :0]), 'shape (4, 0) is empty'),
    'missing': (lambda path: None, 'no such file'),
}


@pytest.mark.parametrize('damage', BROKEN)
def test_broken_files_are_refused_in_one_line(tmp_path, damage):
    path = tmp_path / 'kitchen.npy'
    break_it, expected = BROKEN[damage]
    break_it(path)
    with pytest.raises(UserError) as error:
        open_recording(path, 2)
    assert str(error.value).startswith(f'{path}: ') and expected in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind', [np.float16, np.float32, np.float64])
def test_floats_of_every_size_are_read_on_access(tmp_path, kind):
    array = open_recording(save(tmp_path / 'a.npy', FEATURES.astype(kind)), 2)
    assert isinstance(array, RecordingFile) and array.dtype == kind and array.shape == FEATURES.shape
    np.testing.assert_array_equal(array, FEATURES)
    assert np.asarray(array).dtype == kind and np.asarray(array, dtype=np.float32).dtype == np.float32


def test_frames_have_ndim_4(tmp_path):
    path = save(tmp_path / 'a.npy', FEATURES)
    with pytest.raises(UserError, match=r'expected \(T, C, H, W\)'):
        open_recording(path, 4)
    assert open_recording(save(path, np.ones((5, 2, 3, 3), np.float16)), 4).shape == (5, 2, 3, 3)


@pytest.mark.parametrize(('value', 'kind'), [(np.nan, np.float32), (-np.inf, np.float16), (1e300, np.float64)])
@pytest.mark.parametrize('frame', [0, 2, 3])
def test_the_first_frame_that_is_not_finite_is_named(tmp_path, monkeypatch, value, kind, frame):
    monkeypatch.setattr('recordings.feature_files.CHUNK_BYTES', 2 * 3 * np.dtype(kind).itemsize)  # two frames
    array = FEATURES.astype(kind)
    check_finite(array, tmp_path)
    array[frame:, 1] = value
    with pytest.raises(UserError, match=f'frame {frame} holds NaN or infinity'):
        check_finite(array, tmp_path)


def test_frame_larger_than_chunk_is_checked():
    array = np.broadcast_to(np.float32(1), (2, CHUNK_BYTES // 2))
    check_finite(array, 'wide')


def test_error_names_both_files_if_shapes_differ(tmp_path):
    paths = [save(tmp_path / f'{length}x{width}.npy', np.ones((length, width), np.float16))
             for length, width in ((4, 3), (9, 3), (4, 5))]
    assert check_headers(paths[:2], 2) == {paths[0]: (4, 3), paths[1]: (9, 3)}
    with pytest.raises(UserError) as error:
        check_headers(paths, 2)
    assert str(error.value).startswith(f'{paths[2]}: shape (4, 5), but {paths[0]} has')


def test_more_files_than_can_be_open_are_checked(tmp_path):
    paths = [save(tmp_path / f'{index}.npy', FEATURES) for index in range(60)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest_open = max(int(name) for name in os.listdir('/dev/fd'))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_open + 20, limits[1]))
    try:
        assert len(check_headers(paths, 2)) == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_values_are_checked_only_below_limit(tmp_path):
    paths = [save(tmp_path / f'{index}.npy', FEATURES) for index in range(2)]
    total = sum(path.stat().st_size for path in paths) / 2**30
    assert small_enough_to_check(paths, total * 1.001) and not small_enough_to_check(paths, total)
