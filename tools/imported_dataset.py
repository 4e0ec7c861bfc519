"""Writing a dataset that comes from elsewhere: features to (T, D), annotations, split; all of it or nothing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from configs.paths import environment_path
from recordings.feature_files import FEATURE_RANK, check_finite, open_recording
from recordings.feature_info import FeatureInfo, write_feature_info
from recordings.splits import Splits
from utils.errors import UserError
from utils.files import make_folder, replace_folder, staged_folder, write_json


@dataclass(frozen=True)
class ImportedRecording:
    """A recording as it will be written.

    Attributes:
        task: what is done in it.
        handle: its name.
        source: its feature file, (T, D) or (D, T).
        time_last: True where that file is (D, T).
        num_frames: frames of the file that the annotation covers; the rest is cut off.
        segments: 'labels', 'starts', 'ends', half-open, in frames as written.
    """

    task: str
    handle: str
    source: Path
    time_last: bool
    num_frames: int
    segments: Mapping[str, list]


class OutputPaths:
    """Where a dataset goes, below ``$DATASET_PATH`` and ``$JSON_DPATH``.

    Args:
        name: of the dataset.
    """

    def __init__(self, name: str) -> None:
        self.features = environment_path('DATASET_PATH') / name / 'features'
        self.annotations = environment_path('JSON_DPATH') / f'{name}.json'
        self.splits = environment_path('JSON_DPATH') / f'{name}.splits.json'

    def check(self, name: str, sources: Sequence[Path], *, overwrite: bool, in_place: bool = False) -> None:
        """Refuse what would replace something that is not meant to be replaced.

        Args:
            name: of the dataset.
            sources: folders that are read.
            overwrite: an existing dataset may be replaced.
            in_place: the features are there and stay.

        Raises:
            UserError: the dataset exists, or a source lies where the features are to be written.
        """
        target = self.features.resolve()
        for source in sources:
            if target == source.resolve() or target in source.resolve().parents:
                raise UserError(f'{source}: is read, but the dataset {name} would be written to it; choose another '
                                'NAME, or set DATASET_PATH to another folder')
        existing = [path for path in (self.annotations, self.splits, self.features)
                    if path.exists() and not (in_place and path == self.features)]
        if existing and not overwrite:
            raise UserError(f'{existing[0]}: this dataset exists; --overwrite replaces it, or choose another NAME')


def write_dataset(paths: OutputPaths, recordings: Sequence[ImportedRecording], splits: Splits, *,
                  sample_rate: int, info: FeatureInfo | None = None) -> None:
    """Write features, split and annotations, in this order; an earlier dataset stays until all features are there.

    Args:
        paths: where to.
        recordings: what to write, in the order of the annotation file.
        splits: task -> part -> handles.
        sample_rate: every n-th frame is written.
        info: ``features.json`` of the features, if they have one.

    Raises:
        UserError: a feature file holds NaN or infinity, or a file cannot be written.
    """
    try:
        with staged_folder(paths.features) as folder:
            for recording in tqdm(recordings, desc='features', unit='file', leave=False, disable=None):
                _write_features(recording, folder / f'{recording.handle}.npy', sample_rate)
            if info:
                write_feature_info(folder, replace(info, fps=info.fps / sample_rate))
            paths.annotations.parent.mkdir(parents=True, exist_ok=True)
            # The annotations go first and are written last: without them a dataset cut short is not taken for whole.
            with _removed(paths.annotations):
                replace_folder(folder, paths.features)
        write_annotations(paths, recordings, splits)
    except OSError as error:
        raise UserError(f'{error.filename or paths.features}: cannot be written ({error.strerror}); set DATASET_PATH '
                        'and JSON_DPATH to folders with enough room that you may write to') from error
    finally:
        with suppress(OSError):
            paths.features.parent.rmdir()  # succeeds where it is empty: it was made for nothing


def write_annotations(paths: OutputPaths, recordings: Sequence[ImportedRecording], splits: Splits) -> None:
    """Write split and annotations of a dataset whose features are in place.

    Args:
        paths: where to.
        recordings: in the order of the annotation file.
        splits: task -> part -> handles.

    Raises:
        UserError: a file cannot be written.
    """
    make_folder(paths.annotations.parent, 'set JSON_DPATH to a folder that you may write to')
    write_json(paths.splits, splits.as_json())
    write_json(paths.annotations, _annotations(recordings))


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Remove a file, if it is there; it comes back where the block fails."""
    content = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if content is not None:
            path.write_bytes(content)
        raise


def _write_features(recording: ImportedRecording, path: Path, sample_rate: int) -> None:
    """Write the frames of a recording that are kept, as float16 where they are, else as float32."""
    array = open_recording(recording.source, FEATURE_RANK)
    kept = (array.T if recording.time_last else array)[:recording.num_frames]
    check_finite(kept, recording.source)
    kept = kept[::sample_rate]
    np.save(path, np.ascontiguousarray(kept, dtype=np.float16 if kept.dtype == np.float16 else np.float32))


def _annotations(recordings: Sequence[ImportedRecording]) -> dict[str, dict[str, list]]:
    """Return the content of the annotation file."""
    tasks: dict[str, dict[str, list]] = {}
    for recording in recordings:
        fields = tasks.setdefault(recording.task, {'handles': [], 'hdl_actions': [], 'hdl_start_times': [],
                                                   'hdl_end_times': []})
        fields['handles'].append(recording.handle)
        fields['hdl_actions'].append(recording.segments['labels'])
        fields['hdl_start_times'].append(recording.segments['starts'])
        fields['hdl_end_times'].append(recording.segments['ends'])
    return tasks
