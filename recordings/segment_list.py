"""Labeled segments of one recording, in the frames of the annotation source.

Sources are tables (``recordings.segment_tables``) and frame-wise label files (``tools.frame_labels``).
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from utils.errors import UserError
from utils.files import read_bounded

MAX_MISMATCH = 10  # feature frames; feature extractors lose the length of a window at the end

@dataclass(frozen=True)
class SegmentList:
    """The segments of one recording, half-open, in order, without overlaps.

    Attributes:
        source: file that they come from, for messages.
        labels: label of each segment; None if the source gives no label.
        starts: start of each segment in annotation frames; times in seconds give fractions.
        ends: end of each segment, exclusive.
        length: length of the whole recording in annotation frames; None if the source does not give it.
    """

    source: str
    labels: list[str | None]
    starts: list[Fraction]
    ends: list[Fraction]
    length: int | None = None


def list_files(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder in order, without the hidden files that some systems add next to each file."""
    return sorted(path for path in folder.glob(f'*{ending}') if not path.name.startswith('.'))


def read_text(path: Path) -> str:
    """Read a text file, with or without Windows' byte order mark and line ends.

    Raises:
        UserError: the file cannot be read, is not UTF-8 text (or UTF-16 with a byte order mark), or contains NUL.
    """
    try:
        text = read_bounded(path).replace('\r\n', '\n').replace('\r', '\n')
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected a text file') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: byte {error.start} is not {error.encoding.upper()}; save the file as UTF-8 text (in '
                        'Excel: CSV UTF-8)') from error
    # UTF-16 without a mark decodes as UTF-8, with a NUL after each letter.
    if '\0' in text:
        raise UserError(f'{path}: contains NUL characters, as binary files and UTF-16 without a byte order mark do; '
                        'save it as UTF-8 text')
    return text
