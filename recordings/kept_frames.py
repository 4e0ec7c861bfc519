"""Choose the used frames of a recording; convert annotations and frames accordingly."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from recordings.feature_files import FRAME_NDIM, RecordingFile
from utils.action import Action


def kept_frames(num_frames: int, skip_rate: int = 1, max_frames: int | None = None) -> Sequence[int]:
    """Return the indices of the used frames, in order.

    Args:
        num_frames: T of the file.
        skip_rate: use every n-th frame, starting with the first.
        max_frames: maximum number of used frames; None: no limit. If ``skip_rate`` leaves n > max_frames frames, the
            i-th used frame is frame floor(i * n / max_frames) of these.
    """
    every = range(0, num_frames, skip_rate)  # a range takes no memory, and becomes a slice
    if max_frames is None or len(every) <= max_frames:
        return every
    # Evenly spaced: for index i, floor(i n / max_frames) of the n frames.
    return [every[index * len(every) // max_frames] for index in range(max_frames)]


def follow_frames(segments: Sequence[Action], frames: Sequence[int]) -> list[Action]:
    """Convert segments from frames of the file to used frames; drop segments that contain no used frame.

    Args:
        segments: segments in frames of the file.
        frames: indices of the used frames, from :func:`kept_frames`.
    """
    # From the first used frame at or after start, to the last one at or before end.
    if isinstance(frames, range):  # from 0 with a constant step: without a search, which would dominate a large index
        step, last = frames.step, len(frames) - 1
        followed = (Action(name, max(0, -(-start // step)), min(last, end // step)) for name, start, end in segments)
    else:
        followed = (Action(name, bisect_left(frames, start), bisect_right(frames, end) - 1)
                    for name, start, end in segments)
    return [segment for segment in followed if segment.start <= segment.end]


class SelectedFrames:
    """View of some frames of a recording in a file; frames are read only on access.

    Args:
        array: recording (T, C, H, W).
        frames: indices of the frames.
    """

    def __init__(self, array: np.ndarray | RecordingFile, frames: Sequence[int]) -> None:
        self._array, self._frames = array, np.asarray(frames)
        self.shape, self.ndim, self.dtype = (len(frames), *array.shape[1:]), array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int | slice) -> np.ndarray:
        return self._array[self._frames[index]]


def select_frames(array: np.ndarray | RecordingFile, frames: Sequence[int]) -> np.ndarray | SelectedFrames:
    """Return the used frames of a recording; features (T, D) are read, frames (T, C, H, W) are not.

    Args:
        array: recording (T, D) or (T, C, H, W).
        frames: indices of the used frames, from :func:`kept_frames`.
    """
    if array.ndim == FRAME_NDIM:
        return SelectedFrames(array, frames)
    return array[frames.start:frames.stop:frames.step] if isinstance(frames, range) else array[np.asarray(frames)]
