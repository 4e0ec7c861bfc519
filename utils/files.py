"""Files and folders that are written whole or not at all, and what JSON needs besides Python's own module."""

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

PARTIAL_NAME = re.compile(r'\..*\.(\d+)\.partial(\..*)?')  # see atomic_path; the number is that of the process


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same ending) and rename it onto ``path`` when the block succeeds.

    Both file and name are on the disk when this returns. A killed process leaves the temporary file, whose name begins
    with a dot, so that nothing takes it for a result; :func:`remove_leftovers` removes it.

    Raises:
        UserError: the file cannot be written (no permission, disk full). An earlier file is left as it was.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
    try:
        yield temporary
        with temporary.open('r+b') as written:  # not every system syncs what is open for reading
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror or error}); free some space or choose another '
                        'place') from error
    finally:
        with suppress(OSError):  # where nothing can be written nothing can be removed; the error is told above
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: after a loss of power a renamed file may else have its old content."""
    with suppress(OSError):  # some systems and network drives know no such thing; the file itself is whole there
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing in a folder; what a living one is writing stays.

    To be called before this process writes there.
    """
    with suppress(OSError):  # leftovers do no harm: where they cannot be removed they stay
        for path in list(folder.iterdir()):
            match = PARTIAL_NAME.fullmatch(path.name)
            if match and not is_another_process(int(match[1])):
                path.unlink(missing_ok=True)


def is_another_process(number: int) -> bool:
    """Say whether another process of that number is alive here; in a container a run often has its old number again."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True


def read_json(path: Path, expected: str, fix: str = 'write it again as UTF-8 text') -> object:
    """Read a JSON file, with or without a byte order mark.

    Args:
        path: the file.
        expected: what should be there, for the message.
        fix: what to do about content that is not valid JSON, for the message.

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
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')


def write_csv(path: Path | str, columns: Iterable[str], rows: Iterable[Sequence], *, line_end: str = '\r\n') -> None:
    """Write a CSV file, atomically.

    Args:
        path: the file.
        columns: names of the columns, its first line.
        rows: values of each row; None is left empty.
        line_end: of every line.
    """
    with atomic_path(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator=line_end)
        writer.writerow(columns)
        writer.writerows(rows)


def is_writable(text: str) -> bool:
    """Say whether a text can be written as UTF-8: JSON can hold half characters, which cannot."""
    return text.isascii() or all(unicodedata.category(letter) != 'Cs' for letter in text)


def unique_keys(source: str) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    """Return an ``object_pairs_hook`` for json, which would let the second of two keys with one name silently win.

    Args:
        source: of the text, for the message of the UserError that a key raises which stands twice.
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
    """Make a folder and those above it, unless they are there.

    Args:
        folder: to be made.
        advice: what to do if it cannot be made.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{folder}: cannot be made ({error.strerror}); {advice}') from error


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, to be filled and put in its place by :func:`replace_folder`.

    It is removed at the end of the block where it is still there; what killed processes left of such folders is removed
    at the beginning. Of a link, the folder that it leads to counts.
    """
    path = path.resolve()
    _remove_leftovers(path)
    staged = _beside(path, 'new')
    try:
        staged.mkdir(parents=True)
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Rename a folder onto its place; an earlier one there is removed, or comes back if that fails.

    Of a link, the folder that it leads to is replaced.
    """
    path = path.resolve()
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path, 'old')
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, state: str) -> Path:
    return path.with_name(f'.{path.name}.{os.getpid()}.{state}')


def _remove_leftovers(path: Path) -> None:
    """Remove folders that a process was making or replacing when it was killed; those of a living one stay."""
    leftover = re.compile(rf'\.{re.escape(path.name)}\.(\d+)\.(new|old)')
    for folder in path.parent.iterdir() if path.parent.is_dir() else ():
        match = leftover.fullmatch(folder.name)
        if match and not is_another_process(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)
