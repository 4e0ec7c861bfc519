"""Online filter of recordings whose boundaries are unknown: step, progress, and remaining time at every frame."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.heads.filter.cells import Cells
from models.heads.filter.decision import Shown, decide, decide_all
from models.heads.filter.label_sensor import LogisticLabels
from models.heads.filter.phase_grid import PHASES, RATES, PhaseGrid
from models.heads.filter.recent import RecentFeatures
from models.heads.filter.remaining import Remaining

BINS, DIMS, SHRINKAGE = 8, 16, 1.0  # of the cells of labels and phases
SHORT_BINS = 20  # of the cells of phases that see short-term features only
LOWEST_LABEL, LOWEST_PHASE = -5.0, -8.0  # one frame never says more against a label or a phase, before its weight
NEVER = 1e30  # a distance that no frame has; a checkpoint holds finite numbers only
LEVELS = (0.05, 0.5, 0.95)  # quantiles of progress: low end, estimate, high end


class Evidence(NamedTuple):
    """Unweighted evidence of the sensors at frames; K' is K, or K + 1 with background as the last label."""

    logistic: Tensor  # (..., K'), log likelihood of each label up to a constant
    gaussian: Tensor  # (..., K'), the same, from the cells
    phase: Tensor  # (..., K, bins), log p(bin | label, frame) - log uniform
    short: Tensor  # (..., K, more bins), the same, from short-term features
    distance: Tensor  # (...), half the squared distance to the nearest cell


class Posterior(NamedTuple):
    """Statistics of the filter's posterior at each frame."""

    phases: Tensor  # (..., nodes), mass at each phase, over all labels
    kinds: Tensor  # (..., S, 2), probability of each kind of segment; times expected remaining frames of the segment
    moments: Tensor  # (..., 2), mean and mean square of the recording's remaining frames


class FilterState(NamedTuple):
    """State of :meth:`UnsegmentedFilter.filter_step` between frames, for N recordings in parallel."""

    recent: Tensor  # (N, reach, d), last frames
    mass: Tensor  # (N, S V, nodes)
    pace: Tensor  # (N, 2), completed actions and their summed log ratios to the labels' means
    elapsed: Tensor  # (N,), frames so far, float
    shown: Shown


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
    label_probability: Tensor  # (..., K + 1)


