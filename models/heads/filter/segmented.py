"""Exact Bayesian filter over (label, duration), for actions whose start is given.

Progress at frame t of an action of L frames is t / L, so the posterior over label and duration determines it:

    p(k, L | e_1..t)  ~  p(k | labels before) p(L | k, pace) [L >= t] prod_s p(e_s | k, (s - 1/2) / L)^weight
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.heads.durations import Completed, Durations
from models.heads.filter.cells import CausalFeatures, Cells, phase_weights
from models.heads.filter.duration_grid import DurationGrid
from models.heads.filter.traced_step import TracedModule
from models.heads.order import StepOrder

LAGS = (2, 5)  # distances in frames of the differences that the cells see
MOST_ENTRIES = 4_000_000  # largest size of tensors (actions, frames, K, G)
IMPOSSIBLE = -1e4  # log probability of all other labels if an action's label is given
SMALLEST_PROGRESS = 1e-6  # of the lower end of an interval
LEVELS = (0.5, 0.05, 0.95)  # quantiles of the estimate and of the interval's ends, before they are widened


class TrainingRecording(NamedTuple):
    """A training recording.

    Attributes:
        embeddings: (T, D).
        labels: label of each action, integers in [0, K).
        starts, ends: first and last frame of each action, inclusive.
        group: who performs the recording.
    """

    embeddings: Tensor
    labels: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]
    group: str

    def completed(self) -> list[Completed]:
        """Return label and length of every action."""
        return [Completed(label, end - start + 1)
                for label, start, end in zip(self.labels, self.starts, self.ends, strict=True)]

    def segments(self) -> list[Tensor]:
        """Return the embeddings of every action, (n_i, D) each."""
        return [self.embeddings[start:end + 1] for start, end in zip(self.starts, self.ends, strict=True)]


class Start(NamedTuple):
    """What is known at an action's start: log p of each label (K,), log pace, and number of actions it is based on."""

    log_label: Tensor
    log_pace: float
    num_known: int


class FilterState(NamedTuple):
    """State of :meth:`SegmentedFilter.step` between frames, of constant size."""

    recent: Tensor  # (reach, D), the last frames
    log_mass: Tensor  # (K, G), log prior and evidence so far, up to a constant
    elapsed: Tensor  # (1,), frames so far, float


