"""What ``tools.import_segments`` needs to know about a form of annotations; ``FORMATS`` there lists them."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recordings.segment_list import SegmentList


@dataclass(frozen=True)
class ImportFormat:
    """A form in which the annotations of a dataset come.

    Attributes:
        name: what it is, for messages: 'frame-wise labels'.
        source: what SOURCE is then: 'a folder with groundTruth/'.
        recognizes: returns True if SOURCE, which exists, has this form.
        read: command line -> recording -> its segments; raises UserError if a file or one of its options is invalid.
        options: name of each option that concerns this form alone, without '--' -> arguments of ``add_argument``.
    """

    name: str
    source: str
    recognizes: Callable[[Path], bool]
    read: Callable[[argparse.Namespace], dict[str, SegmentList]]
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