class UnsegmentedFilter(nn.Module):
    """Bayesian filter over (kind of segment, duration, phase), at constant cost per frame.

    :func:`models.heads.filter.unsegmented_fit.fit_filter` fits it. The shown step is not always the most probable step
    of a frame, see :func:`models.heads.filter.decision.decide`. There is no look-ahead.

    Args:
        labels: names of the K labels.
        embedding_dim: D, the dimension of the embeddings.
        has_background: True if there are frames outside of actions.

    Attributes:
        weights: buffer (4,), weights of the logistic and Gaussian label sensors and of both phase sensors, each >= 0.
        rule: buffer (2,), caution and handicap of :func:`decide`.
        levels: buffer (3,), quantiles of ``progress``, set so that 90 % of left-out frames are inside the interval.
        unknown_above: buffer (), distance that 1 % of left-out training frames exceed.
    """

    def __init__(self, labels: Sequence[str], embedding_dim: int, has_background: bool) -> None:
        super().__init__()
        self.labels, self.num_labels = list(labels), len(labels)
        self.has_background = has_background
        sensed = self.num_labels + int(has_background)
        self.features = RecentFeatures(embedding_dim)
        self.cells = Cells(sensed, self.features.dim, bins=BINS, dims=DIMS, shrinkage=SHRINKAGE)
        self.short = Cells(self.num_labels, self.features.short_dim, bins=SHORT_BINS, dims=DIMS, shrinkage=SHRINKAGE)
        self.logistic = LogisticLabels(sensed, self.features.dim, self.cells.dims)
        self.grid = PhaseGrid(self.num_labels, has_background)
        self.rest = Remaining(self.grid)
        self.register_buffer('weights', torch.tensor([0.1, 0.05, 0.1, 0.0]))
        self.register_buffer('rule', torch.tensor([1.25, 2.0]))
        self.register_buffer('levels', torch.tensor(LEVELS))
        self.register_buffer('unknown_above', torch.tensor(NEVER))
        rows = self.cells.dims + sensed
        for name, shape in (('sensors', (rows, self.features.dim)), ('sensor_bias', (rows,)),
                            ('centers', (sensed * BINS, self.cells.dims)), ('center_bias', (sensed * BINS,)),
                            ('short_sensors', (self.num_labels * SHORT_BINS, self.features.short_dim)),
                            ('short_bias', (self.num_labels * SHORT_BINS,))):
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        of_kind = torch.arange(self.grid.num_kinds).clamp(max=self.num_labels)
        self.register_buffer('of_label', nn.functional.one_hot(of_kind, self.num_labels + 1).T.float(),
                             persistent=False)  # (K + 1, S), 1 at the kinds of a label
        self.register_buffer('between', _interpolation(BINS), persistent=False)  # (bins, nodes)
        self.register_buffer('between_short', _interpolation(SHORT_BINS), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.derive())

    def sense(self, features: Tensor) -> Evidence:
        """Return the evidence of the sensors for causal features (..., F)."""
        k = self.num_labels
        linear = nn.functional.linear(features, self.sensors, self.sensor_bias)  # (..., d + K')
        y = linear[..., :self.cells.dims]
        logistic = self.logistic(linear[..., self.cells.dims:], y)
        density = nn.functional.linear(y, self.centers, self.center_bias)  # (..., K' bins)
        distance = 0.5 * y.square().sum(-1) - density.amax(-1)
        density = density.view(*distance.shape, -1, BINS)
        by_label = density.logsumexp(-1, keepdim=True)
        phase = (density - by_label)[..., :k, :] + math.log(BINS)
        gaussian = by_label.squeeze(-1).log_softmax(-1) + math.log(by_label.shape[-2])
        short = nn.functional.linear(features[..., :self.features.short_dim], self.short_sensors, self.short_bias)
        short = short.view(*distance.shape, k, SHORT_BINS).log_softmax(-1) + math.log(SHORT_BINS)
        return Evidence(logistic.clamp(min=LOWEST_LABEL), gaussian.clamp(min=LOWEST_LABEL),
                        phase.clamp(min=LOWEST_PHASE), short.clamp(min=LOWEST_PHASE), distance)

    def derive(self) -> None:
        """Compute the tables of the sensors derived from the fitted tables."""
        cells = self.cells
        self.sensors.copy_(torch.cat([cells.projection.T, self.logistic.weight[:, :self.features.dim]]))
        self.sensor_bias.copy_(torch.cat([-cells.offset @ cells.projection, self.logistic.bias]))
        self.centers.copy_(cells.means.flatten(0, 1))
        self.center_bias.copy_(-0.5 * self.centers.square().sum(1))
        means = self.short.means.flatten(0, 1)
        self.short_sensors.copy_(means @ self.short.projection.T)  # projection and cells in a single product
        self.short_bias.copy_(-0.5 * means.square().sum(1) - self.short_sensors @ self.short.offset)

    def combine(self, evidence: Evidence, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weighted evidence of labels (..., K') and of phases, at the grid's nodes (..., K, nodes).

        Args:
            evidence: from :meth:`sense`.
            weights: (4,), to use instead of the fitted weights.
        """
        logistic, gaussian, phase, short = (self.weights if weights is None else weights).unbind()
        label = logistic * evidence.logistic + gaussian * evidence.gaussian
        return label, evidence.phase @ (phase * self.between) + evidence.short @ (short * self.between_short)

    def update(self, mass: Tensor, pace: Tensor, label: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Posterior]:
        """Advance the posterior by a frame and condition it on the frame.

        Args:
            mass: (N, S V, nodes).
            pace: (N, 2).
            label: (N, K'), from :meth:`combine`.
            phase: (N, K, nodes).
        """
        mass, pace, pace_weights = self.grid.advance(mass, pace)
        k, kinds = self.num_labels, self.grid.num_kinds
        shown = phase + label[:, :k].unsqueeze(2)  # (N, K, nodes)
        if self.has_background:
            shown = torch.cat([shown, label[:, k:].unsqueeze(2).expand(-1, k + 1, PHASES + 1)], dim=1)
        # Evidence is bounded on both sides, so the exponential is safe without subtracting the maximum.
        mass = (mass.view(len(mass), kinds, -1, PHASES + 1) * shown.exp().unsqueeze(2)).flatten(1, 2)
        mass = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-30)
        inside, moments = self.rest.moments(mass, pace_weights)
        return mass, pace, Posterior(mass[:, :k * RATES].sum(1), inside, moments)

    def label_probability(self, kinds: Tensor) -> Tensor:
        """Return the probability of each label and background, (..., K + 1), given kinds (..., S, 2)."""
        return kinds[..., 0] @ self.of_label.T

    def read(self, posterior: Posterior, probability: Tensor, step: Tensor, elapsed: Tensor,
             distance: Tensor) -> FilterOutput:
        """Return the outputs at frames (...) given their posterior, shown step, and elapsed frames."""
        mine = posterior.kinds * self.of_label[step].unsqueeze(-1)  # (..., S, 2)
        shown, frames = mine.sum(-2).unbind(-1)
        remaining, _ = self.rest(posterior.moments, elapsed)
        elapsed = elapsed.unsqueeze(-1)
        return FilterOutput(
            step=step, step_probability=shown, progress=phase_quantiles(posterior.phases, self.levels),
            remaining=frames / shown.clamp(min=1e-20), overall=elapsed / (elapsed + remaining.flip(-1)),
            overall_remaining=remaining, next_step=(mine[..., 0] @ self.grid.next_label).argmax(-1),
            unknown=distance > self.unknown_above, label_probability=probability)

    @torch.no_grad()
    def posteriors(self, evidence: Sequence[Evidence], weights: Sequence[Tensor] | None = None) -> list[Posterior]:
        """Return the posterior at each frame of recordings, which are processed in parallel.

        Args:
            evidence: evidence for each recording, from :meth:`sense`, shapes (T_i, ...).
            weights: (4,), weights of the sensors for each recording; if None, the fitted weights for all recordings.
        """
        lengths = [len(item.distance) for item in evidence]
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        combined = [self.combine(evidence[index], weights and weights[index]) for index in order]
        label, phase = (nn.utils.rnn.pad_sequence(list(part), batch_first=True) for part in zip(*combined, strict=True))
        mass, pace = self.grid.start(len(order))
        frames: list[Posterior] = []
        for t in range(lengths[order[0]]):
            running = sum(length > t for length in lengths)  # recordings are sorted, so these come first
            mass, pace, posterior = self.update(mass[:running], pace[:running], label[:running, t], phase[:running, t])
            frames.append(posterior)
        results = {index: Posterior(*(torch.stack([getattr(frame, name)[row] for frame in frames[:lengths[index]]])
                                      for name in Posterior._fields)) for row, index in enumerate(order)}
        return [results[index] for index in range(len(lengths))]

    @torch.no_grad()
    def filter(self, embeddings: Sequence[Tensor]) -> list[FilterOutput]:
        """Return the output at each frame of recordings (T_i, D); later frames have no effect."""
        evidence = [self.sense(self.features(item.unsqueeze(0)).squeeze(0)) for item in embeddings]
        outputs = []
        for item, posterior in zip(evidence, self.posteriors(evidence), strict=True):
            probability = self.label_probability(posterior.kinds)
            step = decide_all(probability.unsqueeze(0), self.grid.surprise, self.rule.unsqueeze(0)).flatten()
            elapsed = torch.arange(1, len(step) + 1, device=step.device, dtype=probability.dtype)
            outputs.append(self.read(posterior, probability, step, elapsed, item.distance))
        return outputs

    def start(self, embedding: Tensor) -> FilterState:
        """Return the state before the first frame, given the first embedding (N, D) of each of N recordings."""
        batch = len(embedding)
        zero = torch.zeros(batch, dtype=torch.long, device=embedding.device)
        shown = Shown(zero - 1, zero + self.num_labels)
        elapsed = torch.zeros(batch, device=embedding.device)
        return FilterState(self.features.start(embedding), *self.grid.start(batch), elapsed, shown)

    @torch.no_grad()
    def filter_step(self, embedding: Tensor, state: FilterState | None = None) -> tuple[FilterOutput, FilterState]:
        """Return the output at the next frame and the state for the next call.

        Args:
            embedding: (N, D), a frame of each of N recordings.
            state: from the previous call; None at the first frame.
        """
        state = self.start(embedding) if state is None else state
        features, recent = self.features.step(embedding, state.recent)
        evidence = self.sense(features)
        mass, pace, posterior = self.update(state.mass, state.pace, *self.combine(evidence))
        probability = self.label_probability(posterior.kinds)
        shown, elapsed = decide(probability, state.shown, self.grid.surprise, self.rule), state.elapsed + 1
        output = self.read(posterior, probability, shown.step, elapsed, evidence.distance)
        return output, FilterState(recent, mass, pace, elapsed, shown)


def _interpolation(bins: int) -> Tensor:
    """Return the matrix (bins, nodes) that linearly interpolates values at bin centers to the nodes of the grid."""
    place = (torch.arange(PHASES + 1) / PHASES * bins - 0.5).clamp(0, bins - 1)
    return (1 - (place - torch.arange(bins).unsqueeze(1)).abs()).clamp(min=0)


def phase_quantiles(phases: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles of progress, (..., Q) in (0, 1], given unnormalized mass at phases b / B, (..., nodes)."""
    cumulative = phases.cumsum(-1)
    target = (levels * cumulative[..., -1:]).contiguous()
    index = torch.searchsorted(cumulative, target).clamp(max=phases.shape[-1] - 1)
    mass = phases.gather(-1, index)
    part = ((target - cumulative.gather(-1, index) + mass) / mass.clamp(min=1e-30)).clamp(0, 1)
    return ((index + part - 0.5) / PHASES).clamp(0.1 / PHASES, 1.0)
