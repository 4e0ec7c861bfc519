"""Sensor of steps and kinds of background: logistic regression on frames and context, converted to a likelihood."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.optimizers import skip_compiler

PENALTY = 300.0  # on the squared weights of standardized features, in frames' worth of cross-entropy
ITERATIONS = 60  # of L-BFGS
BASIS = 500  # random cosines
SHARED = 0.7  # of the likelihood of a kind of background is that of any background: kinds have few frames
FEWEST_FRAMES = 30  # of a kind of background; rarer kinds are like any background
BANDWIDTH = 0.15  # of the cosines: std of their frequencies for 16 inputs, per std of the projection within cells


class LogisticKinds(nn.Module):
    """Classifier that returns ``log p(kind | frame) - log p(kind)``, the log likelihood of a frame up to a constant.

    The kinds are K labels and, if the task has background, background after each label and before the first: what
    people do between two steps depends on the steps. Even if kinds of background are confused, telling them apart
    matters to the filter, which knows what was done: its odds are those of an action against the background that may
    come there, instead of against all background, most of which looks different.

    The classifier is linear in the features, in the context, and in random cosines of a projection of the features and
    the context, which approximate a Gaussian kernel: the fit is convex, but decision boundaries need not be linear.

    Args:
        num_labels: K, the number of labels.
        has_background: True if there are kinds of background.
        feature_dim: F, the dimension of the features.
        projected_dim: d, the dimension of the projection.
        context_dim: C, the dimension of the context.

    Attributes:
        num_kinds: S, 2 K + 1 with background, otherwise K.
        weight, bias: buffers (S, F + C + BASIS) and (S,).
        frequencies, phases: buffers (BASIS, d + C) and (BASIS,), frequencies and phases of the cosines, drawn with a
            fixed seed.
        likelihood: buffer (S, S); posterior probabilities of the kinds times it are likelihoods up to a constant.

    References:
        Bourlard & Morgan, Connectionist Speech Recognition, 1994 (scaled likelihoods).
        Rahimi & Recht, "Random features for large-scale kernel machines", NeurIPS 2007.
    """

    def __init__(self, num_labels: int, has_background: bool, feature_dim: int, projected_dim: int,
                 context_dim: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.num_kinds = 2 * num_labels + 1 if has_background else num_labels
        generator = torch.Generator().manual_seed(0)
        inputs = projected_dim + context_dim
        # The distance of two inputs grows with the root of their number.
        frequencies = torch.randn(BASIS, inputs, generator=generator) * BANDWIDTH * math.sqrt(16 / inputs)
        self.register_buffer('frequencies', frequencies)
        self.register_buffer('phases', torch.rand(BASIS, generator=generator) * (2 * math.pi))
        self.register_buffer('weight', torch.zeros(self.num_kinds, feature_dim + context_dim + BASIS))
        self.register_buffer('bias', torch.zeros(self.num_kinds))
        self.register_buffer('likelihood', torch.eye(self.num_kinds))

    def fit(self, frames: Tensor, projected: Tensor, context: Tensor, kinds: Tensor, *,
            penalty: float = PENALTY) -> None:
        """Fit the weights, in place.

        Args:
            frames: (n, F), features of the training frames.
            projected: (n, d), their projection.
            context: (n, C), their context.
            kinds: (n,), in [0, S).
            penalty: on the squared weights.
        """
        angles = F.linear(torch.cat([projected, context], dim=1), self.frequencies, self.phases)
        frames = torch.cat([frames, context, angles.cos()], dim=1)
        offset = frames.mean(0)
        std = frames.std(0, correction=0).clamp(min=1e-6)
        z = (frames - offset) / std  # (n, F + C + BASIS)
        weight = torch.zeros_like(self.weight, requires_grad=True)
        bias = torch.zeros_like(self.bias, requires_grad=True)
        skip_compiler()
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn='strong_wolfe')

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(z @ weight.T + bias, kinds)
            # The loss is a mean over frames, so the penalty counts less the more frames there are.
            loss = loss + penalty / len(z) * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        # For features that are not standardized: a frame of a stream then costs less.
        self.weight.copy_(weight.detach() / std)
        self.bias.copy_(bias.detach() - self.weight @ offset)
        self.likelihood.copy_(likelihood_table(torch.bincount(kinds, minlength=self.num_kinds), self.num_labels))

    def forward(self, linear: Tensor, angles: Tensor) -> Tensor:
        """Return the log likelihood of each kind up to a constant, (n, S).

        Args:
            linear: (n, S), the part of the scores that is linear in features and context, bias included.
            angles: (n, BASIS), whose cosines are the other features: ``frequencies`` times projection and context, plus
                ``phases``.
        """
        scores = torch.addmm(linear, angles.cos(), self.weight[:, -BASIS:].T)
        return (scores.softmax(-1) @ self.likelihood).log()


def likelihood_table(counts: Tensor, num_labels: int) -> Tensor:
    """Return the table (S, S) that turns posterior probabilities of kinds into likelihoods up to a constant.

    By Bayes' rule p(frame | kind) ~ p(kind | frame) / p(kind): the prior of kinds is the filter's, not that of the
    frames. The likelihood of a kind of background is mixed with that of all background.

    Args:
        counts: (S,), number of training frames of each kind, labels first.
        num_labels: K.
    """
    # One frame more per kind: the frequency of an unseen kind must not be 0.
    frequency = (counts + 1) / (counts.sum() + len(counts))
    table = torch.diag(1 / frequency)
    shared = torch.where(counts < FEWEST_FRAMES, 1.0, SHARED)[num_labels:]  # (K + 1,), or empty without background
    background = table[num_labels:, num_labels:]
    background.mul_(1 - shared).add_(shared / frequency[num_labels:].sum())
    return table
