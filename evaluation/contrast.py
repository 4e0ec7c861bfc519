"""What a head makes of actions that are frozen, reversed, slower, or faster: does it look, or does it count?"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from evaluation.columns import describes
from evaluation.rank_statistics import spearman_correlation

CONTRAST_TABLE = 'contrast'
SHORTEST = 4  # frames of an action that is played differently
FROZEN_FRACTION = 0.5  # of an action's frames: how long it stands still in its middle

Predict = Callable[[Sequence[Tensor], Sequence], Sequence[Tensor]]  # a head's forward_dense


def freeze(segment: Tensor) -> tuple[Tensor, slice]:
    """Return an action (n, E) that stands still in its middle, and the repeated frames with the one before them."""
    middle, repeats = (len(segment) - 1) // 2, max(1, round(FROZEN_FRACTION * len(segment)))
    still = segment[middle].expand(repeats, -1)
    return torch.cat([segment[:middle + 1], still, segment[middle + 1:]]), slice(middle, middle + repeats + 1)


def slow_down(segment: Tensor) -> Tensor:
    """Return an action (n, E) at half speed, (2n, E): every frame twice."""
    return segment.repeat_interleave(2, dim=0)


def speed_up(segment: Tensor) -> Tensor:
    """Return an action (n, E) at double speed, ((n + 1) // 2, E): every second frame, the last one included."""
    return segment.flip(0)[::2].flip(0)


@describes(CONTRAST_TABLE,
           num_actions=('', f'test actions of {SHORTEST} frames or more'),
           final=('', 'progress at the last frame of the action as it is: 1 is right'),
           final_half_speed=('', 'the same at half speed: 1 is right'),
           final_double_speed=('', 'the same at double speed: 1 is right'),
           final_frozen=('', 'the same with a frozen stretch in the middle: 1 is right'),
           freeze_change=('', 'how much the progress changes during the frozen stretch: 0 if the head looks, more if '
                              'it counts frames'),
           reversed_spearman=('', 'rank correlation of the progress with the time that passes on reversed frames: 1 '
                                  'if the head counts frames, -1 if it reads the progress off each frame'))
def contrast_row(segments: Sequence[Tensor], contexts: Sequence, forward_dense: Predict) -> dict[str, float]:
    """Return a task's row of ``contrast.csv``, except its name; reported, not judged. Means over actions.

    The embeddings are played differently, not the features: what an encoder would make of them is not asked.

    Args:
        segments: embeddings (n_i, E) of the test actions; those shorter than ``SHORTEST`` frames are left out.
        contexts: what the head knows of each action when it begins.
        forward_dense: of the head; returns the progress (n,) at every frame of each segment.

    Returns:
        The columns; NaN if no action is long enough.
    """
    kept = [index for index, segment in enumerate(segments) if len(segment) >= SHORTEST]
    plain, contexts = [segments[index] for index in kept], [contexts[index] for index in kept]

    def predict(played: Sequence[Tensor]) -> list[np.ndarray]:
        return [progress.double().cpu().numpy() for progress in forward_dense(played, contexts)]

    if not plain:
        return {'num_actions': 0, **dict.fromkeys(('final', 'final_half_speed', 'final_double_speed', 'final_frozen',
                                                   'freeze_change', 'reversed_spearman'), float('nan'))}
    frozen, stretches = zip(*map(freeze, plain), strict=True)
    on_frozen, on_reversed = predict(frozen), predict([segment.flip(0) for segment in plain])
    return {
        'num_actions': len(plain),
        'final': _final(predict(plain)),
        'final_half_speed': _final(predict([slow_down(segment) for segment in plain])),
        'final_double_speed': _final(predict([speed_up(segment) for segment in plain])),
        'final_frozen': _final(on_frozen),
        'freeze_change': float(np.mean([np.ptp(progress[stretch]) for progress, stretch
                                        in zip(on_frozen, stretches, strict=True)])),
        'reversed_spearman': float(np.mean([spearman_correlation(progress, np.arange(len(progress)))
                                            for progress in on_reversed])),
    }


def _final(curves: Sequence[np.ndarray]) -> float:
    """Return the mean progress at the last frame."""
    return float(np.mean([curve[-1] for curve in curves]))
