"""The folder of a run and the files in it."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError, name_some
from utils.files import write_json
from utils.folders import replace_folder, staged_folder
from utils.locks import locked_folder

BUSY = ('another process is writing to this run; wait until it ends, or stop it; or give another VERSION or message '
        'for a second run')
MULTI_TASK, SINGLE_TASK = 'multi-task-setting', 'single-task-setting'


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run."""

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
        """The split of the recordings."""
        return self.path / 'splits.json'

    @property
    def losses(self) -> Path:
        """The losses of each epoch."""
        return self.path / 'losses.csv'

    @property
    def chosen_weights(self) -> Path:
        """Weights that the progress head chose, per epoch; absent if it chooses none."""
        return self.path / 'chosen_weights.csv'

    @property
    def log(self) -> Path:
        """The log file."""
        return self.path / 'train.log'


def check_run_folder(path: Path, *, overwrite: bool) -> None:
    """Check that a run folder may be created.

    Raises:
        UserError: the folder exists and ``overwrite`` is False, or it exists and does not look like a run, or another
            process is writing to it.
    """
    if not path.exists():
        return
    if not overwrite:
        raise UserError(f'{path}: this run exists; set overwrite (--overwrite) to replace it, or give another VERSION '
                        'or message')
    # --overwrite removes the folder, so it must be a run or empty, not any folder of the user.
    if not path.is_dir() or (any(path.iterdir()) and not (RunFolder(path).config.exists()
                                                          or is_single_task_folder(path))):
        raise UserError(f'{path}: exists and contains no config.json, so it is not a run; move it elsewhere')
    with locked_run(path):
        pass


@contextmanager
def locked_run(path: Path) -> Iterator[None]:
    """Keep other processes from writing to a run for the duration of the block; reading is always possible.

    Raises:
        UserError: another process is writing to the run.
    """
    with locked_folder(path, BUSY):
        yield


def create_run_folder(path: Path, config: dict, splits: dict, *, overwrite: bool,
                      locks: ExitStack | None = None) -> RunFolder:
    """Create a run folder with its settings atomically.

    Args:
        path: path of the folder.
        config: resolved configuration.
        splits: split of the recordings, as in a split file.
        overwrite: replace an existing run.
        locks: keeps the folder locked, as :func:`locked_run` does, until it is closed; None: it is not locked.

    Raises:
        UserError: see :func:`check_run_folder`, or the folder cannot be created; an existing run is left unchanged.
    """
    def fill(new: RunFolder) -> None:
        new.checkpoints.mkdir()
        write_json(new.config, config)
        write_json(new.splits, splits)

    return _create(path, fill, overwrite=overwrite, locks=locks)


def create_single_task_folder(path: Path, splits: dict, *, overwrite: bool,
                              locks: ExitStack | None = None) -> RunFolder:
    """Create the folder of ``singletask_train.py`` with the split of all tasks; see :func:`create_run_folder`."""
    return _create(path, lambda new: write_json(new.splits, splits), overwrite=overwrite, locks=locks)


def _create(path: Path, fill: Callable[[RunFolder], None], *, overwrite: bool, locks: ExitStack | None) -> RunFolder:
    check_run_folder(path, overwrite=overwrite)
    try:
        with staged_folder(path) as new:
            fill(RunFolder(new))
            if locks:
                locks.enter_context(locked_run(new))  # before it gets its name: no other process can come first
            # Whoever holds the lock of the earlier run is the only one that may replace it.
            with locked_run(path) if path.exists() else nullcontext():
                replace_folder(new, path)
    except UserError as error:  # name the folder that the user asked for, not the temporary one
        raise UserError(str(error).replace(str(new), str(path))) from error
    except OSError as error:
        raise UserError(f'{path}: cannot be made ({error.strerror}); set OUTPUT_PATH to a folder that can be written'
                        ) from error
    return RunFolder(path)


def open_run_folder(path: Path) -> RunFolder:
    """Return the run folder at a path that a user passed.

    Raises:
        UserError: the folder does not exist or does not contain a run.
    """
    if not path.is_dir():
        names = [other.name for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []
        nearest = [path.with_name(name) for name in difflib.get_close_matches(path.name, names, n=1)]
        raise UserError(f'{path}: no such run folder; expected the one that training printed'
                        + _perhaps(nearest or _runs_near(path)))
    if not RunFolder(path).checkpoints.is_dir():
        raise UserError(f'{path}: contains no ckpt/ with checkpoints; expected a run folder of a finished epoch'
                        + _perhaps(_runs_near(path)))
    return RunFolder(path)


def _runs_near(path: Path) -> list[Path]:
    """Return the run that a path is in, such as its ckpt/, or the runs in it, such as those of single tasks."""
    around = [folder for folder in (path.parent, path.parent.parent) if RunFolder(folder).checkpoints.is_dir()]
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return around or [folder for folder in inside if RunFolder(folder).checkpoints.is_dir()]


def _perhaps(runs: Sequence[Path]) -> str:
    return f', perhaps {name_some([str(run) for run in runs], 3)}' if runs else ''


def is_single_task_folder(path: Path) -> bool:
    """Return True if this is a folder of ``singletask_train.py``, which contains a run per task and their split."""
    run = RunFolder(path)
    return run.splits.exists() and not run.config.exists() and not run.checkpoints.exists()
