"""Online filter of recordings whose boundaries are unknown: step, progress, and remaining time at every frame."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads.filter.cache import CachingModule
from models.heads.filter.cells import Cells, split_density
from models.heads.filter.decision import before_first, decide, rule_tables, with_reading
from models.heads.filter.label_sensor import BASIS, LogisticKinds
from models.heads.filter.phase_grid import PHASES, RATES, PhaseGrid
from models.heads.filter.recent import RecentFeatures, SlowAverages
from models.heads.filter.records import Evidence, FilterOutput, FilterState, Posterior
from models.heads.filter.remaining import Remaining

BINS, DIMS, SHRINKAGE = 8, 16, 1.0  # of the cells of labels and phases
SHORT_BINS = 20  # of the cells of phases that see short-term features only
LOWEST_LABEL, LOWEST_PHASE = -5.0, -8.0  # one frame never says more against a label or a phase, before its weight
NEVER = 1e30  # a distance that no frame has; a checkpoint holds finite numbers only
DEFAULT_RULE = (2.0, 1.5, 1.0)  # caution, handicap, and reading of the shown step
LEVELS = (0.05, 0.5, 0.95)  # quantiles of progress: low end, estimate, high end, before the ends are widened
SMALLEST_PROGRESS = 0.1 / PHASES


class UnsegmentedFilter(CachingModule):
    """Bayesian filter over (kind of segment, duration, phase), at constant cost per frame.

    :func:`models.heads.filter.unsegmented_fit.fit_filter` fits it. The shown step is not always the most probable step
    of a frame, see :func:`models.heads.filter.decision.decide`. There is no look-ahead.

    Args:
        labels: names of the K labels.
        embedding_dim: D, the dimension of the embeddings.
        has_background: True if there are frames outside of actions.

    Attributes:
        weights: buffer (4,), weights of the logistic and Gaussian label sensors and of both phase sensors, each >= 0.
        rule: buffer (3,), caution, handicap, and reading of the shown step, see :func:`rule_tables`.
        margin: buffer (3,), added to the posterior's quantiles at ``LEVELS``: at most 0, 0, and at least 0.
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
        self.averages = SlowAverages(self.cells.dims)
        self.logistic = LogisticKinds(self.num_labels, has_background, self.features.dim, self.cells.dims,
                                      self.averages.dim)
        self.grid = PhaseGrid(self.num_labels, has_background)
        self.rest = Remaining(self.grid)
        self.register_buffer('weights', torch.tensor([0.1, 0.05, 0.1, 0.0]))
        self.register_buffer('rule', torch.tensor(DEFAULT_RULE))
        self.register_buffer('margin', torch.zeros(3))
        self.register_buffer('levels', torch.tensor(LEVELS), persistent=False)
        self.register_buffer('unknown_above', torch.tensor(NEVER))
        kinds = self.grid.num_kinds
        self.parts = [BASIS, kinds, sensed * BINS, self.num_labels * SHORT_BINS]  # of the rows of `projected`
        dims = self.cells.dims + self.short.dims
        for name, shape in (('sensors', (dims + kinds, self.features.dim)), ('sensor_bias', (dims + kinds,)),
                            ('projected', (sum(self.parts), self.averages.dim + dims)),
                            ('projected_bias', (sum(self.parts),))):
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        self.register_buffer('between', torch.cat([_interpolation(BINS), _interpolation(SHORT_BINS)]),
                             persistent=False)  # (bins + short bins, nodes)
        self.register_buffer('log_bins', torch.tensor([math.log(BINS)] * BINS + [math.log(SHORT_BINS)] * SHORT_BINS),
                             persistent=False)
        first = 3 * torch.arange(self.num_labels + 1).unsqueeze(1)
        self.register_buffer('columns', torch.cat([first, first + 1], dim=1), persistent=False)
        self.register_buffer('label_of', torch.arange(kinds).clamp(max=self.num_labels), persistent=False)
        self.register_buffer('reverse', torch.tensor([2, 1, 0]), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.derive())

    def project(self, features: Tensor) -> Tensor:
        """Return the products of causal features (n, F) with the sensors, (n, dims + short dims + S)."""
        # One product with the features for all sensors, and one with their projections: operations cost more than size.
        return nn.functional.linear(features, self.sensors, self.sensor_bias)

    def sense(self, linear: Tensor, context: Tensor) -> Evidence:
        """Return the evidence of the sensors at n frames.

        Args:
            linear: (n, dims + short dims + S), from :meth:`project`.
            context: (n, C), slow averages of the projection up to each frame.
        """
        k, dims, both = self.num_labels, self.cells.dims, self.cells.dims + self.short.dims
        y, scores = linear.narrow(-1, 0, dims), linear.narrow(-1, both, self.grid.num_kinds)
        inputs = torch.cat([context, linear.narrow(-1, 0, both)], dim=-1)
        angles, by_context, density, short = nn.functional.linear(inputs, self.projected, self.projected_bias).split(
            self.parts, dim=-1)
        # |y|^2 / 2 - max (y m - |m|^2 / 2) over the cells' means m is the least |y - m|^2 / 2.
        distance = y.square().sum(-1) / 2 - density.amax(-1)
        by_label, phase = split_density(density.unflatten(-1, (-1, BINS)))
        by_label = by_label.log_softmax(-1).clamp(min=LOWEST_LABEL - math.log(self.cells.num_labels))
        short = short.unflatten(-1, (k, SHORT_BINS)).log_softmax(-1)
        phase = torch.cat([phase.narrow(-2, 0, k), short], dim=-1) + self.log_bins
        return Evidence(self.logistic(scores + by_context, angles).clamp(min=LOWEST_LABEL),
                        by_label.index_select(-1, self.label_of), phase.clamp(min=LOWEST_PHASE), distance)

    def sense_recording(self, embeddings: Tensor) -> Evidence:
        """Return the evidence at each frame of a recording (T, D); later frames have no effect."""
        linear = self.project(self.features(embeddings.unsqueeze(0)).squeeze(0))
        return self.sense(linear, self.averages(linear[:, :self.cells.dims]))

    def derive(self) -> None:
        """Compute the tables of the sensors derived from the fitted tables."""
        cells, short, logistic = self.cells, self.short, self.logistic
        # Short-term features come first, so the rows of the short-term projection are 0 at the other features.
        short_rows = nn.functional.pad(short.projection.T, (0, self.features.dim - self.features.short_dim))
        features, slow = self.features.dim, self.averages.dim
        self.sensors.copy_(torch.cat([cells.projection.T, short_rows, logistic.weight[:, :features]]))
        self.sensor_bias.copy_(torch.cat([-cells.offset @ cells.projection, -short.offset @ short.projection,
                                          logistic.bias]))
        # Inputs: context, projection of all features, projection of short-term features. Their rows: cosines, labels by
        # context, cells of all features, cells of short-term features.
        by_context = logistic.weight[:, features:features + slow]
        means = cells.means.flatten(0, 1)
        wide = torch.cat([logistic.frequencies.roll(slow, dims=1), nn.functional.pad(by_context, (0, cells.dims)),
                          nn.functional.pad(means, (slow, 0))])
        self.projected.copy_(torch.block_diag(wide, short.means.flatten(0, 1)))
        self.projected_bias.copy_(torch.cat([logistic.phases, torch.zeros_like(logistic.bias), -cells.half_norms,
                                             -short.half_norms]))

    def combine(self, evidence: Evidence, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weighted evidence of kinds (..., S), and of phases at the grid's nodes (..., K, nodes).

        Args:
            evidence: from :meth:`sense`.
            weights: (4,), to use instead of the fitted weights.
        """
        weights = self.weights if weights is None else weights
        label = torch.addcmul(weights[0] * evidence.logistic, weights[1], evidence.gaussian)
        by_bin = torch.cat([weights[2:3].expand(BINS), weights[3:].expand(SHORT_BINS)])
        return label, evidence.phase @ (by_bin.unsqueeze(1) * self.between)

    def update(self, mass: Tensor, history: Tensor, label: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Posterior]:
        """Advance the posterior by a frame and condition it on the frame.

        Args:
            mass: (N, S V, nodes).
            history: (N, 2 + K + 1).
            label: (N, S), from :meth:`combine`.
            phase: (N, K, nodes).
        """
        mass, history, pace_weights, repetition = self.grid.advance(mass, history)
        k = self.num_labels
        # Evidence is bounded on both sides, so the exponential is safe without subtracting the maximum.
        likelihood = (phase + label.narrow(1, 0, k).unsqueeze(2)).exp().unsqueeze(2)  # (N, K, 1, nodes)
        mass.narrow(1, 0, k * RATES).unflatten(1, (k, RATES)).mul_(likelihood)
        if self.has_background:
            mass.narrow(1, k * RATES, (k + 1) * RATES).unflatten(1, (k + 1, RATES)).mul_(
                label.narrow(1, k, k + 1).exp().view(-1, k + 1, 1, 1))
        mass = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-30)
        kinds, moments = self.rest.moments(mass, pace_weights)
        background = kinds.narrow(1, k, self.grid.num_kinds - k)  # without rows if the task has none; their sum is 0
        steps = torch.cat([kinds.narrow(1, 0, k), background.sum(1, keepdim=True)], dim=1)
        return mass, history, Posterior(mass.narrow(1, 0, k * RATES).sum(1), steps, kinds.select(2, 0), moments,
                                        repetition)

    def read(self, posterior: Posterior, step: Tensor, elapsed: Tensor, distance: Tensor) -> FilterOutput:
        """Return the outputs at frames (...), given their posterior, step, elapsed frames (..., 1), and distance."""
        # Columns of the step's probability and frames in the table, if it is one row.
        columns = self.columns.index_select(0, step.flatten()).view(*step.shape, 2)
        shown, frames = posterior.steps.flatten(-2).gather(-1, columns).unbind(-1)
        remaining, _ = self.rest(posterior.moments, elapsed)
        after = self.grid.after_step.index_select(0, step.flatten()).view(*step.shape, self.num_labels + 1)
        background = posterior.kinds.narrow(-1, self.num_labels, self.grid.num_kinds - self.num_labels)
        after = torch.where((step == self.num_labels).unsqueeze(-1),
                            background @ self.grid.after_background, after)
        next_step = torch.addcmul(after, after, posterior.repetition).argmax(-1)
        progress = (phase_quantiles(posterior.phases, self.levels) + self.margin).clamp(SMALLEST_PROGRESS, 1.0)
        return FilterOutput(
            step=step, step_probability=shown, progress=progress,
            remaining=frames / shown.clamp(min=1e-20),
            overall=elapsed / (elapsed + remaining.index_select(-1, self.reverse)), overall_remaining=remaining,
            next_step=next_step, unknown=distance > self.unknown_above)

    @torch.no_grad()
    def posteriors(self, evidence: Sequence[Evidence], weights: Tensor | None = None) -> list[Posterior]:
        """Return the posterior at each frame of recordings.

        Args:
            evidence: evidence for each recording, from :meth:`sense`, shapes (T_i, ...).
            weights: (4,), of the sensors, to use instead of the fitted weights.
        """
        from models.heads.filter.compiled.step import posterior_of, prior_tables  # needs numba: slow to import

        prior = prior_tables(self.grid, self.rest)
        return [posterior_of(self.grid, prior, *self.combine(item, weights)) for item in evidence]

    @torch.no_grad()
    def filter(self, embeddings: Sequence[Tensor]) -> list[FilterOutput]:
        """Return the output at each frame of recordings (T_i, D); later frames have no effect."""
        outputs = []
        for recording in embeddings:
            output, _ = self._advance(recording.unsqueeze(0), None)
            outputs.append(FilterOutput(*(part.squeeze(0) for part in output)))
        return outputs

    def start(self, embedding: Tensor) -> FilterState:
        """Return the state before the first frame, given the first embedding (N, D) of each of N recordings."""
        batch = len(embedding)
        display = before_first(rule_tables(self.grid.surprise, self.rule), batch)
        return FilterState(self.features.start(embedding), self.averages.start(batch), *self.grid.start(batch),
                           embedding.new_zeros(batch, 1), display)

    def filter_step(self, embedding: Tensor, state: FilterState | None = None) -> tuple[FilterOutput, FilterState]:
        """Return the output at the next frame and the state for the next call.

        Args:
            embedding: (N, D), a frame of each of N recordings.
            state: from the previous call; None at the first frame.
        """
        output, state = self._advance(embedding.unsqueeze(1), state)
        return FilterOutput(*(part.squeeze(1) for part in output)), state

    def _advance(self, embeddings: Tensor, state: FilterState | None) -> tuple[FilterOutput, FilterState]:
        """Return the output at the next frames (N, T, D), (N, T, ...), and the state after them."""
        if self._cache is None:
            from models.heads.filter.compiled.step import CompiledStep  # needs numba: slow to import

            self._cache = CompiledStep(self)
        if state is None:
            state = self._cache.start(self.start(embeddings[:, 0]))
        return self._cache(embeddings, state)

    def step_of_tensors(self, embedding: Tensor, state: FilterState) -> tuple[FilterOutput, FilterState]:
        """Return what :meth:`filter_step` returns, computed by operations of tensors alone, which can be exported."""
        features, recent = self.features.step(embedding, state.recent)
        linear, elapsed = self.project(features), state.elapsed + 1
        context = self.averages.step(linear.narrow(1, 0, self.cells.dims), state.context, elapsed)
        evidence = self.sense(linear, context)
        mass, history, posterior = self.update(state.mass, state.history, *self.combine(evidence))
        rule = rule_tables(self.grid.surprise, self.rule)
        read = with_reading(posterior.kinds, evidence.logistic, self.rule[2], self.num_labels)
        display = decide(read, state.display, rule)
        output = self.read(posterior, rule.step.index_select(0, display), elapsed, evidence.distance)
        return output, FilterState(recent, context, mass, history, elapsed, display)


def _interpolation(bins: int) -> Tensor:
    """Return the matrix (bins, nodes) that linearly interpolates values at bin centers to the nodes of the grid."""
    place = (torch.arange(PHASES + 1) / PHASES * bins - 0.5).clamp(0, bins - 1)
    return (1 - (place - torch.arange(bins).unsqueeze(1)).abs()).clamp(min=0)


def phase_quantiles(phases: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles of progress, (..., Q) in (0, 1], given unnormalized mass at phases b / B, (..., nodes)."""
    mass = phases.clamp(min=1e-30)
    cumulative = mass.cumsum(-1)
    target = levels * cumulative.narrow(-1, PHASES, 1)  # (..., Q)
    # Fraction of each node's mass that is below a quantile: 1 up to the quantile's node, 0 after it.
    below = (target.unsqueeze(-1) - (cumulative - mass).unsqueeze(-2)) / mass.unsqueeze(-2)
    # Node b holds phases from (b - 1/2) / B to (b + 1/2) / B.
    progress = torch.add(phases.new_tensor(-0.5 / PHASES), below.clamp(0, 1).sum(-1), alpha=1 / PHASES)
    # Both bounds are floats: the ONNX exporter of torch 2.13 cannot promote the types of a mixed pair.
    return progress.clamp(SMALLEST_PROGRESS, 1.0)
