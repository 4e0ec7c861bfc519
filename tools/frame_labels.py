"""Read frame-wise label files, mappings, and bundles: the text files of MS-TCN, Breakfast, GTEA and 50Salads.

``groundTruth/<recording>.txt`` contains one label per frame, ``mapping.txt`` an index and a label per line, and
``splits/<part>.split<n>.bundle`` the names of the recordings of a part.
"""

import argparse
import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate, groupby
from pathlib import Path

from recordings.segment_list import SegmentList, list_files, read_text
from recordings.splits import PARTS
from tools.import_format import ImportFormat
from tools.label_columns import one_column
from utils.errors import UserError, name_some

LABEL_FOLDER, MAPPING_FILE = 'groundTruth', 'mapping.txt'
BUNDLE = re.compile(rf'({"|".join(PARTS)})\.split(\d+)\.bundle')


def read_source(arguments: argparse.Namespace) -> dict[str, SegmentList]:
    """Read the label files of SOURCE, with its ``mapping.txt`` if there is one."""
    mapping = arguments.source / MAPPING_FILE
    return read_label_folder(arguments.source / LABEL_FOLDER, read_mapping(mapping) if mapping.exists() else None)


def read_label_folder(folder: Path, mapping: Mapping[str, str] | None) -> dict[str, SegmentList]:
    """Read all label files of a folder.

    Args:
        folder: folder of ``<recording>.txt`` files.
        mapping: index -> label, see :func:`read_mapping`; None accepts every label.

    Returns:
        Recording -> its segments, in annotation frames; each run of equal labels is one segment.

    Raises:
        UserError: there is no label file, or a file is empty, contains an empty line, ranges or scores, or a label that
            is missing in the mapping.
    """
    paths = list_files(folder, '.txt')
    if not paths:
        others = name_some([path.name for path in list_files(folder, '')], 3)
        raise UserError(f'{folder}: contains no .txt file{f" (but {others})" if others else ""}, expected a file per '
                        'recording with one label per frame; rename or convert the files')
    return {path.stem: read_label_file(path, mapping) for path in paths}


def read_label_file(path: Path, mapping: Mapping[str, str] | None = None) -> SegmentList:
    """Read a file with one label per frame; see :func:`read_label_folder`."""
    labels = [line.strip() for line in read_text(path).splitlines()]
    while labels and not labels[-1]:
        labels.pop()
    if not labels:
        raise UserError(f'{path}: is empty, expected one label per frame')
    if '' in labels:
        raise UserError(f'{path}: line {labels.index("") + 1} is empty, expected one label per frame; write the label '
                        'of the background there')
    names = set(mapping.values()) if mapping is not None else None
    labels = one_column(path, labels, names)
    if mapping is not None:
        labels = _known_labels(path, labels, mapping)
    runs = [(label, len(list(run))) for label, run in groupby(labels)]  # runs of equal labels are the segments
    bounds = [Fraction(bound) for bound in accumulate((length for _, length in runs), initial=0)]
    return SegmentList(str(path), [label for label, _ in runs], bounds[:-1], bounds[1:], len(labels))


def _known_labels(path: Path, labels: list[str], mapping: Mapping[str, str]) -> list[str]:
    """Check labels against the mapping; if a file contains indices instead, convert them to labels."""
    names = set(mapping.values())
    # All lines are indices, and not all of them are labels as well.
    if not names.issuperset(labels) and set(mapping).issuperset(labels):
        return [mapping[label] for label in labels]
    for number, label in enumerate(labels, 1):
        if label not in names:
            raise UserError(f'{path}: line {number} is {label[:60]!r}, which is missing in {MAPPING_FILE}; add it '
                            'there, or correct the line')
    return labels


def read_mapping(path: Path) -> dict[str, str]:
    """Read the list of labels, with an index and a label per line.

    Returns:
        Index (as text) -> label.

    Raises:
        UserError: a line does not have this form, or an index or a label occurs twice.
    """
    mapping: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        index, *label = line.split(maxsplit=1)
        if not index.isdecimal() or not label:
            raise UserError(f"{path}: line {number} is {line.strip()[:60]!r}, expected an index and a label, as in "
                            "'3 pour_milk'")
        name = label[0].strip()
        if index in mapping or name in mapping.values():
            raise UserError(f'{path}: line {number} repeats the index or the label of an earlier line: '
                            f'{line.strip()[:60]!r}; remove one')
        mapping[index] = name
    return mapping


def read_bundles(folder: Path, number: int | None) -> tuple[int, dict[str, list[str]]]:
    """Read the bundles of one split.

    Args:
        folder: folder of ``train.split1.bundle``, ``test.split1.bundle`` and so on; there may be ``val`` bundles.
        number: number of the split; None: the lowest number in the folder.

    Returns:
        The number of the split; part -> recordings, for the parts that have a bundle.

    Raises:
        UserError: there is no such split or no train bundle, or a recording is in the split twice.
    """
    found: dict[int, dict[str, Path]] = {}
    for path in list_files(folder, '.bundle'):
        if match := BUNDLE.fullmatch(path.name):
            found.setdefault(int(match[2]), {})[match[1]] = path
    chosen = min(found, default=None) if number is None else number
    if chosen not in found or 'train' not in found[chosen]:
        there = name_some([path.name for _, paths in sorted(found.items()) for path in paths.values()]) or 'no bundle'
        raise UserError(f'{folder}: found {there}, expected train.split{chosen or 1}.bundle and '
                        f'test.split{chosen or 1}.bundle; choose another --split')
    parts: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for part, path in sorted(found[chosen].items(), key=lambda item: PARTS.index(item[0])):
        lines = [line.strip().replace('\\', '/') for line in read_text(path).splitlines()]
        # A line is a file name; in some datasets it includes the folder.
        parts[part] = [line.rsplit('/', 1)[-1].removesuffix('.txt') for line in lines if line]
        for name in parts[part]:
            if name in seen:
                raise UserError(f'{path}: {name!r} is also in {seen[name]}; expected each recording once: remove one '
                                'of them')
            seen[name] = path.name
    return chosen, parts


FORMAT = ImportFormat('frame-wise labels', f'a folder with {LABEL_FOLDER}/ (one label per frame)',
                      lambda source: (source / LABEL_FOLDER).is_dir(), read_source)
