"""Compile the filter ahead, so that no stream waits for it: python -m models.heads.filter.compiled.

The code is kept in the folders ``__pycache__``, until its source changes.
"""

import time

import torch

from models.heads.filter.decision import decide_all
from models.heads.filter.unsegmented import UnsegmentedFilter

if __name__ == '__main__':
    started = time.perf_counter()
    model, frames = UnsegmentedFilter(['first', 'second'], embedding_dim=4, has_background=True), torch.zeros(2, 4)
    evidence = model.sense_recording(frames)
    posterior, = model.posteriors([evidence])
    decide_all([posterior.kinds], [evidence.logistic], model.grid.surprise, model.rule[None])
    model.filter([frames])
    print(f'compiled the filter in {time.perf_counter() - started:.1f} s')
