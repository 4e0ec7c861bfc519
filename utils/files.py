"""Atomic writing of files, and reading of JSON with one-line errors."""

import codecs
import csv
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from utils.errors import UserError
from utils.locks import holding, try_lock

# Names of partial files, see atomic_path; the number is the process ID. Earlier versions had no token after it.
PARTIAL_NAME = re.compile(r'\.(.*)\.(\d+)(?:-[0-9a-f]+)?\.partial(\..*)?', re.DOTALL)
MAX_TEXT_BYTES = 2**28
# The marks of UTF-32 first: that of UTF-16 is the beginning of one of them.
BYTE_ORDER_MARKS = {codecs.BOM_UTF32_LE: 'utf-32', codecs.BOM_UTF32_BE: 'utf-32', codecs.BOM_UTF16_LE: 'utf-16',
                    codecs.BOM_UTF16_BE: 'utf-16'}
CSV, JSON_LINES = 'csv', 'jsonl'
ROW_FORMATS = (CSV, JSON_LINES)  # of what predict.py writes and prints


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` (with the same suffix) and rename it to ``path`` if the block succeeds.

    Content and name are synced to disk on return. The temporary file exists, is empty, and nobody can predict its name,
    so that a link planted there by somebody else is not followed. A killed process leaves the temporary file behind.
    Its name begins with a dot, so no program mistakes it for a result; :func:`remove_leftovers` removes it.

    Raises:
        UserError: the file cannot be written (no permission, disk full). An existing file is left unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}-{token_hex(4)}.partial{path.suffix}')
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with holding(descriptor):
            try_lock(descriptor)  # until it is renamed or removed, so that no other process takes it for a leftover
            yield temporary
            with temporary.open('r+b') as written:  # some systems do not sync files opened read-only
                os.fsync(written.fileno())
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        fix = 'free some space' if path.parent.exists() else f'make the folder {path.parent}'
        raise UserError(f'{path}: cannot be written ({error.strerror or error}); {fix} or choose another place'
                        ) from error
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
            if is_leftover(path):
                path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Return True if a path is a temporary file of :func:`atomic_path` that no running process is writing.

    The process ID alone does not tell: in a container, other processes have the same one.
    """
    match = PARTIAL_NAME.fullmatch(path.name)
    if not match or is_another_process(int(match[2])):
        return False
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # network drives only lock files that may be written
    except OSError:
        return False
    try:
        return try_lock(descriptor) is not False
    finally:
        os.close(descriptor)


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


def read_bounded(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark, of at most ``MAX_TEXT_BYTES``.

    UTF-16 and UTF-32, as Excel ("Unicode text") and PowerShell write, are read if there is a byte order mark.

    Raises:
        OSError: the file cannot be read.
        UserError: the file is larger, perhaps a device that never ends.
        UnicodeDecodeError: the file is not such text.
    """
    with path.open('rb') as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise UserError(f'{path}: more than {MAX_TEXT_BYTES // 2**20} MiB, expected a smaller text file')
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), 'utf-8-sig')
    return content.decode(encoding)


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
        return json.loads(read_bounded(path), object_pairs_hook=unique_keys(str(path)))
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
    if not is_writable(text):  # the path of a folder whose name is not UTF-8
        text = json.dumps(content, indent=2) + '\n'
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_text(path: Path | str, text: str) -> None:
    """Write a text as UTF-8, atomically; what UTF-8 cannot write, a byte of a name that is not UTF-8, as its escape.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8', errors='backslashreplace')


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


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that was there before, or None; in time proportional to the number of names."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


def unique_keys(source: str) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    """Return an ``object_pairs_hook`` that refuses repeated keys; by default, json silently uses the last one.

    Args:
        source: source of the text, for the message of the UserError.
    """
    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = first_repeated(name for name, _ in pairs)
            raise UserError(f'{source}: {twice!r:.60} stands twice in one object; expected once: rename or remove one')
        return content
    return build
