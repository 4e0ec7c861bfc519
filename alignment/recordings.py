"""Read the recordings to align: feature files or videos, embedded by a run or taken as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from prediction import TrainedRun
from prediction.recording import embed_recording
from prediction.video import RunEncoder, extract_video
from recordings.feature_files import FEATURE_NDIM, check_finite, check_headers, open_recording
from recordings.feature_info import feature_rate
from recordings.kept_frames import kept_frames
from recordings.segment_list import list_files
from utils.errors import UserError

FEATURE_ENDING = '.npy'


@dataclass(frozen=True)
class AlignedRecording:
    """A recording to align.

    Attributes:
        name: name of the recording.
        source: its feature file or video.
        embedding: (n, E), embeddings of the used frames, on the CPU.
        frames: n indices of the used frames in the features, ascending.
        num_frames: T, frames of the features.
        fps: feature frames per second; None if unknown.
    """

    name: str
    source: Path
    embedding: Tensor
    frames: Sequence[int]
    num_frames: int
    fps: Fraction | None

    def seconds(self, position: int) -> float | None:
        """Return the start of a used frame in seconds; None if the frame rate is unknown."""
        return None if self.fps is None else float(self.frames[position] / self.fps)


def find_sources(inputs: Sequence[Path]) -> list[Path]:
    """Return the files of the recordings; a folder stands for the feature files in it.

    Raises:
        UserError: a path does not exist, a folder has no feature file, there are fewer than two recordings, or two of
            them have the same name.
    """
    sources: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise UserError(f'{path}: no such file or folder, expected a .npy file, a folder of them, or a video')
        found = list_files(path, FEATURE_ENDING) if path.is_dir() else [path]
        if not found:
            raise UserError(f'{path}: contains no .npy file, expected one for each recording')
        sources += found
    if len(sources) < 2:
        raise UserError(f'{sources[0]}: a single recording, expected two or more to align; name more files')
    names = [source.stem for source in sources]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'{twice}: the name of two recordings, expected a different name for each; rename a file')
    return sources


def is_video(source: Path) -> bool:
    """Return True if a recording is a video, not a feature file."""
    return source.suffix != FEATURE_ENDING


def feature_rate_of(source: Path, run: TrainedRun | None, fps: Fraction | None) -> Fraction | None:
    """Return the feature frames per second of a recording, None if unknown: of a video, those of the run."""
    if is_video(source):
        return run.feature_info.fps if run and run.feature_info else None
    return fps or feature_rate(source.parent)


def load_recordings(sources: Sequence[Path], run: TrainedRun | None, fps: Fraction | None) -> list[AlignedRecording]:
    """Embed the recordings.

    Args:
        sources: from :func:`find_sources`.
        run: run whose encoder embeds them; None to align the features themselves.
        fps: feature frames per second; None: from ``features.json`` next to the features, if it exists.

    Raises:
        UserError: a file cannot be read or does not fit the run or the other files, or videos are given without a run.
    """
    features = [source for source in sources if not is_video(source)]
    ndim = run.ndim if run else FEATURE_NDIM
    shapes = check_headers(features, ndim) if features else {}
    for source, shape in shapes.items():
        if run:
            run.check_shape(shape, str(source))
    if len(features) < len(sources) and run is None:
        raise UserError(f'{next(filter(is_video, sources))}: a video, which needs a run whose features were made from '
                        'videos; give -f RUN, or the features that tools.extract writes')
    encoder = RunEncoder(run) if run and len(features) < len(sources) else None
    return [_embed_video(source, run, encoder) if is_video(source)
            else _embed_features(source, run, feature_rate_of(source, run, fps), ndim) for source in sources]


def _embed_video(source: Path, run: TrainedRun, encoder: RunEncoder) -> AlignedRecording:
    with TemporaryDirectory() as folder:
        return _embed_features(extract_video(source, encoder, Path(folder)), run, encoder.info.fps, run.ndim, source)


def _embed_features(path: Path, run: TrainedRun | None, fps: Fraction | None, ndim: int,
                    source: Path | None = None) -> AlignedRecording:
    """Embed a feature file; ``source`` is the video that it was made of."""
    features = open_recording(path, ndim)
    check_finite(features, path)
    if run is None:
        used = range(len(features))
        embedding = torch.from_numpy(np.array(features, dtype=np.float32))
    else:
        used = kept_frames(len(features), run.skip_rate, run.max_frames)
        embedding = embed_recording(run, features, used).cpu()
    if not torch.isfinite(embedding).all():
        raise UserError(f'{source or path}: its embeddings are not finite; the run has diverged, train it again')
    return AlignedRecording(path.stem, source or path, embedding, used, len(features), fps)
