"""Description of an annotation format for ``tools.import_segments``, which lists all formats in ``FORMATS``."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recordings.segment_list import SegmentList


@dataclass(frozen=True)
class ImportFormat:
    """Format of the annotations of a dataset.

    Attributes:
        name: name of the format, for messages: 'frame-wise labels'.
        source: description of SOURCE in this format: 'a folder with groundTruth/'.
        recognizes: returns True if SOURCE, which exists, has this format.
        read: command line -> recording -> its segments; raises UserError if a file or an option is invalid.
        options: name, without '--', of each option that only this format has -> arguments of ``add_argument``.
    """

    name: str
    source: str
    recognizes: Callable[[Path], bool]
    read: Callable[[argparse.Namespace], dict[str, SegmentList]]
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
