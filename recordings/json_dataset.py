"""Build recordings and torch datasets from an annotation file and features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recordings.annotations import load_annotations
from recordings.assignment import annotate_recordings
from recordings.background import spell_background
from recordings.feature_files import (
    FEATURE_NDIM,
    FRAME_NDIM,
    check_finite,
    check_headers,
    open_recording,
    small_enough_to_check,
)
from recordings.kept_frames import SelectedFrames, follow_frames, kept_frames, select_frames
from utils.errors import UserError
from utils.tensorops import Action


@dataclass(frozen=True)
class Recording:
    """One recording of a dataset.

    Attributes:
        task: what is done in the recording.
        handle: name of the recording.
        path: its ``.npy`` file.
        num_frames: T, number of used frames.
        width: D of features, C of frames.
        segments: all annotated segments in order of time, including background, in used frames.
        actions: the segments that are not background.
        group: who performs it; None: not known.
        stamp: :attr:`RecordingFile.stamp` of the file whose values were checked; None: not checked yet.
    """

    task: str
    handle: str
    path: Path
    num_frames: int
    width: int
    segments: tuple[Action, ...]
    actions: tuple[Action, ...]
    group: str | None = None
    stamp: tuple[int, int, int] | None = None

    @property
    def times(self) -> dict:
        """Segments in the form that the losses expect: 'step', 'start_frame', 'end_frame', 'name' and 'task'."""
        return {'step': [name for name, _, _ in self.segments], 'start_frame': [start for _, start, _ in self.segments],
                'end_frame': [end for _, _, end in self.segments], 'name': self.handle, 'task': self.task}


class RecordingsByTask(dict[str, list[Recording]]):
    """Task -> recordings.

    Attributes:
        left_out: handles of tasks that are left out because their annotation lists cannot be matched to recordings.
    """

    def __init__(self, recordings: Mapping[str, list[Recording]], left_out: Sequence[str] = ()) -> None:
        super().__init__(recordings)
        self.left_out = list(left_out)


def load_recordings(
    annotations: Path, folder: Path, *, frames: bool = False, task_suffix: str = '', time_scale: str | float = 'auto',
    min_segment_len: int = 3, background_labels: Sequence[str], values_limit_gb: float = 4.0, skip_rate: int = 1,
    max_frames: int | None = None,
) -> RecordingsByTask:
    """Index a dataset: read the annotations, check every file, convert times to the feature rate.

    Args:
        annotations: the dataset's JSON file.
        folder: folder of ``<handle>.npy`` files.
        frames: True for ``(T, C, H, W)`` files, False for ``(T, D)``.
        task_suffix: only tasks whose name ends with it are kept.
        time_scale: see :func:`recordings.assignment.annotate_recordings`.
        min_segment_len: actions shorter than this many frames are counted in the log.
        background_labels: labels of segments that are not actions.
        values_limit_gb: check that all values are finite if all files together are smaller than this.
        skip_rate: keep every n-th feature frame.
        max_frames: maximum number of used frames per recording, evenly spaced; None: no limit.

    Returns:
        task -> recordings, in the order of the annotation file.

    Raises:
        UserError: the annotations or a file are invalid.
    """
    tasks = spell_background({task: annotated for task, annotated in load_annotations(annotations).items()
                              if task.endswith(task_suffix)}, background_labels)
    if not tasks:
        raise UserError(f'{annotations}: no task ends with {task_suffix!r}; expected at least one')
    paths = {handle: folder / f'{handle}.npy' for annotated in tasks.values() for handle in annotated.handles}
    ndim = FRAME_NDIM if frames else FEATURE_NDIM
    shapes = check_headers(paths.values(), ndim)
    lengths = {handle: shapes[path][0] for handle, path in paths.items()}
    annotated = annotate_recordings(tasks, lengths, time_scale=time_scale, min_segment_len=min_segment_len,
                                    background_labels=background_labels)

    def index(task: str, handle: str, segments: Sequence[Action]) -> Recording:
        shape = shapes[paths[handle]]
        used = kept_frames(shape[0], skip_rate, max_frames)
        followed = tuple(follow_frames(segments, used))
        actions = tuple(segment for segment in followed if segment.name not in background_labels)
        return Recording(task, handle, paths[handle], len(used), shape[1], followed, actions)

    recordings = {task: [index(task, handle, segments) for handle, segments in members.items()]
                  for task, members in annotated.items()}
    used = [recording.path for members in recordings.values() for recording in members]
    if small_enough_to_check(used, values_limit_gb):
        recordings = {task: [_with_finite_values(recording, ndim) for recording in members]
                      for task, members in recordings.items()}
    return RecordingsByTask(recordings, [handle for task, annotated in tasks.items() if task not in recordings
                                         for handle in annotated.handles])


def _with_finite_values(recording: Recording, ndim: int) -> Recording:
    """Check the values of a recording, and return it with the stamp of its file."""
    array = open_recording(recording.path, ndim)
    check_finite(array, recording.path)
    return replace(recording, stamp=array.stamp)


class RecordingDataset(Dataset):
    """Recordings with their features, which are read on access.

    Args:
        recordings: recordings of the dataset.
        frames: True for ``(T, C, H, W)`` files, which stay in their files; False for ``(T, D)`` files.
        skip_rate: keep every n-th frame.
        max_frames: maximum number of used frames per recording, evenly spaced; None: no limit.
        lazy: True to read a recording on every access; False to keep it in memory after the first access.
        values_checked: True if all values are already known to be finite.
    """

    def __init__(self, recordings: Sequence[Recording], *, frames: bool = False, skip_rate: int = 1,
                 max_frames: int | None = None, lazy: bool = True, values_checked: bool = True) -> None:
        self.recordings = list(recordings)
        self._frames, self._skip_rate, self._max_frames, self._lazy = frames, skip_rate, max_frames, lazy
        self._unchecked = set() if values_checked else {recording.path for recording in self.recordings}
        self._stamps = {recording.path: recording.stamp for recording in self.recordings}
        self._kept: dict[Path, Tensor | SelectedFrames] = {}

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[Tensor | SelectedFrames, dict, str]:
        recording = self.recordings[index]
        features = self._kept[recording.path] if recording.path in self._kept else self._read(recording)
        if not self._lazy:
            self._kept[recording.path] = features
        return features, recording.times, recording.task

    def _read(self, recording: Recording) -> Tensor | SelectedFrames:
        array = open_recording(recording.path, FRAME_NDIM if self._frames else FEATURE_NDIM)
        used = kept_frames(len(array), self._skip_rate, self._max_frames)
        # The file may have been written again since the dataset was indexed.
        if (len(used), array.shape[1]) != (recording.num_frames, recording.width):
            raise UserError(f'{recording.path}: {len(used)} used frames of {array.shape[1]} dimensions now, but '
                            f'{recording.num_frames} of {recording.width} when the dataset was read; its annotations '
                            'belong to other frames: write new features to another folder, and start again')
        # A dataset too large to be checked up front is checked file by file; a changed file is checked again.
        if recording.path in self._unchecked or self._stamps[recording.path] not in (None, array.stamp):
            check_finite(array, recording.path)
            self._unchecked.discard(recording.path)
        self._stamps[recording.path] = array.stamp
        kept = select_frames(array, used)
        return kept if self._frames else torch.from_numpy(np.asarray(kept, dtype=np.float32))
