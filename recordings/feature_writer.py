"""Write feature files while a video is read: the number of frames is known only at the end."""

from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from recordings.feature_info import FILE_NAME
from utils.errors import UserError
from utils.files import PARTIAL_NAME, atomic_path, is_leftover


class _AbandonedError(Exception):
    """Ends writing a file without moving it into place."""


class FeatureWriter:
    """Append frames to a ``.npy`` file (T, ...); the file appears at its path only with :meth:`finish`.

    Args:
        path: path of the file.
        shape: shape of one frame.
        dtype: dtype of the values, 'float32' or 'float16'.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.path, self.num_frames = path, 0
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_path(path))
        try:
            self._file = self._stack.enter_context(temporary.open('wb'))
            self._write_header()
        except OSError as error:
            raise self._unwritable(error) from error

    def _write_header(self) -> None:
        # NumPy pads the header so that the first axis can grow: finish() overwrites the header in place.
        npy.write_array_header_1_0(self._file, {'shape': (self.num_frames, *self._shape), 'fortran_order': False,
                                                'descr': npy.dtype_to_descr(self._dtype)})

    def append(self, frames: np.ndarray) -> None:
        """Append frames (n, ...).

        Raises:
            UserError: a value is not finite in the file's dtype, or the file cannot be written.
        """
        with np.errstate(over='ignore'):  # overflow becomes infinity, which is refused below
            values = np.ascontiguousarray(frames, dtype=self._dtype)
        if values.shape[1:] != self._shape:
            raise ValueError(f'frames of shape {values.shape[1:]}, expected {self._shape}')
        if not np.isfinite(values).all():
            raise UserError(f'{self.path}: the encoder gives NaN, infinity, or values too large for {self._dtype}; '
                            'extract without --float16, or with another encoder')
        try:
            self._file.write(values.data)
        except OSError as error:
            raise self._unwritable(error) from error
        self.num_frames += len(values)

    def finish(self) -> None:
        """Write the final header and move the file into place.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            # The first header says 0 frames; it is as long as the final one, see _write_header.
            self._file.seek(0)
            self._write_header()
        except OSError as error:
            raise self._unwritable(error) from error
        self._stack.close()

    def abandon(self) -> None:
        """Remove what was written so far; has no effect after :meth:`finish`."""
        # An exception within the stack makes atomic_path remove its temporary file.
        with suppress(_AbandonedError, OSError, UserError), self._stack:
            raise _AbandonedError

    def _unwritable(self, error: OSError) -> UserError:
        self.abandon()
        return UserError(f'{self.path}: cannot be written ({error.strerror or error}); free some space or choose '
                         'another place')


def remove_partial_files(folder: Path, names: Collection[str]) -> None:
    """Remove partial files that killed processes left; other machines may be writing other files of the folder.

    Args:
        folder: folder of the files.
        names: names of the files to clean up, without '.npy'.
    """
    for leftover in list(folder.glob('.*.partial.*')):
        match = PARTIAL_NAME.fullmatch(leftover.name)
        if match and (match[1] in names or match[1] + match[3] == FILE_NAME) and is_leftover(leftover):
            leftover.unlink(missing_ok=True)
