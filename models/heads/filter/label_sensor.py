"""Label sensor: logistic regression on frames, context, and random features of both, converted to a likelihood."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.optimizers import skip_compiler

PENALTY = 300.0  # on the squared weights of standardized features, in frames' worth of cross-entropy
ITERATIONS = 60  # of L-BFGS
BASIS = 500  # random cosines
BANDWIDTH = 0.15  # of the cosines: std of their frequencies for 16 inputs, per std of the projection within cells


class LogisticLabels(nn.Module):
    """Classifier that returns ``log p(k | frame) - log p(k)``, the log likelihood of the frame up to a constant.

    The classifier is linear in the features, in the context, and in random cosines of a projection of the features and
    the context, which approximate a Gaussian kernel: the fit is convex, but decision boundaries need not be linear.

    Args:
        num_labels: K, the number of labels.
        feature_dim: F, the dimension of the features.
        projected_dim: d, the dimension of the projection.
        context_dim: C, the dimension of the context.

    Attributes:
        weight, bias: buffers (K, F + C + BASIS) and (K,).
        frequencies, phases: buffers (BASIS, d + C) and (BASIS,), frequencies and phases of the cosines, drawn with a
            fixed seed.
        log_frequency: buffer (K,), log frequency of the labels among the training frames.

    References:
        Bourlard & Morgan, Connectionist Speech Recognition, 1994 (scaled likelihoods).
        Rahimi & Recht, "Random features for large-scale kernel machines", NeurIPS 2007.
    """

    def __init__(self, num_labels: int, feature_dim: int, projected_dim: int, context_dim: int) -> None:
        super().__init__()
        self.num_labels, self.feature_dim, self.context_dim = num_labels, feature_dim, context_dim
        generator = torch.Generator().manual_seed(0)
        inputs = projected_dim + context_dim
        # The distance of two inputs grows with the root of their number.
        frequencies = torch.randn(BASIS, inputs, generator=generator) * BANDWIDTH * math.sqrt(16 / inputs)
        self.register_buffer('frequencies', frequencies)
        self.register_buffer('phases', torch.rand(BASIS, generator=generator) * (2 * math.pi))
        self.register_buffer('weight', torch.zeros(num_labels, feature_dim + context_dim + BASIS))
        self.register_buffer('bias', torch.zeros(num_labels))
        self.register_buffer('log_frequency', torch.zeros(num_labels))

    def fit(self, frames: Tensor, projected: Tensor, context: Tensor, labels: Tensor, *,
            penalty: float = PENALTY) -> None:
        """Fit the weights, in place.

        Args:
            frames: (n, F), features of the training frames.
            projected: (n, d), their projection.
            context: (n, C), their context.
            labels: (n,), in [0, K).
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
            loss = F.cross_entropy(z @ weight.T + bias, labels)
            # The loss is a mean over frames, so the penalty counts less the more frames there are.
            loss = loss + penalty / len(z) * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        counts = torch.bincount(labels, minlength=self.num_labels)
        # For features that are not standardized: a frame of a stream then costs less.
        self.weight.copy_(weight.detach() / std)
        self.bias.copy_(bias.detach() - self.weight @ offset)
        # One frame more per label: the log frequency of an unseen label must be finite.
        self.log_frequency.copy_(((counts + 1) / (counts.sum() + self.num_labels)).log())

    def forward(self, linear: Tensor, angles: Tensor) -> Tensor:
        """Return the log likelihood of each label up to a constant, (n, K).

        Args:
            linear: (n, K), the part of the scores that is linear in features and context, bias included.
            angles: (n, BASIS), whose cosines are the other features: ``frequencies`` times projection and context, plus
                ``phases``.
        """
        scores = torch.addmm(linear, angles.cos(), self.weight[:, -BASIS:].T)
        # Bayes' rule: p(frame | k) ~ p(k | frame) / p(k). The prior of labels is the filter's, not that of the frames.
        return scores.log_softmax(-1) - self.log_frequency
