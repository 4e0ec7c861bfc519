"""Files that are whole or not there: written beside their place, then renamed onto it."""

import json
import os
import re
from collections.abc import Iterator
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


def write_json(path: Path | str, content: object) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
