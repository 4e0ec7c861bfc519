"""``features.json``: what the files of a feature folder were made with, so that nothing else gets mixed in."""

import json
import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from secrets import token_hex

from utils.errors import UserError
from utils.files import read_json

FILE_NAME = 'features.json'
KINDS = ('features', 'frames')


@dataclass(frozen=True)
class FeatureInfo:
    """How features were extracted.

    Attributes:
        encoder: name of the image encoder, as given to ``--encoder``.
        version: of its weights.
        fps: feature frames per second.
        image_size: height and width of the images that it sees, in pixels.
        kind: 'features' for (T, D) files, 'frames' for (T, C, H, W) files.
        shape: of one frame, (D,) or (C, H, W).
        dtype: 'float32' or 'float16'.
        frames_ahead: later frames that a feature depends on.
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
        """Return what differs between this and another description, as 'name: this, not that'.

        The same weights are the same encoder, whatever it is called: a folder may have moved.
        """
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
        The description; None if the folder has none, because something else than ``tools.extract`` filled it.

    Raises:
        UserError: the file cannot be read or is not such a description.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    content = read_json(path, 'the description that tools.extract writes', 'extract the features again')
    try:
        info = FeatureInfo(**{**content, 'fps': Fraction(content['fps']), 'shape': tuple(content['shape'])})
        if info.fps <= 0 or info.kind not in KINDS:
            raise ValueError(f'fps {info.fps} and kind {info.kind!r:.40}')
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{path}: is not a description of features ({type(error).__name__}: {reason}); expected the '
                        'file that tools.extract writes: extract the features again') from error
    return info


def feature_rate(folder: Path) -> Fraction | None:
    """Return the feature frames per second of a folder that ``tools.extract`` filled; None for another folder.

    Raises:
        UserError: see :func:`read_feature_info`.
    """
    info = read_feature_info(folder)
    return info.fps if info else None


def claim_folder(folder: Path, info: FeatureInfo) -> None:
    """Describe a folder that features will be written to, or check that they fit what is there.

    Several processes, on several machines, may claim one folder at once.

    Args:
        folder: of ``.npy`` files; exists.
        info: what will be written to it.

    Raises:
        UserError: the folder holds features that were made in another way, or its description cannot be written.
    """
    if read_feature_info(folder) is None:
        if foreign := next(folder.glob('*.npy'), None):
            raise UserError(f'{folder}: holds features that tools.extract did not write ({foreign.name}), expected an '
                            'empty folder; choose another NAME')
        write_feature_info(folder, info)
    check_folder(folder, info)


def check_folder(folder: Path, info: FeatureInfo) -> None:
    """Check that the description of a folder is the given one.

    Raises:
        UserError: it is another one, or missing.
    """
    found = read_feature_info(folder)
    if found is None:
        raise UserError(f'{folder / FILE_NAME}: no such file any more; leave the folder alone while features are '
                        'written to it, and start again')
    if differences := found.differences(info):
        raise UserError(f'{folder}: holds features of another kind ({"; ".join(differences)}), which must not be '
                        'mixed; choose another NAME or the same options')


def write_feature_info(folder: Path, info: FeatureInfo) -> None:
    """Write the description of a feature folder, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    fps = info.fps.numerator if info.fps.denominator == 1 else str(info.fps)
    text = json.dumps({**asdict(info), 'fps': fps, 'shape': list(info.shape)}, indent=2) + '\n'
    # Containers on several machines may have the same process number: the name must be unique without it.
    temporary = folder / f'.{FILE_NAME}.{token_hex(8)}'
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, folder / FILE_NAME)
    except OSError as error:
        raise UserError(f'{folder / FILE_NAME}: cannot be written ({error.strerror}); free some space or choose '
                        'another place') from error
    finally:
        temporary.unlink(missing_ok=True)
