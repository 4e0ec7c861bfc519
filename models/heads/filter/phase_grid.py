"""Semi-Markov prior of whole recordings on a grid of phases: transitions between states, and their durations."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from models.heads.durations import Completed, Durations
from models.heads.order import StepOrder

RATES = 9  # durations per state
REACH = 2.5  # of the rates, in std of log durations around the state's mean
PHASES = 30  # parts of a segment
FEWEST_SEGMENTS = 3  # of background after a label; after rarer ones it is as long as any
BACKGROUND_PRIOR = 2.0  # recordings' worth of the overall frequency of background, for background after a label
STAYING = 1e-4  # part of the mass that ends a segment and yet stays: an endless one keeps a posterior, at phase 1
# Bounds of the probability that a label's surprise is computed from. Even the label that always comes next surprises a
# little, so that it does not flicker; and a label that was shown too early, and rarely comes twice, can be shown again.
LEAST_PROBABLE, MOST_PROBABLE = 0.135, 0.61
LARGEST_PACE, PACES_APART = 0.8, 0.2
PACES = torch.linspace(-LARGEST_PACE, LARGEST_PACE, 9)  # log paces, at which the durations of new segments are stored
OUTERMOST = LARGEST_PACE / PACES_APART
PACE_STATISTICS = 2
KNOWN = 2.0  # completed actions that the stored durations take the pace to be known from


class PhaseGrid(nn.Module):
    """States (segment kind, duration, phase) of a recording and their transitions from frame to frame.

    The S kinds of segments are K labels and, if the task has background, background after each label and before the
    first label, because the duration of background and the next label depend on the previous label. Mass at phase
    ``b / B`` moves by ``B / L`` nodes per frame; mass that moves past node B has ended and begins the next segment,
    drawn from the order of labels, with a duration that depends on the recording's pace so far. Mass for which the
    recording has ended is dropped if another frame arrives.

    What is remembered of completed actions is the same for all states, their expectation under the posterior: the pace,
    and how often each label was done. The history is a row of numbers: the two pace statistics, then the count of each
    label, then 0 for the end of the recording, which is never done.

    Args:
        num_labels: K, the number of labels.
        has_background: True if there are frames outside of actions.

    Attributes:
        transition: buffer (S, S), probability of the next kind; rows sum to 1 minus the probability of the end.
        log_frames: buffer (S, V), log durations.
        entry: buffer (paces, S * V), probability of each duration of a new segment of each kind.
        initial: buffer (S,), probability of the first kind of a recording.
        surprise: buffer (K + 1, K + 1), - log p(label | last action), the probability bounded; row K is the start,
            column K background, which surprises as little as the most probable label.
        again: buffer (K + 1,), factor on the probability of a label that was done before, minus 1; 0 for the end.
    """

    def __init__(self, num_labels: int, has_background: bool) -> None:
        super().__init__()
        self.num_labels, self.has_background = num_labels, has_background
        self.num_kinds = size = 2 * num_labels + 1 if has_background else num_labels
        nodes = PHASES + 1
        self.register_buffer('transition', torch.zeros(size, size))
        self.register_buffer('likely', torch.zeros(size, size))  # transitions as seen in training, hardly smoothed
        self.register_buffer('log_frames', torch.zeros(size, RATES))
        self.register_buffer('entry', torch.full((len(PACES), size * RATES), 1 / RATES))
        self.register_buffer('initial', torch.full((size,), 1 / size))
        self.register_buffer('shrinkage', torch.ones(()))
        self.register_buffer('again', torch.zeros(num_labels + 1))
        for name, shape in (('near', nodes), ('far', PHASES), ('beginning', nodes), ('leaving', nodes),
                            ('completed', PACE_STATISTICS + num_labels + 1), ('following', size),
                            ('following_labels', num_labels + 1)):
            self.register_buffer(name, torch.zeros(size * RATES, shape), persistent=False)
        self.register_buffer('all_following', torch.ones(size * RATES), persistent=False)
        self.register_buffer('after_step', torch.zeros(num_labels + 1, num_labels + 1), persistent=False)
        self.register_buffer('after_background', torch.zeros(size - num_labels, num_labels + 1), persistent=False)
        self.register_buffer('surprise', torch.zeros(num_labels + 1, num_labels + 1), persistent=False)
        self.register_buffer('source', torch.zeros(size * RATES * nodes, dtype=torch.long), persistent=False)
        self.register_buffer('places', PACES / PACES_APART, persistent=False)
        self.derive()
        self.register_load_state_dict_post_hook(lambda module, _: module.derive())

    def fit(self, recordings: Sequence[Sequence[tuple[int, int]]], groups: Sequence[str]) -> None:
        """Fit order and durations, in place.

        Args:
            recordings: segments (kind, frames) that cover each training recording; kind K + k is background after
                label k, kind 2 K background before the first label.
            groups: who performs each recording.
        """
        k = self.num_labels
        labels = [[(kind, length) for kind, length in segments if kind < k] for segments in recordings]
        order = StepOrder(k, trigrams=False)
        order.fit([[kind for kind, _ in segments] for segments in labels])
        self.again[:k] = (order.weights[1] * order.log_again[:, 1]).exp() - 1
        smooth = order.log_bigram[:k + 1].exp().double()  # (K + 1, K + 1), the last row the start, last column the end
        seen = torch.zeros_like(smooth)
        for segments in labels:
            # As a row, k is the start; as a column, the end.
            path = [k, *(kind for kind, _ in segments), k]
            for before, after in zip(path, path[1:], strict=False):
                seen[before, after] += 1
        background = self._background_frequency(recordings, labels)
        repeated = {a for segments in recordings for (a, _), (b, _) in zip(segments, segments[1:], strict=False)
                    if a == b}
        self._set_transitions(self.transition, smooth, background, repeated, self.initial)
        # Relative frequencies; a label that nothing follows in training falls back to the smoothed bigrams.
        seen = (seen + 0.2 * smooth) / (seen.sum(1, keepdim=True) + 0.2)
        self._set_transitions(self.likely, seen, background, repeated)
        actions = Durations(k)
        actions.fit([[Completed(*segment) for segment in segments] for segments in labels], groups)
        self.shrinkage.copy_(actions.spread[2])
        self._set_durations(actions, slice(0, k), paced=True)
        if self.has_background:
            self._set_durations(self._background_durations(recordings, groups), slice(k, None), paced=False)
        self.derive()

    def _background_frequency(self, recordings: Sequence, labels: Sequence) -> Tensor:
        """Return the probability of background after each label, and before the first label, (K + 1,)."""
        k = self.num_labels
        segments, followed = torch.zeros(k + 1).double(), torch.zeros(k + 1).double()
        for recording, actions in zip(recordings, labels, strict=True):
            for kind in [k, *(kind for kind, _ in actions)]:
                segments[kind] += 1
            for kind, _ in recording:
                if kind >= k:
                    followed[kind - k] += 1
        overall = (followed.sum() + 0.5) / (segments.sum() + 1)
        frequency = (followed + BACKGROUND_PRIOR * overall) / (segments + BACKGROUND_PRIOR)
        return frequency.clamp(0.02, 0.98) if self.has_background else torch.zeros_like(frequency)

    def _set_transitions(self, table: Tensor, after: Tensor, background: Tensor, repeated: Collection[int],
                         initial: Tensor | None = None) -> None:
        """Set transitions of kinds given transitions of labels, ``after`` (K + 1, K + 1), and rates of background.

        A label can follow itself without background in between only if it is in ``repeated``; otherwise the two
        segments would be a single segment.
        """
        k = self.num_labels
        table.zero_()
        # From a label straight to the next one, if no background comes in between.
        table[:k, :k] = (1 - background[:k, None]) * after[:k, :k]
        for label in set(range(k)) - set(repeated):
            table[label, label] = 0.0
        if self.has_background:
            # From a label to the background after it, which remembers the label, and from there to the next label.
            table[torch.arange(k), k + torch.arange(k)] = background[:k].to(table)
            table[k:, :k] = after[:, :k]
        if initial is not None:
            initial.zero_()
            initial[:k] = (1 - background[k]) * after[k, :k]
            if self.has_background:
                initial[-1] = background[k]
            initial.div_(initial.sum())

    def _background_durations(self, recordings: Sequence, groups: Sequence[str]) -> Durations:
        """Return durations of the K + 1 kinds of background; rare kinds share the same durations."""
        k = self.num_labels
        spans = [[Completed(kind - k, length) for kind, length in segments if kind >= k] for segments in recordings]
        if not any(spans):
            # All background is in recordings that a fold leaves out: it is expected to last as long as the actions.
            spans = [[Completed(k, length) for _, length in segments] for segments in recordings]
        counts = torch.bincount(torch.tensor([span.label for some in spans for span in some]), minlength=k + 1)
        durations = Durations(k + 1)
        durations.fit(spans, groups)
        overall = (durations.log_means * counts).sum() / counts.sum()
        durations.log_means[counts < FEWEST_SEGMENTS] = overall
        return durations

    def _set_durations(self, durations: Durations, kinds: slice, *, paced: bool) -> None:
        """Set the grid of log durations of some kinds, and the probability of each duration of a new segment."""
        at = torch.linspace(-4, 4, 161)
        density = durations.log_density(durations.log_means[:, None] + at, torch.zeros(()), torch.zeros(())).exp()
        density = density / density.sum(1, keepdim=True)
        mean = (density * at).sum(1, keepdim=True)
        std = ((density * at.square()).sum(1, keepdim=True) - mean.square()).clamp(min=0.01).sqrt()  # (K, 1)
        grid = durations.log_means[:, None] + mean + std * torch.linspace(-REACH, REACH, RATES)  # (K, V)
        self.log_frames[kinds] = grid
        entry = self.entry.view(len(PACES), self.num_kinds, RATES)
        for index, pace in enumerate(PACES if paced else torch.zeros_like(PACES)):
            log_density = durations.log_density(grid, pace, torch.tensor(KNOWN if paced else 0.0))
            # A small uniform part, so that no duration is impossible.
            entry[index, kinds] = 0.999 * log_density.softmax(-1) + 0.001 / RATES

    def moves(self) -> tuple[Tensor, Tensor]:
        """Return the nodes that mass moves by per frame, (S V,) long, and the part of it that moves by one more."""
        # B / L nodes, in general not a whole number: the mass is divided between two nodes.
        moved = (PHASES / self.log_frames.exp().clamp(min=1)).flatten()
        whole = moved.floor()
        return whole.long(), moved - whole

    def derive(self) -> None:
        """Compute the tables derived from the fitted tables; call this after loading a state_dict."""
        nodes, size = PHASES + 1, self.num_kinds * RATES
        whole, part = (item.unsqueeze(1) for item in self.moves())
        node = torch.arange(nodes, device=part.device)
        source = node - whole  # (S V, nodes), where mass comes from; one node further back for `part` of it
        row = torch.arange(size, device=part.device).unsqueeze(1) * nodes
        self.source.copy_((source.clamp(min=0) + row).flatten())
        self.near.copy_((1 - part) * (source >= 0))
        # From one node further back than `source`, which is where the node before takes its mass from.
        self.far.copy_((part * (source >= 1))[:, 1:])
        self.beginning.copy_((1 - part) * (source == 0) + part * (source == 1))
        self.leaving.copy_((1 - part) * (node + whole > PHASES) + part * (node + whole + 1 > PHASES))
        deviation = self.log_frames - self.log_frames.mean(1, keepdim=True)
        known = torch.zeros_like(deviation)
        known[:self.num_labels] = 1
        k = self.num_labels
        self.following.copy_(self.transition.repeat_interleave(RATES, dim=0))
        self.following_labels[:, :k] = self.following[:, :k]
        # The next label comes directly, or after background: (S, K).
        labels = self.transition[:, :k] + self.transition[:, k:] @ self.transition[k:, :k]
        following = torch.cat([labels, (1 - labels.sum(1, keepdim=True)).clamp(min=0)], dim=1)  # (S, K + 1), K: the end
        self.after_step[:k] = following[:k]
        self.after_background.copy_(following[k:])
        first = self.initial[:k] + self.initial[k:] @ self.transition[k:, :k]
        after = torch.cat([labels[:k], first.unsqueeze(0)])
        self.surprise.fill_(-math.log(MOST_PROBABLE))
        self.surprise[:, :k] = -after.clamp(LEAST_PROBABLE, MOST_PROBABLE).log()
        # Log ratios count in units of the distance between paces, so that pace_weights() has less to do.
        ratio = torch.stack([known, known * deviation / PACES_APART], dim=-1).flatten(0, 1)  # (S V, 2)
        label = torch.eye(self.num_kinds, k + 1, device=part.device).repeat_interleave(RATES, dim=0)
        label[k * RATES:] = 0  # background is not an action
        self.completed.copy_(torch.cat([ratio, label], dim=1))

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return mass (N, S V, nodes) and history (N, 2 + K + 1) before the first frame."""
        history = nn.functional.pad(self.shrinkage.reshape(1, 1), (0, self.completed.shape[1] - 1)).expand(batch, -1)
        mass = history.new_zeros(batch, self.num_kinds * RATES, PHASES + 1)
        mass[..., 0] = self._entering(self.initial.expand(batch, -1), self.pace_weights(history))
        return mass, history

    def pace_weights(self, history: Tensor) -> Tensor:
        """Return the weight of each stored pace, (N, paces), for linear interpolation.

        The log pace is the shrunken mean log ratio of completed actions to their labels' means: the sum of the log
        ratios, over the number of actions including those that the recording is credited with before its first.
        """
        place = (history.narrow(1, 1, 1) / history.narrow(1, 0, 1)).clamp(-OUTERMOST, OUTERMOST)
        return (1 - (place - self.places).abs()).clamp(min=0)

    def repetition(self, history: Tensor) -> Tensor:
        """Return the factor on the probability of each label and the end, minus 1, (N, K + 1), given the history.

        The count of a label is an expectation, so below 1 it is the probability that the label was done.
        """
        return history.narrow(1, PACE_STATISTICS, self.num_labels + 1).clamp(max=1) * self.again

    def _following(self, left: Tensor, repetition: Tensor) -> Tensor:
        """Return the mass of the next segment of each kind, (N, S), given the mass (N, S V) that has left states."""
        # The probabilities of what follows a state still sum to 1 with the factors, so the mass is first divided by
        # their sum: 1 + sum of p(label) (factor - 1).
        total = nn.functional.linear(repetition, self.following_labels, self.all_following)
        kinds = (left / total) @ self.following
        labels = kinds.narrow(1, 0, self.num_labels)
        labels.addcmul_(labels, repetition.narrow(1, 0, self.num_labels))
        return kinds

    def _entering(self, kinds: Tensor, pace_weights: Tensor) -> Tensor:
        """Return the mass (N, S V) of new segments given the mass of each kind, (N, S)."""
        durations = pace_weights @ self.entry
        return (kinds.unsqueeze(2) * durations.view(-1, self.num_kinds, RATES)).flatten(1)

    def advance(self, mass: Tensor, history: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Advance the posterior by a frame.

        Mass below 1e-20 is dropped because subnormal numbers are slow.

        Args:
            mass: (N, S V, nodes).
            history: (N, 2 + K + 1).

        Returns:
            Mass, history, the weights of the paces (N, paces), and :meth:`repetition`.
        """
        # Mass that passes the last node at this frame: segments that have ended.
        left = (mass * self.leaving).sum(2)  # (N, S V)
        # An action that has ended with probability p counts as p completed actions.
        history = torch.addmm(history, left, self.completed)
        pace_weights, repetition = self.pace_weights(history), self.repetition(history)
        begun = self._entering(self._following(left, repetition), pace_weights)
        came = mass.flatten(1).index_select(1, self.source).view_as(mass)
        moved = came * self.near
        moved.narrow(2, 1, PHASES).addcmul_(came.narrow(2, 0, PHASES), self.far)
        moved.addcmul_(begun.unsqueeze(2), self.beginning)
        moved[..., -1].add_(left, alpha=STAYING)
        return nn.functional.threshold_(moved, 1e-20, 0.0), history, pace_weights, repetition
