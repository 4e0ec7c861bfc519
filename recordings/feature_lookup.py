"""Explain feature files that are missing or of another kind: what is there instead, and how to convert it."""

import difflib
import os
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError, name_some
from utils.text import short_text

_NPZ = ('a .npz archive of arrays', "numpy.save('{stem}.npy', numpy.load('{name}')['{array}'])")
_TORCH = ('a file of torch', "numpy.save('{stem}.npy', torch.load('{name}', weights_only=True).float().numpy()), with "
                             "['NAME'] before .float() if it contains a dictionary")
_HDF5 = ('an HDF5 file', "numpy.save('{stem}.npy', h5py.File('{name}')['NAME OF THE DATASET'][:])")
_MATLAB = ('a file of MATLAB', "numpy.save('{stem}.npy', scipy.io.loadmat('{name}')['NAME OF THE VARIABLE'])")
_PICKLE = ('a Python pickle, which could run code',
           "numpy.save('{stem}.npy', array) in the program that wrote it, with the array alone")
_TEXT = ('a text file', "numpy.save('{stem}.npy', numpy.loadtxt('{name}', delimiter=','))")
_JSON = ('a JSON file', "numpy.save('{stem}.npy', numpy.array(json.load(open('{name}')), 'float32'))")
_TABLE = ('a table for data frames', "numpy.save('{stem}.npy', pandas.read_parquet('{name}').to_numpy('float32')), or "
                                     'read_feather')
_SAFETENSORS = ('a file of safetensors', "numpy.save('{stem}.npy', safetensors.numpy.load_file('{name}')['NAME'])")
_POINTER = ('a pointer of Git LFS or git-annex, not the file itself', 'git lfs pull (or git annex get) downloads it')
_PAGE = ('a web page, perhaps of a failed download', 'download the file again')
VIDEO = 'a video'
_VIDEO = (VIDEO, 'python -m tools.extract computes features from videos')
_IMAGE = ('a picture', 'python -m tools.extract computes features from videos')
_PACKED = ('a compressed file', 'unpack it')
# Ending -> what the file is, and how to make a .npy file of it.
KINDS = {'.npz': _NPZ, '.pt': _TORCH, '.pth': _TORCH, '.h5': _HDF5, '.hdf5': _HDF5, '.hdf': _HDF5, '.mat': _MATLAB,
         '.json': _JSON, '.parquet': _TABLE, '.feather': _TABLE, '.safetensors': _SAFETENSORS,
         '.pkl': _PICKLE, '.pickle': _PICKLE, '.p': _PICKLE, '.csv': _TEXT, '.tsv': _TEXT, '.txt': _TEXT,
         '.mp4': _VIDEO, '.avi': _VIDEO, '.mov': _VIDEO, '.mkv': _VIDEO, '.webm': _VIDEO, '.m4v': _VIDEO,
         '.jpg': _IMAGE, '.jpeg': _IMAGE, '.png': _IMAGE, '.gz': _PACKED, '.zip': _PACKED, '.tar': _PACKED}
# First bytes of a file -> its kind, whatever its name says.
_SIGNATURES = {b'\x89HDF\r\n\x1a\n': _HDF5, b'MATLAB 7.3': _HDF5, b'MATLAB 5': _MATLAB, b'\x80\x02': _PICKLE,
               b'\x80\x03': _PICKLE, b'\x80\x04': _PICKLE, b'\x80\x05': _PICKLE, b'\x1aE\xdf\xa3': _VIDEO,
               b'RIFF': _VIDEO, b'\x00\x00\x01\xba': _VIDEO, b'G@': _VIDEO, b'PAR1': _TABLE, b'ARROW1': _TABLE,
               b'version https://git-lfs': _POINTER, b'/annex/objects': _POINTER, b'<!DOCTYPE': _PAGE,
               b'<!doctype': _PAGE, b'<html': _PAGE, b'\x1f\x8b': _PACKED, b'\x89PNG': _IMAGE, b'\xff\xd8\xff': _IMAGE}
NPY = b'\x93NUMPY'
MOST_NAMES = 20_000  # of a folder that are compared; more would take seconds


def content_of(path: Path) -> str | None:
    """Return what a file contains that is not a .npy array of numbers, and how to convert it; None if it is unknown.

    Args:
        path: existing file, named ``.npy`` or otherwise.
    """
    try:
        with path.open('rb') as file:
            head = file.read(256)
    except OSError:
        return None
    # A .npy file that NumPy refuses although its signature is right may hold Python objects.
    if head.startswith(NPY):
        return _objects(path) if b"'O'" in head or b'|O' in head else None
    kind = _signed(head)
    if head.startswith(b'PK\x03\x04'):  # a ZIP archive, as .npz and torch files are
        kind = _TORCH if _is_torch_archive(path) else _NPZ
    elif kind is None and path.suffix.lower() != '.npy':
        kind = KINDS.get(path.suffix.lower())
    elif kind is None and _is_text(head):
        kind = _JSON if head.lstrip().startswith(b'[') else _TEXT
    return _described(path, kind) if kind else None