class SegmentedFilter(TracedModule):
    """Filter of a task with given boundaries.

    Args:
        num_labels: K, the number of labels of the task.
        feature_dim: D, the dimension of the embeddings.
        grid_size: G, the number of duration cells.
        bins: B, the number of phase bins of the sensors.
        dims: dimension of the cells' projection.

    Attributes:
        weights: buffer (2,), of the label cells and the phase cells, each >= 0.
        margin: buffer (3,), added to the posterior's quantiles at ``LEVELS``: 0, at most 0, and at least 0.
    """

    def __init__(self, num_labels: int, feature_dim: int, *, grid_size: int = 128, bins: int = 20,
                 dims: int = 16) -> None:
        super().__init__()
        self.num_labels, self.feature_dim = num_labels, feature_dim
        self.order, self.durations = StepOrder(num_labels), Durations(num_labels)
        self.grid = DurationGrid(grid_size)
        self.features = CausalFeatures(LAGS)
        self.cells = Cells(num_labels, self.features.dim(feature_dim), bins=bins, dims=dims)
        self.register_buffer('weights', torch.zeros(2))
        self.register_buffer('margin', torch.zeros(3))
        self.register_buffer('levels', torch.tensor(LEVELS), persistent=False)

    def fit(self, recordings: Sequence[TrainingRecording]) -> None:
        """Fit order, durations, and sensors, but not the weights, to training recordings, in place."""
        completed = [recording.completed() for recording in recordings]
        self.order.fit([[action.label for action in actions] for actions in completed])
        self.durations.fit(completed, [recording.group for recording in recordings])
        self.grid.fit(*self.durations.range.tolist())
        segments = [segment for recording in recordings for segment in recording.segments()]
        # The phase of a frame is its middle: (i - 1/2) / L at the i-th of L frames.
        phases = torch.cat([(torch.arange(len(segment), device=segment.device) + 0.5) / len(segment)
                            for segment in segments])
        # A label per action, then repeated for each of its frames.
        labels = torch.tensor([label for recording in recordings for label in recording.labels])
        labels = labels.to(phases.device).repeat_interleave(torch.tensor([len(segment) for segment in segments],
                                                                         device=phases.device))
        self.cells.fit(torch.cat([self.features(segment) for segment in segments]), labels, phases)

    def start(self, completed: Sequence[Completed], label: int | None = None) -> Start:
        """Return what is known about an action at its start.

        Args:
            completed: actions of the recording before this action, in order of time.
            label: label of the action, if known; for an unseen label, the order of labels is used instead.
        """
        if label is None or not 0 <= label < self.num_labels:
            log_label = self.order.log_next_label([action.label for action in completed])
        else:
            log_label = self.weights.new_full((self.num_labels,), IMPOSSIBLE)
            log_label[label] = 0
        return Start(log_label, self.durations.log_pace(completed), self.durations.num_known(completed))

    def forward_dense(self, segments: Sequence[Tensor], starts: Sequence[Start]) -> list[Tensor]:
        """Filter actions.

        Args:
            segments: (n_i, D), embeddings of each action, from its first frame on.
            starts: from :meth:`start`, for each action.

        Returns:
            Progress, (n_i, 3), at each frame of each action: posterior median, low end, and high end of the interval,
            all in (0, 1]. Later frames have no effect.
        """
        outputs: list[list[Tensor]] = [[] for _ in segments]
        for which, elapsed, log_mass in self.log_masses(segments, starts):
            progress = self._read_out(log_mass, elapsed)
            for row, index in enumerate(which):
                # The chunk begins at frame elapsed[0], and may extend past the end of a shorter action.
                outputs[index].append(progress[row, :len(segments[index]) - int(elapsed[0]) + 1])
        return [torch.cat(parts) for parts in outputs]

    def step(self, embedding: Tensor, state: FilterState | None, start: Start | None) -> tuple[Tensor, FilterState]:
        """Filter the next frame of an action, at constant cost.

        Args:
            embedding: (D,).
            state: state returned by the previous call; None at the action's first frame.
            start: from :meth:`start`; only used at the action's first frame.

        Returns:
            (3,), progress at this frame, equal to that of :meth:`forward_dense`, and the state for the next call.
        """
        if state is None:
            state = FilterState(self.features.start(embedding), self.log_prior([start])[0], self.weights.new_zeros(1))
        progress, *after = self.run_step(self._step, embedding, *state)
        return progress, FilterState(*after)

    def _step(self, embedding: Tensor, recent: Tensor, log_mass: Tensor, elapsed: Tensor) -> tuple[Tensor, ...]:
        """Return progress (3,) at the next frame (D,), and the next state; the arguments are the state."""
        features, recent = self.features.step(embedding, recent)
        elapsed = elapsed + 1
        log_mass = log_mass + self._evidence(features[None, None], elapsed)[0, 0]
        return self._read_out(log_mass[None, None], elapsed)[0, 0], recent, log_mass - log_mass.amax(), elapsed

    def log_masses(self, segments: Sequence[Tensor],
                   starts: Sequence[Start]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Iterate over batches of actions of similar length, and over chunks of their frames.

        Yields:
            Indices of the N actions, numbers (C,) of the frames from 1 on, and the log mass (N, C, K, G); rows past an
            action's end are meaningless. Actions that end before the chunk are left out.
        """
        # Actions of similar length share a batch, so that little of it is padding.
        by_length = sorted(range(len(segments)), key=lambda index: len(segments[index]))
        # So many actions that a chunk has at least 32 frames.
        together = max(1, MOST_ENTRIES // (32 * self.num_labels * self.grid.size))
        for first in range(0, len(by_length), together):
            which = by_length[first:first + together]
            padded = pad_sequence([segments[index] for index in which], batch_first=True)  # (N, n, D)
            features = self.features(padded)
            log_mass = self.log_prior([starts[index] for index in which])  # (N, K, G)
            size = max(1, MOST_ENTRIES // log_mass.numel())
            for begin in range(0, features.shape[1], size):
                alive = [row for row, index in enumerate(which) if len(segments[index]) > begin]
                elapsed = torch.arange(begin + 1, min(begin + size, features.shape[1]) + 1).to(self.weights)
                evidence = self._evidence(features[alive, begin:begin + size], elapsed)
                total = log_mass[alive].unsqueeze(1) + evidence.cumsum(1)  # (N, C, K, G)
                yield [which[row] for row in alive], elapsed, total
                # Only differences matter; with the maximum at 0, sums over long actions keep their precision.
                log_mass[alive] = total[:, -1] - total[:, -1].amax((-2, -1), keepdim=True)

    def log_prior(self, starts: Sequence[Start]) -> Tensor:
        """Return the log probability of labels and durations at the start of actions, (N, K, G)."""
        log_label = torch.stack([start.log_label for start in starts])
        log_density = self.durations.log_density(self.grid.centers(),
                                                 log_label.new_tensor([start.log_pace for start in starts]),
                                                 log_label.new_tensor([start.num_known for start in starts]))
        # Cells are of equal size in log frames, so normalized densities are masses. (N, K, 1) + (N, K, G)
        return log_label.unsqueeze(2) + log_density.log_softmax(2)

    def _evidence(self, features: Tensor, elapsed: Tensor) -> Tensor:
        """Return the weighted log evidence of frames for labels and durations.

        Args:
            features: (N, C, F), causal features.
            elapsed: (C,), numbers of the frames in their actions, from 1 on.

        Returns:
            (N, C, K, G), its largest entry 0 at each frame: sums over many frames keep their precision.
        """
        label_weight, phase_weight = self.weights.unbind()
        by_label, by_phase = self.cells.log_evidence(features)  # (N, C, K), (N, C, K, B)
        evidence = self.at_durations(phase_weight * by_phase, elapsed) + (label_weight * by_label).unsqueeze(3)
        return evidence - evidence.amax((-2, -1), keepdim=True)

    def at_durations(self, by_phase: Tensor, elapsed: Tensor) -> Tensor:
        """Convert evidence for phase bins (..., C, K, B) at frames (C,) to evidence for durations, (..., C, K, G)."""
        # At frame t of an action of L frames the phase is (t - 1/2) / L: (..., C, K, B) @ (C, B, G) -> (..., C, K, G).
        return by_phase @ phase_weights(elapsed, self.grid.frames, self.cells.bins)

    def _read_out(self, log_mass: Tensor, elapsed: Tensor) -> Tensor:
        """Return progress and its interval (N, C, 3), given log masses (N, C, K, G) at frames (C,)."""
        log_elapsed, surviving = elapsed.log().unsqueeze(1), self.grid.surviving(elapsed)  # (C, 1), (C, G)
        # Sum over labels, times survival [L >= t]; quantiles do not need masses that sum to 1.
        by_duration = log_mass.flatten(2).softmax(2).unflatten(2, log_mass.shape[2:]).sum(2) * surviving  # (N, C, G)
        # Progress t / L falls with L: its 5 % quantile is at the 95 % quantile of the duration.
        log_duration = self.grid.quantiles(by_duration, surviving.expand_as(by_duration), 1 - self.levels)
        progress = (log_elapsed - log_duration).clamp(max=0).exp() + self.margin  # (N, C, 3)
        return progress.clamp(SMALLEST_PROGRESS, 1)
