"""Which frames of a recording are used, and annotations and memory-mapped frames that follow."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from recordings.feature_files import FRAME_RANK
from utils.action import Action


def kept_frames(num_frames: int, skip_rate: int = 1, max_frames: int | None = None) -> Sequence[int]:
    """Return the numbers of the frames that are used, in order.

    Args:
        num_frames: T of the file.
        skip_rate: every n-th frame is used, from the first on.
        max_frames: where that leaves n frames, more than so many: these evenly, the i-th is number floor(i n / max) of
            them. None: all.
    """
    every = range(0, num_frames, skip_rate)
    if max_frames is None or len(every) <= max_frames:
        return every
    return [every[index * len(every) // max_frames] for index in range(max_frames)]


def follow_frames(segments: Sequence[Action], frames: Sequence[int]) -> list[Action]:
    """Return segments in frames of the file as segments in used frames; those without a used frame are dropped.

    Args:
        segments: in frames of the file.
        frames: see :func:`kept_frames`.
    """
    followed = (Action(name, bisect_left(frames, start), bisect_right(frames, end) - 1)
                for name, start, end in segments)
    return [segment for segment in followed if segment.start <= segment.end]


class SelectedFrames:
    """Some frames of a memory-mapped recording as if they were all; what is not asked for is not read.

    Args:
        array: (T, C, H, W).
        frames: numbers of the frames.
    """

    def __init__(self, array: np.ndarray, frames: Sequence[int]) -> None:
        self._array, self._frames = array, np.asarray(frames)
        self.shape, self.ndim, self.dtype = (len(frames), *array.shape[1:]), array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int | slice) -> np.ndarray:
        return self._array[self._frames[index]]


def select_frames(array: np.ndarray, frames: Sequence[int]) -> np.ndarray | SelectedFrames:
    """Return the frames of a recording that are used; of a memory-mapped (T, C, H, W) none is read.

    Args:
        array: (T, D) or (T, C, H, W).
        frames: from :func:`kept_frames`.
    """
    if isinstance(frames, range):
        return array[frames.start:frames.stop:frames.step]
    return SelectedFrames(array, frames) if array.ndim == FRAME_RANK else array[frames]
