"""Recordings of steps that look different: each step is a direction along which its phase moves."""

import numpy as np
import torch

WIDTH = 12


def recording(steps, noise=0.05, seed=0):
    """Return the embedding (T, 12) and the labels (T,) of (label, number of frames) in order; labels are numbers."""
    generator, rows, labels = np.random.default_rng(seed), [], []
    for label, frames in steps:
        for phase in (np.arange(frames) + 0.5) / frames:
            row = np.zeros(WIDTH)
            row[[2 * label, 2 * label + 1]] = np.cos(phase), np.sin(phase)
            rows.append(row)
        labels += [str(label)] * frames
    embedding = np.array(rows) + noise * generator.standard_normal((len(rows), WIDTH))
    return torch.from_numpy(embedding.astype(np.float32)), labels
