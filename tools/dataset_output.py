"""Put a new dataset in the place of an earlier one: all of its files, or none."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from recordings.annotations import check_annotations
from utils.errors import UserError
from utils.files import atomic_path, remove_leftovers
from utils.folders import make_folder, replace_folder, staged_folder
from utils.locks import one_at_a_time


class StagedDataset:
    """Folders of a dataset that are being filled, next to those that they will replace.

    Args:
        stack: ends the staging.
        folders: folders of the dataset.

    Attributes:
        folders: folder of the dataset -> folder to fill.
    """

    def __init__(self, stack: ExitStack, folders: Sequence[Path]) -> None:
        self.folders = {folder: stack.enter_context(staged_folder(folder)) for folder in folders}

    def commit(self, annotations: Path, content: Mapping, splits: Path, split_content: Mapping) -> None:
        """Write annotations and split, and then put everything in its place.

        An error up to the end of writing, such as a full disk, leaves an earlier dataset as it was.

        Args:
            annotations: annotation file of the dataset.
            content: its content.
            splits: split file of the dataset.
            split_content: its content.

        Raises:
            UserError: a file cannot be written, or training would refuse the annotations.
        """
        check_annotations(annotations, content)  # refuse now what training would refuse later
        with one_at_a_time(annotations.parent), ExitStack() as stack:
            # They are renamed in the opposite order at the end of the block: the annotations last.
            for path, written in ((annotations, content), (splits, split_content)):
                _write_json(stack.enter_context(atomic_path(path)), written)
            # Without its annotations a dataset cannot be loaded: no other process sees it half replaced.
            stack.enter_context(_set_aside(annotations))
            for folder, new in self.folders.items():
                replace_folder(new, folder)


@contextmanager
def staged_dataset(folders: Sequence[Path], annotations: Path, advice: str) -> Iterator[StagedDataset]:
    """Yield new folders to fill and to :meth:`StagedDataset.commit`; they are removed if that does not happen.

    Args:
        folders: folders of the dataset; the earlier ones stay until the new ones are complete.
        annotations: annotation file of the dataset.
        advice: what to do if something cannot be written, for the message.

    Raises:
        UserError: a file or folder cannot be written.
    """
    make_folder(annotations.parent, advice)
    remove_leftovers(annotations.parent)
    try:
        with ExitStack() as stack:
            yield StagedDataset(stack, folders)
    except OSError as error:
        raise UserError(f'{error.filename or annotations}: cannot be written ({error.strerror or error}); {advice}'
                        ) from error
    finally:
        for folder in folders:
            with suppress(OSError):
                folder.parent.rmdir()  # succeeds only if it is empty, because writing failed


def _write_json(path: Path, content: Mapping) -> None:
    with path.open('w', encoding='utf-8') as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write('\n')
        file.flush()
        os.fsync(file.fileno())  # some disks report that they are full only now


@contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Give a file, if it exists, a hidden name for the duration of the block; and its own name again if that raises."""
    # The name is that of a partial file, so that what a killed process leaves is removed later.
    aside = path.with_name(f'.{path.stem}.{os.getpid()}-{token_hex(4)}.partial{path.suffix}')
    exists = path.exists()
    if exists:
        path.rename(aside)
    try:
        yield
    except BaseException:
        if exists:
            aside.rename(path)
        raise
    aside.unlink(missing_ok=True)
