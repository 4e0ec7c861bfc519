"""Write rows as CSV or JSON lines, to files or one at a time."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from prediction.frame_progress import FrameProgress
from utils.files import CSV, atomic_path

RECORDING = 'recording'  # the column before those of a row, if a stream names its recordings


class RowWriter:
    """Writes rows, either all with the name of their recording or all without; CSV starts with a header.

    Args:
        file: file open for writing, without newline translation.
        form: 'csv' or 'jsonl'.
    """

    def __init__(self, file: TextIO, form: str) -> None:
        self._file, self._form, self._header = file, form, form == CSV
        self._csv = csv.writer(file, lineterminator='\n')

    def write(self, row: FrameProgress, recording: str | None = None) -> None:
        """Write the next row."""
        named = {} if recording is None else {RECORDING: recording}
        if self._header:
            self._csv.writerow([*named, *FrameProgress._fields])
            self._header = False
        if self._form == CSV:
            self._csv.writerow([*named.values(), *row.cells()])
        else:
            # NaN is not valid JSON: refuse it instead of writing a line that others cannot read.
            self._file.write(json.dumps({**named, **row.rounded()}, ensure_ascii=False, allow_nan=False) + '\n')


def write_rows(path: Path, rows: Iterable[FrameProgress]) -> None:
    """Write the rows of a recording atomically, as CSV or JSON lines depending on the suffix of the file.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = RowWriter(file, path.suffix.removeprefix('.'))
        for row in rows:
            writer.write(row)
