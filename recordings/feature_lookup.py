"""Explain feature files that are missing or of another kind: what is there instead, and how to convert it."""

import difflib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError

_NPZ = ('a .npz archive of arrays', "numpy.save('{stem}.npy', numpy.load('{name}')['NAME OF THE ARRAY'])")
_TORCH = ('a file of torch', "numpy.save('{stem}.npy', torch.load('{name}', weights_only=True).float().numpy())")
_HDF5 = ('an HDF5 file', "numpy.save('{stem}.npy', h5py.File('{name}')['NAME OF THE DATASET'][:])")
_MATLAB = ('a file of MATLAB', "numpy.save('{stem}.npy', scipy.io.loadmat('{name}')['NAME OF THE VARIABLE'])")
_PICKLE = ('a Python pickle, which could run code',
           "numpy.save('{stem}.npy', array) in the program that wrote it, with the array alone")
_TEXT = ('a text file', "numpy.save('{stem}.npy', numpy.loadtxt('{name}', delimiter=','))")
_VIDEO = ('a video', 'python -m tools.extract computes features from videos')
_IMAGE = ('a picture', 'python -m tools.extract computes features from videos')
_PACKED = ('a compressed file', 'unpack it')
# Ending -> what the file is, and how to make a .npy file of it.
KINDS = {'.npz': _NPZ, '.pt': _TORCH, '.pth': _TORCH, '.h5': _HDF5, '.hdf5': _HDF5, '.hdf': _HDF5, '.mat': _MATLAB,
         '.pkl': _PICKLE, '.pickle': _PICKLE, '.p': _PICKLE, '.csv': _TEXT, '.tsv': _TEXT, '.txt': _TEXT,
         '.mp4': _VIDEO, '.avi': _VIDEO, '.mov': _VIDEO, '.mkv': _VIDEO, '.webm': _VIDEO, '.m4v': _VIDEO,
         '.jpg': _IMAGE, '.jpeg': _IMAGE, '.png': _IMAGE, '.gz': _PACKED, '.zip': _PACKED, '.tar': _PACKED}
# First bytes of a file -> its kind, whatever its name says.
_SIGNATURES = {b'\x89HDF\r\n\x1a\n': _HDF5, b'MATLAB 7.3': _HDF5, b'MATLAB 5': _MATLAB, b'\x80\x02': _PICKLE,
               b'\x80\x03': _PICKLE, b'\x80\x04': _PICKLE, b'\x80\x05': _PICKLE, b'\x1aE\xdf\xa3': _VIDEO,
               b'RIFF': _VIDEO, b'\x1f\x8b': _PACKED, b'\x89PNG': _IMAGE, b'\xff\xd8\xff': _IMAGE}
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
    kind = next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)
    if head.startswith(b'PK\x03\x04'):  # a ZIP archive, as .npz and torch files are
        kind = _TORCH if _is_torch_archive(path) else _NPZ
    elif head[4:8] == b'ftyp':
        kind = _VIDEO
    elif kind is None and path.suffix.lower() != '.npy':
        kind = KINDS.get(path.suffix.lower())
    elif kind is None and _is_text(head):
        kind = _TEXT
    return _described(path, kind) if kind else None


def _is_text(head: bytes) -> bool:
    return len(head) > 1 and all(byte in b'0123456789+-.,;eE \t\r\n' for byte in head)


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
    return f'is {what}, expected a .npy array: {how.format(stem=path.stem, name=path.name)}'


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
        if same := next((path for path in files if path.stem == name and path.suffix != '.npy'), None):
            what = content_of(same)
            return f'; {same.name} {what}' if what else f'; there is {same.name}: rename it to {name}.npy if it is one'
        if near := near_name(name, [path.stem for path in files if path.suffix.lower() == '.npy']):
            return f'; the most similar name there is {near}.npy: rename the files, or the handles of the annotations'
        if inside := next((path for path in entries if path.is_dir() and (path / f'{name}.npy').exists()), None):
            return f'; there is {inside.name}/{name}.npy: give that folder, or move its files'
    if files and not any(path.suffix == '.npy' for path in files):
        what = content_of(files[0])
        return f'; the folder contains no .npy file: {files[0].name} {what or "is of another kind"}'
    return ''


def near_name(name: str, others: Sequence[str]) -> str | None:
    """Return the name that is most similar to ``name``: the same except for case or an affix, or similar letters."""
    low = name.casefold()
    for matches in (lambda other: other == low, lambda other: other.startswith(low) or other.endswith(low),
                    lambda other: low.startswith(other) or low.endswith(other)):
        if found := [other for other in others if other and matches(other.casefold())]:
            return min(found, key=len)
    return next(iter(difflib.get_close_matches(name, others, 1, 0.8)), None)


def refuse_other_content(path: Path, error: Exception) -> UserError:
    """Return the error for a file that NumPy cannot map, with what it contains if that is known."""
    if what := content_of(path):
        return UserError(f'{path}: {what}')
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    return UserError(f'{path}: cannot be read as a .npy array ({reason}); it may be truncated: write it again')
