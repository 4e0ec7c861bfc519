"""Appending to feature files, and the description that allows only one kind of features in a folder."""

import json
import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from recordings.feature_info import (
    FILE_NAME,
    FeatureInfo,
    check_folder,
    claim_folder,
    feature_rate,
    read_feature_info,
    write_feature_info,
)
from recordings.feature_writer import FeatureWriter, remove_partial_files
from utils.errors import UserError

INFO = FeatureInfo('small', 'sha256:1', Fraction(30000, 1001), 16, 'features', (3,))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('shape', [(3,), (2, 3, 3)])
def test_appended_file_equals_saved_file(tmp_path, dtype, shape):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(length, *shape)).astype(np.float32) for length in (4, 1, 2000)]
    writer = FeatureWriter(tmp_path / 'a.npy', shape, dtype)
    for part in parts:
        writer.append(part)
        assert not (tmp_path / 'a.npy').exists()
    writer.finish()
    writer.abandon()  # has no effect any more
    assert files(tmp_path) == ['a.npy'] and writer.num_frames == 2005
    loaded = np.load(tmp_path / 'a.npy', mmap_mode='r')
    assert loaded.dtype == dtype and np.array_equal(loaded, np.concatenate(parts).astype(dtype))


def test_abandoned_file_is_removed_and_bad_values_are_refused(tmp_path):
    writer = FeatureWriter(tmp_path / 'a.npy', (3,), 'float16')
    for value in (np.nan, 1e6):
        with pytest.raises(UserError, match='too large for float16'):
            writer.append(np.full((1, 3), value))
    writer.abandon()
    assert files(tmp_path) == []
    with pytest.raises(UserError, match='cannot be written'):
        FeatureWriter(tmp_path / 'missing' / 'a.npy', (3,), 'float32')


def test_only_partial_files_of_dead_processes_are_removed(tmp_path):
    dead = 2**22 + 1  # above the largest number of a process
    names = [f'.a.{dead}.partial.npy', f'.b.{dead}.partial.npy', f'.a.{os.getppid()}.partial.npy', 'a.npy']
    for name in (*names, f'.features.{dead}-0a1b2c3d.partial.json'):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path, {'a'})
    assert files(tmp_path) == sorted(names[1:])


def test_description_round_trips_and_gives_rate(tmp_path):
    assert read_feature_info(tmp_path) is None and feature_rate(tmp_path) is None
    claim_folder(tmp_path, INFO)
    content = (tmp_path / FILE_NAME).read_text()
    claim_folder(tmp_path, INFO)
    assert read_feature_info(tmp_path) == INFO and feature_rate(tmp_path) == Fraction(30000, 1001)
    assert files(tmp_path) == [FILE_NAME] and (tmp_path / FILE_NAME).read_text() == content
    write_feature_info(tmp_path, replace(INFO, fps=Fraction(4)))
    assert json.loads((tmp_path / FILE_NAME).read_text())['fps'] == 4


@pytest.mark.parametrize(('change', 'message'), [
    ({'fps': Fraction(4)}, 'fps: 30000/1001, not 4'), ({'version': 'sha256:2'}, 'version: sha256:1, not sha256:2'),
    ({'image_size': 8}, 'image_size: 16, not 8'), ({'shape': (4,)}, 'shape: 3, not 4'),
    ({'dtype': 'float16'}, 'dtype'), ({'encoder': 'other', 'version': 'x'}, 'encoder: small, not other')])
def test_another_kind_of_features_is_refused(tmp_path, change, message):
    claim_folder(tmp_path, INFO)
    with pytest.raises(UserError, match=message):
        claim_folder(tmp_path, replace(INFO, **change))
    assert read_feature_info(tmp_path) == INFO


def test_encoder_may_have_two_names(tmp_path):
    claim_folder(tmp_path, INFO)
    claim_folder(tmp_path, replace(INFO, encoder='hf:/moved/to/another/place'))


def test_foreign_features_are_not_mixed(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty/.a.999999999-0123abcd.partial.npy').touch()  # of a command that was killed
    claim_folder(tmp_path / 'empty', INFO)
    np.save(tmp_path / 'a.npy', np.zeros((2, 3)))
    with pytest.raises(UserError, match=r'tools.extract did not write \(a.npy\)'):
        claim_folder(tmp_path, INFO)
    with pytest.raises(UserError, match='no such file any more'):
        check_folder(tmp_path, INFO)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"fps": 0}', 'null', '\xff', '{"fps": 1, "fps": 2}', '[' * 100000,
                                  '{"encoder": "a", "version": "b", "fps": "1/0", "image_size": 1, "kind": "features", '
                                  '"shape": [1]}'])
def test_invalid_description_gives_one_line(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text, encoding='latin-1')
    with pytest.raises(UserError, match=FILE_NAME) as error:
        read_feature_info(tmp_path)
    assert '\n' not in str(error.value)
