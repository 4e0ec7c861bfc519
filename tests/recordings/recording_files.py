"""Small recordings in files."""

import numpy as np

from recordings.json_dataset import Recording
from utils.tensorops import Action

WIDTH = 3


def make_recordings(folder, task, count, frames=False):
    """Return recordings whose values encode task and index."""
    recordings = []
    for index in range(count):
        handle, length = f'{task}{index}', 4 + index
        shape = (length, WIDTH, 2, 2) if frames else (length, WIDTH)
        np.save(folder / f'{handle}.npy', np.full(shape, index, np.float16))
        actions = (Action('pour', 0, length - 1),)
        recordings.append(Recording(task, handle, folder / f'{handle}.npy', length, WIDTH, actions, actions))
    return recordings