def binary_kind(head: bytes) -> str | None:
    """Return what a file or stream is that begins with these bytes; None if it is unknown."""
    kind = _NPZ if head.startswith(b'PK\x03\x04') else _signed(head)
    return kind[0] if kind else None


def _signed(head: bytes) -> tuple[str, str] | None:
    if head[4:8] == b'ftyp':
        return _VIDEO
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)


def _is_text(head: bytes) -> bool:
    return len(head) > 1 and all(byte in b'0123456789+-.,;eE[] \t\r\n' for byte in head)


def _is_torch_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith('data.pkl') for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _objects(path: Path) -> str:
    # Not the usual advice to load it with allow_pickle: the file may come from others.
    return (f'contains pickled Python objects, such as {{"features": array}}, which could run code, expected a .npy '
            'array of numbers: in the program that wrote it, save the array alone: '
            f"numpy.save('{path.name}', features)")


def _described(path: Path, kind: tuple[str, str]) -> str:
    what, how = kind
    array = 'NAME OF THE ARRAY'
    if kind is _NPZ and (arrays := _arrays(path)):
        what, array = f'{what} ({name_some(arrays)})', arrays[0]
    return f'is {what}, expected a .npy array: {how.format(stem=path.stem, name=path.name, array=array)}'


def _arrays(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [short_text(name.removesuffix('.npy'), 40) for name in archive.namelist() if name.endswith('.npy')]
    except (zipfile.BadZipFile, OSError):
        return []


def instead_of(names: Sequence[str], folder: Path) -> str:
    """Return a part of a message on what a folder has instead of ``<name>.npy``; '' if nothing is similar.

    Args:
        names: names of recordings without a file.
        folder: folder that was searched.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))[:MOST_NAMES]
    except OSError:
        return ''
    files = [path for path in entries if path.is_file()]
    for name in names[:3]:
        if (path := folder / f'{name}.npy').is_symlink():
            return f'; {path.name} is a link to {os.readlink(path)}, which does not exist: correct the link'
        if same := next((path for path in files if path.stem == name and path.suffix != '.npy'), None):
            what = content_of(same)
            return f'; {same.name} {what}' if what else f'; there is {same.name}: rename it to {name}.npy if it is one'
        if near := near_name(name, [path.stem for path in files if path.suffix.lower() == '.npy']):
            same_look = ' (the same letters, but composed in another way)' if _folded(near) == _folded(name) and (
                near.casefold() != name.casefold()) else ''
            return (f'; the most similar name there is {near}.npy{same_look}: rename the files, or the handles of the '
                    'annotations')
        if inside := next((path for path in entries if path.is_dir() and (path / f'{name}.npy').exists()), None):
            return f'; there is {inside.name}/{name}.npy: give that folder, or move its files'
        if (folder / name).is_dir():
            return (f'; {name} is a folder, expected a .npy array (T, D): pictures of a recording become a video, from '
                    'which python -m tools.extract computes features')
    if files and not any(path.suffix == '.npy' for path in files):
        what = content_of(files[0])
        return f'; the folder contains no .npy file: {files[0].name} {what or "is of another kind"}'
    return ''


def near_name(name: str, others: Sequence[str]) -> str | None:
    """Return the name that is most similar to ``name``: the same except for case or an affix, or similar letters."""
    low = _folded(name)
    for matches in (lambda other: other == low, lambda other: other.startswith(low) or other.endswith(low),
                    lambda other: low.startswith(other) or low.endswith(other)):
        if found := [other for other in others if other and matches(_folded(other))]:
            return min(found, key=len)
    return next(iter(difflib.get_close_matches(name, others, 1, 0.8)), None)


def _folded(name: str) -> str:
    # macOS writes an accent as a letter of its own, which looks the same.
    return unicodedata.normalize('NFKC', name).casefold()


def refuse_other_content(path: Path, error: Exception) -> UserError:
    """Return the error for a file that NumPy cannot map, with what it contains if that is known."""
    if isinstance(error, PermissionError):
        return UserError(f'{path}: cannot be read ({error.strerror}), expected a file that you may read; change its '
                         'permissions')
    if what := content_of(path):
        return UserError(f'{path}: {what}')
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    if 'pickle' in reason:  # NumPy takes any file that it does not know for one, and advises to load it unsafely
        return UserError(f'{path}: cannot be read as a .npy array, it does not begin like one; convert it with '
                         'numpy.save, or download it again')
    return UserError(f'{path}: cannot be read as a .npy array ({reason}); it may be truncated: write it again')
