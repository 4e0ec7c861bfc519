"""Serve a stream from standard input to standard output: a single process, any number of recordings."""

import io
from typing import TextIO

from prediction.frame_progress import NotFiniteError
from prediction.many_recordings import NamedRow, RecordingStreams
from prediction.row_writer import RowWriter
from prediction.standard_input import NAME, read_items
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
BAD_LINES_LOGGED = 10


class BadLines:
    """Handles invalid items.

    Args:
        skip: skip and count invalid items if True; otherwise the first invalid item ends the stream.

    Attributes:
        count: number of skipped items.
    """

    def __init__(self, *, skip: bool) -> None:
        self._skip, self.count = skip, 0

    def note(self, error: UserError) -> None:
        """Count an invalid item.

        Raises:
            UserError: the given error, unless invalid items are skipped.
        """
        # A filter that has become NaN stays so: skipping its frame would not help.
        if not self._skip or isinstance(error, NotFiniteError):
            raise error
        self.count += 1
        if self.count <= BAD_LINES_LOGGED:
            LOGGER.warning('skipped: %s', error)

    def summarize(self) -> None:
        """Log the number of skipped items, if any."""
        if self.count:
            LOGGER.warning('%s: %d bad lines were skipped%s', NAME, self.count,
                           f', of which the first {BAD_LINES_LOGGED} are named above'
                           if self.count > BAD_LINES_LOGGED else '')


def serve(streams: RecordingStreams, source: io.BufferedReader, ndim: int, out: TextIO, form: str, *,
          skip_bad: bool, width: int | None = None) -> None:
    """Write the rows of a stream, each as soon as it is available.

    Args:
        streams: recordings that take the items.
        source: source of ``read_items``.
        ndim: number of axes of a recording.
        out: file to write rows to.
        form: format of the rows, 'csv' or 'jsonl'.
        skip_bad: skip invalid lines.
        width: see ``read_items``.

    Raises:
        UserError: an item is invalid; with ``skip_bad``, an array is damaged, or the run predicts NaN or infinity.
    """
    writer, bad = RowWriter(out, form), BadLines(skip=skip_bad)

    def write(rows: list[NamedRow]) -> None:
        for recording, row in rows:
            writer.write(row, recording)
            out.flush()  # each row at once, not in blocks

    try:
        for item in read_items(source, ndim, bad.note, width):
            try:
                rows = streams.take(item)
            except UserError as error:
                bad.note(error)
            # In else: a failure to write is not the fault of the item.
            else:
                write(rows)
        write(streams.finish())
    finally:
        bad.summarize()
