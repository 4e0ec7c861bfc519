"""The folder of a run: where it lies and which files it holds."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from utils.atomic_write import write_json
from utils.errors import UserError

MULTI_TASK, SINGLE_TASK = 'multi-task-setting', 'single-task-setting'


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / 'ckpt'

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / 'config.json'

    @property
    def splits(self) -> Path:
        """The split in force."""
        return self.path / 'splits.json'

    @property
    def losses(self) -> Path:
        """Losses per epoch."""
        return self.path / 'losses.csv'

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / 'train.log'


def check_run_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a run folder that exists.

    Raises:
        UserError: the folder exists and ``overwrite`` is off, or it does not look like a run.
    """
    if not path.exists():
        return
    if not overwrite:
        raise UserError(f'{path}: this run exists; --overwrite replaces it, or give another VERSION or --message')
    if not path.is_dir() or (any(path.iterdir()) and not (path / 'config.json').exists()):
        raise UserError(f'{path}: exists and holds no config.json, so it is no run; move it away')


def create_run_folder(path: Path, *, overwrite: bool) -> RunFolder:
    """Make an empty run folder, replacing an earlier one only with ``overwrite``.

    Raises:
        UserError: see :func:`check_run_folder`; or the folder cannot be made.
    """
    check_run_folder(path, overwrite=overwrite)
    try:
        if path.exists():
            shutil.rmtree(path)
        (path / 'ckpt').mkdir(parents=True)
    except OSError as error:
        raise UserError(f'OUTPUT_PATH: {path} cannot be made ({error.strerror}); choose a folder that can be written'
                        ) from error
    return RunFolder(path)


def open_run_folder(path: Path) -> RunFolder:
    """Find the run folder of a path that a user gave.

    Raises:
        UserError: no such folder, or no run in it.
    """
    if not path.is_dir():
        raise UserError(f'-f {path}: no such folder; expected the run folder that training printed')
    if not (path / 'ckpt').is_dir():
        raise UserError(f'-f {path}: holds no ckpt/ with checkpoints; expected a run folder of a finished epoch')
    return RunFolder(path)


def read_json(path: Path) -> dict:
    """Read a JSON file of a run.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'{path}: missing from the run folder; train anew') from error
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: cannot be read ({error}); train anew') from error


def write_run_settings(folder: RunFolder, config: dict, splits: dict) -> None:
    """Write the resolved configuration and the split in force."""
    write_json(folder.config, config)
    write_json(folder.splits, {'splits': splits})
