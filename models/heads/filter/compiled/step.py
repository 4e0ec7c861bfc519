"""The filter in compiled code, called with tensors: steps, and what fitting needs of recordings."""

import numpy as np
import torch
from torch import Tensor

from models.heads.filter.compiled.frame import step_frames
from models.heads.filter.compiled.outputs import Outputs, decide_frames
from models.heads.filter.compiled.prior import Prior, forward
from models.heads.filter.compiled.sensors import Sensors
from models.heads.filter.decision import Rule, rule_tables
from models.heads.filter.label_sensor import BASIS
from models.heads.filter.phase_grid import OUTERMOST, PACES, RATES, STAYING, PhaseGrid
from models.heads.filter.recent import LAGS
from models.heads.filter.records import FilterOutput, FilterState, Posterior
from models.heads.filter.remaining import SMALLEST_VARIANCE, Remaining
from models.heads.filter.unsegmented import BINS, LOWEST_LABEL, LOWEST_PHASE, SMALLEST_PROGRESS, UnsegmentedFilter

PARTS = [1, 3, 1, 3, 3]  # of a row of numbers that a step returns


class CompiledStep:
    """Steps of a filter, each the same as :meth:`UnsegmentedFilter.step_of_tensors`.

    The tables are those of the filter when the object was made. It computes in float32 on the CPU. States consist of
    arrays, because tensors would take as long to make as the step takes.

    Args:
        model: the filter.
    """

    def __init__(self, model: UnsegmentedFilter) -> None:
        self._tables = sensor_tables(model), prior_tables(model.grid, model.rest), output_tables(model)

    def start(self, state: FilterState) -> FilterState:
        """Return a state of tensors as arrays."""
        return FilterState(*map(array_of, state))

    def __call__(self, embeddings: Tensor, state: FilterState) -> tuple[FilterOutput, FilterState]:
        """Return the output at the next T frames, (N, T, ...), and the state after them.

        Args:
            embeddings: (N, T, D), the frames of N recordings.
            state: before the frames, of arrays.
        """
        shape, after = embeddings.shape[:2], FilterState(*map(np.empty_like, state))
        numbers, labels = np.empty((*shape, sum(PARTS)), np.float32), np.empty((*shape, 2), np.int64)
        unknown = np.empty(shape, np.bool_)
        step_frames(*self._tables, array_of(embeddings), state, after, numbers, labels, unknown)
        found, steps, is_unknown = (torch.from_numpy(array) for array in (numbers, labels, unknown))
        if embeddings.device.type != 'cpu' or embeddings.dtype != torch.float32:
            found = found.to(embeddings)
            steps, is_unknown = steps.to(embeddings.device), is_unknown.to(embeddings.device)
        shown, progress, remaining, overall, overall_remaining = found.split_with_sizes(PARTS, dim=-1)
        step, following = steps.unbind(-1)
        output = FilterOutput(step, shown.squeeze(-1), progress, remaining.squeeze(-1), overall, overall_remaining,
                              following, is_unknown)
        return output, after


def sensor_tables(model: UnsegmentedFilter) -> Sensors:
    """Return the tables of a filter's sensors as arrays."""
    cells, logistic = model.cells, model.logistic
    return Sensors(
        offset=array_of(model.features.offset), projection=array_of(model.features.projection.T),
        averages=array_of(model.features.averages), lags=len(LAGS), rates=array_of(model.averages.rates),
        linear=array_of(model.sensors), linear_bias=array_of(model.sensor_bias), projected=array_of(model.projected),
        projected_bias=array_of(model.projected_bias), dims=cells.dims, bins=BINS,
        cosines=array_of(logistic.weight[:, -BASIS:]), likelihood=array_of(logistic.likelihood),
        label_of=array_of(model.label_of), between=array_of(model.between), log_bins=array_of(model.log_bins),
        weights=array_of(model.weights), lowest_label=np.float32(LOWEST_LABEL),
        lowest_cell=np.float32(LOWEST_LABEL - np.log(cells.num_labels)), lowest_phase=np.float32(LOWEST_PHASE))


def prior_tables(grid: PhaseGrid, rest: Remaining) -> Prior:
    """Return the tables of a filter's prior as arrays."""
    paces, kinds = len(PACES), grid.num_kinds
    whole, part = grid.moves()
    return Prior(
        whole=array_of(whole), part=array_of(part), completed=array_of(grid.completed),
        entry=array_of(grid.entry.view(paces, kinds, RATES)), transition=array_of(grid.transition),
        again=array_of(grid.again), places=array_of(grid.places), outermost=np.float32(OUTERMOST),
        staying=np.float32(STAYING), frames=array_of(rest.frames), left=array_of(rest.left),
        combine=array_of(rest.combine.view(kinds, 3, 2, paces)))


def output_tables(model: UnsegmentedFilter) -> Outputs:
    """Return the tables of what is read off the posterior as arrays."""
    grid, rest = model.grid, model.rest
    rule = rule_tables(grid.surprise, model.rule)
    return Outputs(
        reading=_number(model.rule[2]), factor=array_of(rule.factor), following=array_of(rule.following),
        step=array_of(rule.step), after_step=array_of(grid.after_step),
        after_background=array_of(grid.after_background), levels=array_of(model.levels),
        margin=array_of(model.margin), smallest=np.float32(SMALLEST_PROGRESS), counter=array_of(rest.counter),
        per_frame=_number(rest.per_frame), blend=_number(rest.blend), spread=array_of(rest.spread),
        smallest_variance=np.float32(SMALLEST_VARIANCE), unknown_above=_number(model.unknown_above))


def posterior_of(grid: PhaseGrid, prior: Prior, label: Tensor, phase: Tensor) -> Posterior:
    """Return the posterior at the T frames of a recording.

    Args:
        grid: the prior.
        prior: its tables, from :func:`prior_tables`.
        label: (T, S), weighted evidence of kinds.
        phase: (T, K, nodes), weighted evidence of phases.
    """
    mass, history = grid.start(1)
    frames, labels, nodes = phase.shape
    shapes = Posterior(phases=(nodes,), steps=(labels + 1, 3), kinds=label.shape[1:], moments=(2,),
                       repetition=(labels + 1,))
    posterior = Posterior(*(np.empty((frames, *shape), np.float32) for shape in shapes))
    forward(prior, array_of(mass[0]), array_of(history[0]), array_of(label), array_of(phase), posterior)
    return Posterior(*(torch.from_numpy(part).to(label) for part in posterior))


def shown_steps(kinds: Tensor, evidence: Tensor, reading: Tensor, rule: Rule) -> Tensor:
    """Return the steps to show at the T frames of a recording, (T,).

    Args:
        kinds: (T, S), see :func:`models.heads.filter.decision.with_reading`.
        evidence: (T, S).
        reading: (), weight of the evidence.
        rule: see :func:`models.heads.filter.decision.rule_tables`.
    """
    displays = np.empty(len(kinds), np.int64)
    # The last display is the one before the first frame.
    decide_frames(array_of(kinds), array_of(evidence), _number(reading), array_of(rule.factor),
                  array_of(rule.following), len(rule.step) - 1, displays)
    return rule.step[torch.from_numpy(displays).to(kinds.device)]


def array_of(tensor: Tensor) -> np.ndarray:
    """Return a tensor as a contiguous array on the CPU, of float32 if it is of floats; without a copy if possible."""
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous().numpy()


def _number(tensor: Tensor) -> np.float32:
    return np.float32(tensor.item())
