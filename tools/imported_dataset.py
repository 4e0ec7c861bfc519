"""Write an imported dataset: features (T, D), annotations, and split; all of them or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from configs.paths import environment_path
from recordings.feature_files import FEATURE_NDIM, check_finite, open_recording
from recordings.feature_info import FeatureInfo, write_feature_info
from recordings.splits import Splits
from tools.dataset_output import staged_dataset
from tools.frame_labels import LABEL_FOLDER
from utils.errors import UserError

ADVICE = 'set DATASET_PATH and JSON_DPATH to folders with enough room that you may write to'


@dataclass(frozen=True)
class ImportedRecording:
    """A recording as it will be written.

    Attributes:
        task: what is done in the recording.
        handle: name of the recording.
        source: its feature file, (T, D) or (D, T).
        time_last: True if that file is (D, T).
        num_frames: number of frames of the file that the annotation covers; the rest is cut off.
        segments: 'labels', 'starts', 'ends', half-open, in frames as written.
    """

    task: str
    handle: str
    source: Path
    time_last: bool
    num_frames: int
    segments: Mapping[str, list]


class OutputPaths:
    """Paths that a dataset is written to, below ``$DATASET_PATH`` and ``$JSON_DPATH``.

    Args:
        name: name of the dataset.
    """

    def __init__(self, name: str) -> None:
        self.features = environment_path('DATASET_PATH') / name / 'features'
        self.annotations = environment_path('JSON_DPATH') / f'{name}.json'
        self.splits = environment_path('JSON_DPATH') / f'{name}.splits.json'

    def check(self, name: str, sources: Sequence[Path], *, overwrite: bool, in_place: bool = False) -> None:
        """Check that writing replaces nothing that should be kept.

        Args:
            name: name of the dataset.
            sources: files and folders that are read.
            overwrite: True if an existing dataset may be replaced.
            in_place: True if the features are already in place and are kept.

        Raises:
            UserError: the dataset exists, or a source is in the folder that the features would be written to, or is a
                file that would be replaced, or a folder of tables with such a file.
        """
        target = self.features.resolve()
        for source in sources:
            if target == source.resolve() or target in source.resolve().parents:
                raise UserError(f'{source}: is read, but the dataset {name} would be written to it; choose another '
                                'NAME, or set DATASET_PATH to another folder')
            if replaced := next((path for path in (self.annotations, self.splits) if _reads(source, path)), None):
                raise UserError(f'{replaced}: is read, but the dataset {name} would be written to it; choose another '
                                'NAME, or set JSON_DPATH to another folder')
        existing = [path for path in (self.annotations, self.splits, self.features)
                    if path.exists() and not (in_place and path == self.features)]
        if existing and not overwrite:
            raise UserError(f'{existing[0]}: this dataset exists; --overwrite replaces it, or choose another NAME')


def _reads(source: Path, path: Path) -> bool:
    """Return True if an existing file is a source, or a table in a folder of tables."""
    tables = source.is_dir() and not (source / LABEL_FOLDER).is_dir()
    return path.exists() and path.resolve() == (source / path.name if tables else source).resolve()


def write_dataset(paths: OutputPaths, recordings: Sequence[ImportedRecording], splits: Splits, *,
                  sample_rate: int, info: FeatureInfo | None = None) -> None:
    """Write features, split and annotations, in this order; an earlier dataset stays until all features are there.

    Args:
        paths: paths to write to.
        recordings: recordings to write, in the order of the annotation file.
        splits: task -> part -> handles.
        sample_rate: write every n-th frame.
        info: ``features.json`` of the features; None if there is no such file.

    Raises:
        UserError: a feature file contains NaN or infinity, or a file cannot be written.
    """
    with staged_dataset([paths.features], paths.annotations, ADVICE) as staged:
        folder = staged.folders[paths.features]
        for recording in tqdm(recordings, desc='features', unit='file', leave=False, disable=None):
            _write_features(recording, folder / f'{recording.handle}.npy', sample_rate)
        if info:
            write_feature_info(folder, replace(info, fps=info.fps / sample_rate))
        staged.commit(paths.annotations, _annotations(recordings), paths.splits, splits.as_json())


def write_annotations(paths: OutputPaths, recordings: Sequence[ImportedRecording], splits: Splits) -> None:
    """Write split and annotations of a dataset whose features are in place.

    Args:
        paths: paths to write to.
        recordings: recordings in the order of the annotation file.
        splits: task -> part -> handles.

    Raises:
        UserError: a file cannot be written.
    """
    with staged_dataset([], paths.annotations, ADVICE) as staged:
        staged.commit(paths.annotations, _annotations(recordings), paths.splits, splits.as_json())


def _write_features(recording: ImportedRecording, path: Path, sample_rate: int) -> None:
    """Write the kept frames of a recording, as float16 if the source is float16, else as float32."""
    array = open_recording(recording.source, FEATURE_NDIM)
    kept = (array[:].T if recording.time_last else array)[:recording.num_frames]  # (num_frames, D)
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
