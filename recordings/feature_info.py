"""``features.json``: how the files of a feature folder were extracted, so that different features are not mixed."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from recordings.rates import exact_number
from recordings.segment_list import list_files
from utils.errors import UserError
from utils.files import read_json, write_json

FILE_NAME = 'features.json'
KINDS = ('features', 'frames')
# What computes them is in models/image_encoders.py; it is named here so that --help need not import torch.
DEFAULT_IMAGE_ENCODER = 'efficientnet_lite0'
# Images per batch. On a CPU, batches that stay in its cache are twice as fast as large ones (EfficientNet-Lite0).
IMAGE_BATCH_SIZES = {'cpu': 4, 'cuda': 64}


@dataclass(frozen=True)
class FeatureInfo:
    """How features were extracted.

    Attributes:
        encoder: name of the image encoder, as given to ``--encoder``.
        version: checksum of its weights.
        fps: feature frames per second.
        image_size: height and width of its input images, in pixels.
        kind: 'features' for (T, D) files, 'frames' for (T, C, H, W) files.
        shape: shape of one frame, (D,) or (C, H, W).
        dtype: 'float32' or 'float16'.
        frames_ahead: number of later frames that a feature depends on.
    """

    encoder: str
    version: str
    fps: Fraction
    image_size: int
    kind: str
    shape: tuple[int, ...]
    dtype: str = 'float32'
    frames_ahead: int = 0

    def differences(self, other: 'FeatureInfo') -> list[str]:
        """Return the differences between this and another description, as 'name: this, not that'.

        Encoders with the same weights are equal even if their names differ: the folder of a model may have moved.
        """
        # The version is a checksum of the weights, so it identifies the encoder better than its name does.
        mine, theirs = asdict(self), asdict(other)
        if self.version == other.version:
            del mine['encoder']
        return [f'{name}: {_text(value)}, not {_text(theirs[name])}' for name, value in mine.items()
                if value != theirs[name]]


def _text(value: object) -> str:
    return ' x '.join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_feature_info(folder: Path) -> FeatureInfo | None:
    """Read the description of a feature folder.

    Returns:
        The description; None if there is no description, because ``tools.extract`` did not write the folder.

    Raises:
        UserError: the file cannot be read or is not a valid description.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    content = read_json(path, 'the description that tools.extract writes', 'extract the features again')
    try:
        info = FeatureInfo(**{**content, 'fps': _fps(content['fps']), 'shape': tuple(content['shape'])})
        if info.fps <= 0 or info.kind not in KINDS:
            raise ValueError(f'fps {info.fps} and kind {info.kind!r:.40}')
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{path}: is not a description of features ({type(error).__name__}: {reason}); expected the '
                        'file that tools.extract writes: extract the features again') from error
    return info


def _fps(value: object) -> Fraction:
    """Return the stored frame rate, exactly.

    Raises:
        ValueError: it is not a number above 0, or one with so many digits that it cannot be a frame rate.
    """
    number = exact_number(str(value))
    if isinstance(value, bool) or number is None:
        raise ValueError(f'fps {str(value)[:40]!r}')
    return number


def feature_rate(folder: Path) -> Fraction | None:
    """Return the feature frames per second of a folder that ``tools.extract`` wrote; None for any other folder.

    Raises:
        UserError: see :func:`read_feature_info`.
    """
    info = read_feature_info(folder)
    return info.fps if info else None


def claim_folder(folder: Path, info: FeatureInfo) -> None:
    """Write the description of a folder before features are written to it, or check the description that exists.

    Several processes, on several machines, may claim a folder at the same time.

    Args:
        folder: existing folder of ``.npy`` files.
        info: description of the features that will be written.

    Raises:
        UserError: the folder contains features that were extracted differently, or the description cannot be written.
    """
    if read_feature_info(folder) is None:
        if foreign := next(iter(list_files(folder, '.npy')), None):
            raise UserError(f'{folder}: contains features that tools.extract did not write ({foreign.name}), expected '
                            'an empty folder; choose another NAME')
        write_feature_info(folder, info)
    # Another process may have written its description first: the last one written counts for both.
    check_folder(folder, info)


def check_folder(folder: Path, info: FeatureInfo) -> None:
    """Check that a folder has the given description.

    Raises:
        UserError: the description is missing or different.
    """
    found = read_feature_info(folder)
    if found is None:
        raise UserError(f'{folder / FILE_NAME}: no such file any more; do not change the folder while features are '
                        'written to it, and start again')
    if differences := found.differences(info):
        raise UserError(f'{folder}: contains features of another kind ({"; ".join(differences)}), which must not be '
                        'mixed; choose another NAME or the same options')


def write_feature_info(folder: Path, info: FeatureInfo) -> None:
    """Write the description of a feature folder atomically.

    Raises:
        UserError: the file cannot be written.
    """
    fps = info.fps.numerator if info.fps.denominator == 1 else str(info.fps)  # '30000/1001', exactly
    # The name of the partial file has a random part: processes of several machines may write at the same time.
    write_json(folder / FILE_NAME, {**asdict(info), 'fps': fps, 'shape': list(info.shape)})
