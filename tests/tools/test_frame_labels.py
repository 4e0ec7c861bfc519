"""Frame-wise label files, mappings and bundles: segments computed by hand, and refused content."""

import re

import pytest

from tools.frame_labels import read_bundles, read_label_file, read_label_folder, read_mapping
from utils.errors import UserError


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_runs_of_one_label_are_one_segment(tmp_path):
    segments = read_label_file(write(tmp_path / 'a.txt', 'SIL\nSIL\npour\npour\npour\nSIL\npour\n'))
    assert (segments.labels, segments.starts, segments.ends) == (
        ['SIL', 'pour', 'SIL', 'pour'], [0, 2, 5, 6], [2, 5, 6, 7])
    assert segments.length == 7 and segments.source == str(tmp_path / 'a.txt')


@pytest.mark.parametrize('text', ['pour milk\r\npour milk\r\nstir\r\n', '\ufeffpour milk\npour milk\nstir',
                                  'pour milk \npour milk\nstir\n\n\n'], ids=['windows', 'byte-order-mark', 'blank-end'])
def test_foreign_line_ends_and_marks_are_ignored(tmp_path, text):
    segments = read_label_file(write(tmp_path / 'a.txt', text))
    assert (segments.labels, segments.ends) == (['pour milk', 'stir'], [2, 3])


def test_labels_may_be_written_as_indices_of_the_mapping(tmp_path):
    mapping = read_mapping(write(tmp_path / 'mapping.txt', '0 SIL\r\n1\tpour milk\r\n\r\n'))
    assert mapping == {'0': 'SIL', '1': 'pour milk'}
    assert read_label_file(write(tmp_path / 'a.txt', '1\n1\n0\n'), mapping).labels == ['pour milk', 'SIL']


def test_hidden_files_are_ignored(tmp_path):
    write(tmp_path / 'b.txt', 'x'), write(tmp_path / 'a.txt', 'x'), (tmp_path / '._a.txt').write_bytes(b'\xff\x00')
    assert list(read_label_folder(tmp_path, None)) == ['a', 'b']


def test_bundles_name_files_with_or_without_folder_and_ending(tmp_path):
    write(tmp_path / 'train.split2.bundle', 'a.txt\r\n./groundTruth/b.txt\r\n\r\n')
    write(tmp_path / 'test.split2.bundle', 'folder\\c.txt\nd')
    assert read_bundles(tmp_path, None) == (2, {'train': ['a', 'b'], 'test': ['c', 'd']})


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'a.txt: is empty'), ('\n\n', 'a.txt: is empty'), ('x\n\nx\n', 'line 2 is empty'),
    ('x\nz\n', "line 2 is 'z', which is missing in mapping.txt"), ('0\n7\n', "line 1 is '0'")])
def test_label_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_label_file(write(tmp_path / 'a.txt', text), {'0': 'x', '1': 'y'})


def test_binary_file_is_refused(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'caf\xe9')
    with pytest.raises(UserError, match='a.txt: byte 3 is not UTF-8'):
        read_label_file(tmp_path / 'a.txt')
    with pytest.raises(UserError, match='b.txt: cannot be read'):
        read_label_file(tmp_path / 'b.txt')
    with pytest.raises(UserError, match='contains no .txt file'):
        read_label_folder(tmp_path / 'none', None)


@pytest.mark.parametrize(('text', 'message'), [
    ('SIL 0', "line 1 is 'SIL 0', expected an index"), ('0 a\n1', "line 2 is '1'"), ('0 a\n0 b', 'line 2 repeats'),
    ('0 a\n1 a', 'line 2 repeats')])
def test_mappings_that_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_mapping(write(tmp_path / 'mapping.txt', text))


def test_bundles_that_are_refused(tmp_path):
    with pytest.raises(UserError, match='no bundle, expected train.split1.bundle'):
        read_bundles(tmp_path, None)
    write(tmp_path / 'train.split1.bundle', 'a.txt\nb.txt'), write(tmp_path / 'test.split1.bundle', 'b.txt')
    with pytest.raises(UserError, match="test.split1.bundle: 'b' is also in train.split1.bundle"):
        read_bundles(tmp_path, 1)
    with pytest.raises(UserError, match='expected train.split3.bundle and test.split3.bundle'):
        read_bundles(tmp_path, 3)
