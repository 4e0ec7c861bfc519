"""Which checkpoints the tables of an evaluation are of, so that tables of earlier ones are not taken for current."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from utils.errors import UserError
from utils.files import read_json, write_json

EVALUATED = 'evaluated.json'  # checkpoint, relative to the folder of the tables -> digest of its content


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_evaluated(folder: Path, checkpoints: Mapping[Path, str]) -> None:
    """Say which checkpoints the tables in a folder are of, after all tables have been written.

    Args:
        folder: folder of the tables.
        checkpoints: file -> its digest when it was evaluated.
    """
    # Relative, so that a run can be moved.
    write_json(folder / EVALUATED, {Path(os.path.relpath(path, folder)).as_posix(): value
                                    for path, value in checkpoints.items()})


def check_evaluated(folder: Path, again: str) -> None:
    """Check that the tables in a folder are complete, and of the checkpoints as they are now.

    Args:
        folder: folder of the tables.
        again: command that evaluates again.

    Raises:
        UserError: they are not.
    """
    if not (folder / EVALUATED).is_file():
        raise UserError(f'{folder}: contains no {EVALUATED}, which is written after all tables, so the evaluation has '
                        f'not ended; run: {again}')
    for name, value in read_json(folder / EVALUATED, 'the checkpoints of an evaluation').items():
        path = Path(os.path.normpath(folder / name))
        if not path.is_file():
            raise UserError(f'{path}: this checkpoint, whose tables are in {folder}, is missing; put it back, or run: '
                            f'{again}')
        if digest(path) != value:
            raise UserError(f'{path}: has been trained further since it was evaluated, so the tables in {folder} are '
                            f'not of it; run: {again}')
