"""Atomic writing of files and folders, and reading of JSON with one-line errors."""

import csv
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import UserError

PARTIAL_NAME = re.compile(r'\..*\.(\d+)\.partial(\..*)?')  # see atomic_path; the number is the process ID
CSV, JSON_LINES = 'csv', 'jsonl'
ROW_FORMATS = (CSV, JSON_LINES)  # of what predict.py writes and prints


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` (with the same suffix) and rename it to ``path`` if the block succeeds.

    Content and name are synced to disk on return. A killed process leaves the temporary file behind. Its name begins
    with a dot, so no program mistakes it for a result; :func:`remove_leftovers` removes it.

    Raises:
        UserError: the file cannot be written (no permission, disk full). An existing file is left unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
    try:
        yield temporary
        with temporary.open('r+b') as written:  # some systems do not sync files opened read-only
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error}); free some space or choose another '
                        'place') from error
    finally:
        with suppress(OSError):  # an error of writing has been raised above; do not hide it
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk; otherwise a renamed file may have its old content after a power failure."""
    with suppress(OSError):  # some systems and network drives cannot sync folders; the file itself is complete
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes from a folder, but not those of running processes.

    Call it before this process writes to the folder.
    """
    with suppress(OSError):  # leftovers are harmless, so failing to remove them is not an error
        for path in list(folder.iterdir()):
            match = PARTIAL_NAME.fullmatch(path.name)
            if match and not is_another_process(int(match[1])):
                path.unlink(missing_ok=True)


def is_another_process(number: int) -> bool:
    """Return True if a process other than this one has this process ID."""
    if number == os.getpid():  # in a container, a restarted run often gets the process ID it had before
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it belongs to another user
    return True


def read_json(path: Path, expected: str, fix: str = 'write it again as UTF-8 text') -> object:
    """Read a JSON file, with or without a byte order mark.

    Args:
        path: path of the file.
        expected: expected content, for the message.
        fix: how to fix content that is not valid JSON, for the message.

    Raises:
        UserError: the file cannot be read, is not valid JSON in UTF-8, or repeats a key within an object.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'), object_pairs_hook=unique_keys(str(path)))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected {expected}') from error
    except json.JSONDecodeError as error:
        raise UserError(f'{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); it may '
                        f'be cut off: {fix}') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: not valid JSON ({" ".join(str(error).split())}); {fix}') from error


def write_json(path: Path | str, content: object) -> None:
    """Write ``content`` as indented JSON, atomically.

    Raises:
        UserError: the file cannot be written, or a number is NaN or infinity, which JSON does not have.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    except ValueError as error:
        raise UserError(f'{path}: not written, it would contain NaN or infinity, expected finite numbers; correct the '
                        'setting or the file that they come from') from error
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_csv(path: Path | str, columns: Iterable[str], rows: Iterable[Sequence], *, line_end: str = '\r\n') -> None:
    """Write a CSV file, atomically.

    Args:
        path: path of the file.
        columns: names of the columns.
        rows: values of each row; None becomes an empty cell.
        line_end: line terminator.
    """
    with atomic_path(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator=line_end)
        writer.writerow(columns)
        writer.writerows(rows)


def expand_home(path: Path, source: str) -> Path:
    """Return a path with ``~`` or ``~name`` at its beginning replaced by the home folder.

    Args:
        path: path as given.
        source: option or variable that it comes from, for the message.

    Raises:
        UserError: there is no such user, or no home folder.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f'{source}{path}: there is no home folder for {path.parts[0]}, expected ~ or ~USER of a user '
                        'of this machine; give the whole path') from error


def is_writable(text: str) -> bool:
    """Return True if a text can be encoded as UTF-8; text from JSON can contain unpaired surrogates, which cannot."""
    return text.isascii() or all(unicodedata.category(letter) != 'Cs' for letter in text)


def unique_keys(source: str) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    """Return an ``object_pairs_hook`` that refuses repeated keys; by default, json silently uses the last one.

    Args:
        source: source of the text, for the message of the UserError.
    """
    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f'{source}: {twice!r:.60} stands twice in one object; expected once: rename or remove one')
        return content
    return build


def make_folder(folder: Path, advice: str) -> None:
    """Create a folder and its parents unless they exist.

    Args:
        folder: path of the folder.
        advice: what to do if it cannot be created, for the message.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{folder}: cannot be made ({error.strerror}); {advice}') from error


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder next to ``path``, to be filled and then moved to ``path`` by :func:`replace_folder`.

    If it has not been moved at the end of the block, it is removed. Such folders of killed processes are removed first.
    A symbolic link is resolved.
    """
    path = path.resolve()
    _remove_leftovers(path)
    staged = _next_to(path, 'new')
    try:
        staged.mkdir(parents=True)
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Rename folder ``new`` to ``path``; an existing folder is removed, or restored if renaming fails.

    If ``path`` is a symbolic link, its target is replaced.
    """
    path = path.resolve()
    if not path.exists():
        new.rename(path)
        return
    old = _next_to(path, 'old')
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _next_to(path: Path, state: str) -> Path:
    return path.with_name(f'.{path.name}.{os.getpid()}.{state}')


def _remove_leftovers(path: Path) -> None:
    """Remove folders that killed processes were creating or replacing, but not those of running processes."""
    leftover = re.compile(rf'\.{re.escape(path.name)}\.(\d+)\.(new|old)')
    for folder in path.parent.iterdir() if path.parent.is_dir() else ():
        match = leftover.fullmatch(folder.name)
        if match and not is_another_process(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)
