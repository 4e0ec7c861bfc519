"""Feature files of other kinds and similar names: what they are, and how to convert them."""

import pickle

import numpy as np
import pytest
import torch

from recordings.feature_files import open_recording
from recordings.feature_lookup import content_of, instead_of, near_name
from utils.errors import UserError

ARRAY = np.arange(6, dtype=np.float32).reshape(3, 2)


def torch_file(path):
    torch.save(torch.from_numpy(ARRAY), path)


CONTENTS = {
    'npz': (lambda path: np.savez(path.open('wb'), x=ARRAY), 'a .npz archive of arrays', "numpy.load('a.{}')['x']"),
    'torch': (torch_file, 'a file of torch', "torch.load('a.{}', weights_only=True)"),
    'hdf5': (lambda path: path.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(99)), 'an HDF5 file', "h5py.File('a.{}')"),
    'matlab': (lambda path: path.write_bytes(b'MATLAB 5.0 MAT' + bytes(99)), 'a file of MATLAB', 'scipy.io.loadmat'),
    'pickle': (lambda path: path.write_bytes(pickle.dumps({'features': ARRAY})), 'a Python pickle', 'the array alone'),
    'video': (lambda path: path.write_bytes(bytes(4) + b'ftypisom' + bytes(99)), 'a video', 'tools.extract'),
    'json': (lambda path: path.write_text('[[0.5, 1e-3], [2, 3]]'), 'a JSON file', "json.load(open('a.{}'))"),
    'pointer': (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\n'), 'a pointer of Git LFS',
                'git lfs pull'),
    'page': (lambda path: path.write_text('<!DOCTYPE html><title>404</title>'), 'a web page', 'download the file'),
    'text': (lambda path: path.write_text('0.5,1e-3\n2,3\n'), 'a text file', "numpy.loadtxt('a.{}'"),
    'packed': (lambda path: path.write_bytes(b'\x1f\x8b' + bytes(99)), 'a compressed file', 'unpack it')}


@pytest.mark.parametrize('kind', CONTENTS)
def test_content_is_recognized_whatever_the_name_says(tmp_path, kind):
    write, what, how = CONTENTS[kind]
    path = tmp_path / 'a.npy'
    write(path)
    with pytest.raises(UserError) as caught:
        open_recording(path, 2)
    message = str(caught.value)
    assert message.startswith(f'{path}: is {what}') and ', expected a .npy array: ' in message
    assert how.format('npy') in message
    path.rename(tmp_path / 'a.bin')
    if kind not in ('text', 'json'):
        assert f'is {what}' in content_of(tmp_path / 'a.bin') and how.format('bin') in content_of(tmp_path / 'a.bin')


def test_valid_and_unknown_files_are_not_explained(tmp_path):
    np.save(tmp_path / 'a.npy', ARRAY)
    (tmp_path / 'b.npy').write_bytes(b'\x93NUMPY')
    (tmp_path / 'c.npy').write_bytes(b'\x00\x01\x02')
    assert [content_of(tmp_path / name) for name in ('a.npy', 'b.npy', 'c.npy', 'missing.npy')] == [None] * 4


@pytest.mark.parametrize(('file', 'message'), [
    ('r1_rgb.npy', 'the most similar name there is r1_rgb.npy'), ('R1.npy', 'the most similar name there is R1.npy'),
    ('v_r1.npy', 'the most similar name there is v_r1.npy'), ('r1.h5', '; r1.h5 is an HDF5 file'),
    ('r1.mp4', '; r1.mp4 is a video'), ('r1.dat', '; there is r1.dat: rename it'),
    ('r1.mat', "scipy.io.loadmat('r1.mat')"), ('rgb/r1.npy', 'there is rgb/r1.npy: give that folder'),
    ('r1/img_0001.jpg', '; r1 is a folder, expected a .npy array'), ('r1.parquet', 'pandas.read_parquet'),
    ('other.pt', 'the folder contains no .npy file: other.pt is a file of torch'), ('zzz.npy', '')])
def test_what_there_is_instead_of_a_file(tmp_path, file, message):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b'')
    found = instead_of(['r1'], tmp_path)
    assert message in found if message else found == ''


def test_similar_names():
    assert near_name('make_tea_01', ['make_tea_02x', 'make_tee_01', 'zzz']) == 'make_tee_01'
    assert near_name('S01_tea.mp4', ['s01_tea', 's02_tea']) == 's01_tea' and near_name('a', ['b', 'zzz']) is None
    assert near_name('\u00fcb', ['u\u0308b', 'zzz']) == 'u\u0308b'


def test_links_and_names_that_look_alike_are_told(tmp_path):
    (tmp_path / 'r1.npy').symlink_to('nowhere.npy')
    assert instead_of(['r1'], tmp_path) == '; r1.npy is a link to nowhere.npy, which does not exist: correct the link'
    (tmp_path / 'u\u0308b.npy').touch()
    assert '(the same letters, but composed in another way)' in instead_of(['\u00fcb'], tmp_path)
