"""Find the features for an import, and take their rate from ``features.json`` if ``tools.extract`` wrote them."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from recordings.feature_files import FEATURE_NDIM, open_recording
from recordings.feature_info import FeatureInfo, read_feature_info
from recordings.rates import parse_rate
from tools.imported_dataset import ImportedRecording, OutputPaths
from utils.command_line import option
from utils.errors import UserError


@dataclass(frozen=True)
class FeatureSource:
    """Features of an import.

    Attributes:
        folder: folder of ``<recording>.npy`` files.
        info: content of its ``features.json``; None if there is no such file.
        in_place: True if the files are already in the dataset's own folder, where ``tools.extract`` wrote them, so
            that nothing is copied.
    """

    folder: Path
    info: FeatureInfo | None
    in_place: bool


def find_feature_source(arguments: argparse.Namespace, default: Path) -> FeatureSource:
    """Return the features that an import reads.

    Args:
        arguments: command line.
        default: folder next to the annotations; if it does not exist and ``--features`` is not given, the features
            that ``tools.extract`` wrote under the dataset's name are used.

    Raises:
        UserError: ``features.json`` is invalid, or an option contradicts it or the location of the features.
    """
    own = OutputPaths(arguments.name).features
    folder = arguments.features or default
    if arguments.features is None and not default.is_dir() and read_feature_info(own):
        folder = own
    info = read_feature_info(folder)
    in_place = info is not None and folder.resolve() == own.resolve()
    # Features in place are not written again, so no frames can be left out.
    if in_place and arguments.sample_rate != 1:
        raise UserError(f'--sample_rate {arguments.sample_rate}: the features stay in {folder}, where tools.extract '
                        'wrote them; extract them with a lower --fps, or import them under another NAME')
    if info:
        _take_rate(arguments, folder, info.fps)
    return FeatureSource(folder, info, in_place)


def _take_rate(arguments: argparse.Namespace, folder: Path, fps: Fraction) -> None:
    """Set the options of tables that follow from ``features.json``: times are in seconds unless options say frames."""
    # With a known rate, times are taken as seconds unless an option says that they are frames.
    if arguments.unit is None and arguments.labels_per_feature == '1' and not arguments.inclusive_ends:
        arguments.unit = 'seconds'
    if arguments.unit != 'seconds':
        return
    if arguments.fps is not None:
        with option('--fps'):
            given = parse_rate(arguments.fps)
        if given != fps:
            raise UserError(f'--fps {arguments.fps}: the features of {folder} have {fps} frames per second; '
                            'leave it out')
    arguments.fps = str(fps)


def check_lengths(recordings: Iterable[ImportedRecording]) -> None:
    """Check that features that stay in place have the length of their annotation, because they are not cut.

    Raises:
        UserError: a recording is longer than its annotation.
    """
    for recording in recordings:
        length = len(open_recording(recording.source, FEATURE_NDIM))
        if length != recording.num_frames:
            raise UserError(f'{recording.source}: has {length} frames, of which {recording.num_frames} are annotated; '
                            'give --features and another NAME to cut the features to their annotation')
