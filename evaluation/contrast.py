"""Predictions for frozen, reversed, slowed, and sped-up actions, to see if a head uses content or counts frames."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from evaluation.columns import describes
from evaluation.rank_statistics import spearman_correlation

CONTRAST_TABLE = 'contrast'
SHORTEST = 4  # frames of an action that is played differently
FROZEN_FRACTION = 0.5  # length of the frozen stretch in the middle, as a fraction of the action's frames
# Columns that are means over actions, in order.
MEANS = ('final', 'final_half_speed', 'final_double_speed', 'final_frozen', 'freeze_change', 'reversed_spearman')

Predict = Callable[[Sequence[Tensor], Sequence], Sequence[Tensor]]  # a head's forward_dense


def freeze(segment: Tensor) -> tuple[Tensor, slice]:
    """Return an action (n, E) frozen in its middle, and the slice of the repeated frames and the frame before them."""
    # For example, n = 4 gives the frames 0 1 1 1 2 3; the slice covers the three 1s.
    middle, repeats = (len(segment) - 1) // 2, max(1, round(FROZEN_FRACTION * len(segment)))
    still = segment[middle].expand(repeats, -1)  # (repeats, E), without a copy
    return torch.cat([segment[:middle + 1], still, segment[middle + 1:]]), slice(middle, middle + repeats + 1)


def slow_down(segment: Tensor) -> Tensor:
    """Return an action (n, E) at half speed, (2n, E): every frame twice."""
    return segment.repeat_interleave(2, dim=0)


def speed_up(segment: Tensor) -> Tensor:
    """Return an action (n, E) at double speed, ((n + 1) // 2, E): every second frame, the last one included."""
    # From the end, because the last frame must stay: only there is the right progress known, which is 1.
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
def contrast_of_actions(segments: Sequence[Tensor], contexts: Sequence,
                        forward_dense: Predict) -> dict[str, np.ndarray]:
    """Change the timing of actions and compute what the head predicts.

    The timing of the embeddings is changed, not of the features, so the effect on the encoder is not measured.

    Args:
        segments: embeddings (n_i, E) of the test actions; actions shorter than ``SHORTEST`` frames are left out.
        contexts: context of each action for the head.
        forward_dense: method of the head; returns the progress (n,) at every frame of each segment.

    Returns:
        Column of ``contrast.csv`` -> (actions,), NaN for actions that are left out; 'num_actions' -> (actions,) bool,
        False for actions that are left out. The table has their means over actions; they are reported, not judged.
    """
    kept = [index for index, segment in enumerate(segments) if len(segment) >= SHORTEST]
    plain, contexts = [segments[index] for index in kept], [contexts[index] for index in kept]

    def predict(played: Sequence[Tensor]) -> list[np.ndarray]:
        return [progress.double().cpu().numpy() for progress in forward_dense(played, contexts)]

    def spread_out(values: Sequence[float]) -> np.ndarray:
        # Short actions keep a place (NaN), because the caller splits the values by recording afterwards.
        every = np.full(len(segments), np.nan)
        every[kept] = values
        return every

    counted = {'num_actions': np.array([len(segment) >= SHORTEST for segment in segments], dtype=bool)}
    if not plain:
        return {**counted, **{name: spread_out([]) for name in MEANS}}
    frozen, stretches = zip(*map(freeze, plain), strict=True)
    # All variants get the original contexts: what is known about earlier actions does not change.
    on_frozen, on_reversed = predict(frozen), predict([segment.flip(0) for segment in plain])
    values = (
        _last(predict(plain)),
        _last(predict([slow_down(segment) for segment in plain])),
        _last(predict([speed_up(segment) for segment in plain])),
        _last(on_frozen),
        # The range, not last minus first: a curve that rises and falls again has changed as well.
        [np.ptp(progress[stretch]) for progress, stretch in zip(on_frozen, stretches, strict=True)],
        [spearman_correlation(progress, np.arange(len(progress))) for progress in on_reversed])
    return {**counted, **dict(zip(MEANS, map(spread_out, values), strict=True))}


def _last(curves: Sequence[np.ndarray]) -> list[float]:
    """Return the progress at the last frame of each action."""
    return [curve[-1] for curve in curves]
