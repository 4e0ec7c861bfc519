"""Records that the parts of the filter with unknown boundaries pass on."""

from typing import NamedTuple

from torch import Tensor


class Evidence(NamedTuple):
    """Unweighted evidence of the sensors at frames."""

    logistic: Tensor  # (..., S), log likelihood of each kind of segment up to a constant
    gaussian: Tensor  # (..., S), the same, up to another constant, from the cells; equal for all kinds of background
    phase: Tensor  # (..., K, bins + short bins), log p(bin | label, frame) - log uniform, from all and short features
    distance: Tensor  # (...), half the squared distance to the nearest cell


class Posterior(NamedTuple):
    """Statistics of the filter's posterior at each frame."""

    phases: Tensor  # (..., nodes), mass at each phase, over all labels
    # (..., K + 1, 3), probability of each label and background; times expected frames until it ends; times their square
    steps: Tensor
    kinds: Tensor  # (..., S), probability of each kind of segment
    moments: Tensor  # (..., 2), mean and mean square of the recording's frames from the current one on
    repetition: Tensor  # (..., K + 1), see :meth:`models.heads.filter.phase_grid.PhaseGrid.repetition`


class FilterState(NamedTuple):
    """State of the filter between frames of N recordings that are filtered in parallel."""

    recent: Tensor  # (reach, N, d), last frames
    context: Tensor  # (N, C), slow averages of the projection
    mass: Tensor  # (N, S V, nodes)
    history: Tensor  # (N, 2 + K + 1), see :class:`models.heads.filter.phase_grid.PhaseGrid`
    elapsed: Tensor  # (N, 1), frames so far, float
    display: Tensor  # (N,), see :class:`models.heads.filter.decision.Rule`


class FilterOutput(NamedTuple):
    """Output per frame, each (...,) unless noted; K stands for background in ``step``, for the end in ``next_step``."""

    step: Tensor
    step_probability: Tensor
    progress: Tensor  # (..., 3): low end, estimate, high end, in (0, 1]
    remaining: Tensor  # expected frames until the step ends
    overall: Tensor  # (..., 3), in [0, 1]
    overall_remaining: Tensor  # (..., 3), frames: low end, estimate, high end
    next_step: Tensor
    unknown: Tensor  # bool
