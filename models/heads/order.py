"""Order of steps: which label follows which, learned from training transcripts."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

FLOOR = 0.01  # probability mass spread evenly over all outcomes, regardless of context
TRIGRAM_WEIGHTS = (0.0, 0.5, 0.9)  # weight of trigrams relative to bigrams
COUNT_WEIGHTS = (0.0, 0.5, 1.0)  # exponent of the factor for the number of times a label was done
MOST_COUNTED = 2  # times that a label was done; larger counts are treated as this one
COUNT_PRIOR = 10.0  # weight of the repetition rate pooled over all labels, in recordings
FOLDS = 10  # cross-validation folds over training recordings, to select the weights
MOST_RATED = 2000  # left-out training actions, about, that select the weights
MOST_TRIGRAM_LABELS = 64  # a table of trigrams has K^3 entries


class StepOrder(nn.Module):
    """Which label follows: bigrams with start and end, Witten-Bell smoothed toward the labels' frequencies.

    Every label has a positive probability after every other label, so a skipped, repeated, or unseen step costs some
    evidence but never stops a filter. If the whole transcript so far is known, trigrams and the number of times that
    each label was done refine the bigrams, with weights that maximize the likelihood of left-out training transcripts.

    Args:
        num_labels: K; labels are integers in [0, K), any other integer is an unknown label.
        floor: probability mass in [0, 1] spread evenly over all outcomes.
        trigrams: False if the label before the previous one is not known or not used.

    Attributes:
        log_bigram: buffer (K + 2, K + 1), log p(next | previous). Rows: the labels, then the start (``self.start``),
            then an unknown label (``self.unknown``). Columns: the labels, then the end (``self.end``).
        log_trigram: buffer (K + 2, K + 2, K + 1), log p(next | label before the previous, previous).
        log_again: buffer (K, 3), log of the factor on a label's probability if it was done 0, 1, or at least 2 times.
        weights: buffer (2,), weights of the trigrams and of ``log_again``, each in [0, 1].

    Reference:
        Witten & Bell, "The zero-frequency problem", IEEE Transactions on Information Theory, 1991.
    """

    def __init__(self, num_labels: int, *, floor: float = FLOOR, trigrams: bool = True) -> None:
        super().__init__()
        if num_labels < 1 or not 0 <= floor <= 1:
            raise ValueError(f'num_labels is {num_labels} and floor {floor}, expected at least 1 and in [0, 1]')
        self.num_labels, self.floor = num_labels, floor
        # Start and end share the number K: the start is only a row (previous label), the end only a column (next
        # label).
        self.start, self.unknown, self.end = num_labels, num_labels + 1, num_labels
        size = num_labels + 2
        uniform = torch.full((size, num_labels + 1), -math.log(num_labels + 1))
        self.register_buffer('log_bigram', uniform)
        contexts = size if trigrams and num_labels <= MOST_TRIGRAM_LABELS else 0
        self.register_buffer('log_trigram', uniform.expand(contexts, size, -1).clone())
        self.register_buffer('log_again', torch.zeros(num_labels, MOST_COUNTED + 1))
        self.register_buffer('weights', torch.zeros(2))

    def fit(self, transcripts: Sequence[Sequence[int]], *, repeats: bool = True) -> None:
        """Estimate the probabilities from training transcripts, in place.

        Args:
            transcripts: labels of each training recording in order of time.
            repeats: if False, the bigrams forbid a label right after itself (for filters that would otherwise split a
                segment in two).
        """
        coded = [[self.row(label) for label in transcript] for transcript in transcripts]
        self.weights.copy_(torch.tensor(self._choose_weights(coded)))
        self._learn(coded)
        if not repeats and self.num_labels > 1:
            # A filter without boundaries would use a repeated label to reset its duration; the rows are normalized
            # again.
            self.log_bigram[:self.num_labels, :self.num_labels].fill_diagonal_(-torch.inf)
            self.log_bigram.copy_(self.log_bigram.log_softmax(1))

    def row(self, previous: int | None) -> int:
        """Return the row of ``log_bigram`` for a previous label; None is the start, out of range an unknown label."""
        if previous is None:
            return self.start
        return previous if 0 <= previous < self.num_labels else self.unknown

    def log_next(self, history: Sequence[int]) -> Tensor:
        """Return the log probability of each next label and the end, (K + 1,), after the transcript so far."""
        # Two starts, because a trigram looks two labels back.
        rows = [self.start, self.start, *(self.row(label) for label in history)]
        return self._mix(rows, *self.weights.tolist())

    def log_next_label(self, history: Sequence[int]) -> Tensor:
        """Return the log probability of each label, (K,), given that another action follows."""
        return self.log_next(history)[:-1].log_softmax(0)

    def _mix(self, rows: Sequence[int], trigram: float, count: float) -> Tensor:
        """Return log p(next), (K + 1,), given the previous rows (starting with two starts) and the weights."""
        log_next = self.log_bigram[rows[-1]]
        if trigram:
            longer = self.log_trigram[rows[-2], rows[-1]]
            # log((1 - w) bigram + w trigram)
            log_next = torch.logaddexp(log_next + math.log(1 - trigram), longer + math.log(trigram))
        if count:
            # Count each label so far; the starts and unknown labels are cut off.
            done = torch.bincount(torch.tensor(rows), minlength=self.num_labels + 2)[:self.num_labels]  # (K,)
            again = self.log_again.gather(1, done.clamp(max=MOST_COUNTED).to(self.log_again.device).unsqueeze(1))
            # The end is not counted, so its factor is 1.
            log_next = torch.cat([log_next[:-1] + count * again.squeeze(1), log_next[-1:]]).log_softmax(0)
            # The factor may be close to 0: restore the floor, so that a step done once more is never impossible.
            log_next = torch.logaddexp(log_next + math.log1p(-self.floor),
                                       log_next.new_tensor(self.floor / (self.num_labels + 1)).log())
        return log_next

    def _learn(self, transcripts: Sequence[Sequence[int]]) -> None:
        """Estimate all tables from transcripts given as rows."""
        size = self.num_labels + 2
        bigrams, trigrams = np.zeros((size, size)), np.zeros((len(self.log_trigram), size, size))
        for rows in transcripts:
            # The end is a column only, so the number that it shares with the start is not ambiguous here.
            padded = [self.start, self.start, *rows, self.end]
            for before, previous, following in zip(padded, padded[1:], padded[2:], strict=False):
                bigrams[previous, following] += 1
                if len(trigrams):
                    trigrams[before, previous, following] += 1
        bigrams, trigrams = bigrams[:, :-1], trigrams[:, :, :-1]  # an unknown label is never predicted
        # Frequencies of next labels in any context, smoothed so that each is positive: (K + 1,).
        frequency = bigrams.sum(0) + 1 / bigrams.shape[1]
        probability = _witten_bell(bigrams, frequency / frequency.sum())  # (K + 2, K + 1)
        self.log_bigram.copy_(self._log_with_floor(probability))
        # Trigrams fall back to the bigrams of the same previous label: (K + 2, K + 1) broadcast over the label before
        # it.
        self.log_trigram.copy_(self._log_with_floor(_witten_bell(trigrams, probability)))
        self.log_again.copy_(torch.from_numpy(self._again(transcripts)))

    def _log_with_floor(self, probability: np.ndarray) -> Tensor:
        return torch.from_numpy((1 - self.floor) * probability + self.floor / (self.num_labels + 1)).log()

    def _again(self, transcripts: Sequence[Sequence[int]]) -> np.ndarray:
        """Return ``log_again`` (K, 3): log rate at which a label done c times is done once more, relative to c = 0."""
        # (recordings, K)
        done = np.array([np.bincount(rows, minlength=self.num_labels + 2)[:self.num_labels] if len(rows) else
                         np.zeros(self.num_labels) for rows in transcripts]).reshape(-1, self.num_labels)
        times = np.arange(MOST_COUNTED + 1)
        # (recordings, K, 1) >= (counts,) -> (recordings, K, counts) -> (K, counts)
        reached = (done[:, :, None] >= times).sum(0)  # (K, counts), recordings in which the label was done c times
        exceeded = (done[:, :, None] > times).sum(0)
        # (counts,), of all labels together, as a prior for labels with few recordings; + 0.5 and + 1 keep it above 0.
        pooled = (exceeded.sum(0) + 0.5) / (reached.sum(0) + 1)
        rate = (exceeded + COUNT_PRIOR * pooled) / (reached + COUNT_PRIOR)
        # Relative to count 0: the bigrams already contain the overall rate of a label.
        return np.log(rate / rate[:, :1])

    def _choose_weights(self, transcripts: Sequence[Sequence[int]]) -> tuple[float, float]:
        """Return the weights with the highest likelihood of transcripts left out; zeros if there are too few."""
        options = [(trigram, count) for trigram, count in itertools.product(TRIGRAM_WEIGHTS, COUNT_WEIGHTS)
                   if len(self.log_trigram) or not trigram]
        scores = dict.fromkeys(options, 0.0)
        transcripts = [rows for rows in transcripts if rows]
        if len(transcripts) < 3 or max(map(len, transcripts)) < 2:
            return 0.0, 0.0
        # Of the recordings of each fold, every n-th is rated; all of them are learned from.
        every = math.ceil(sum(map(len, transcripts)) / MOST_RATED)
        for part in range(min(FOLDS, len(transcripts))):
            # Overwrites the tables; fit() learns them from all transcripts afterwards.
            self._learn([rows for index, rows in enumerate(transcripts) if index % FOLDS != part])
            for rows in transcripts[part::FOLDS][::every]:
                padded = [self.start, self.start, *rows]
                for position, following in enumerate([*rows, self.end], start=2):
                    # The model gives an unknown label no probability, so it cannot be scored.
                    if following != self.unknown:
                        for option in options:
                            scores[option] += self._mix(padded[:position], *option)[following].item()
        # max returns the first of equal options: the simpler model.
        return max(options, key=scores.__getitem__)


def _witten_bell(counts: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Mix frequencies after each context (all axes except the last) with a fallback, weighted by the outcomes seen.

    An unseen context gets the fallback alone.
    """
    # p(x | context) = (c(x) + N fallback(x)) / (c + N), with N the number of different outcomes seen: the more kinds of
    # outcome have been seen, the more likely is one that has not been seen here.
    seen, kinds = counts.sum(-1, keepdims=True), (counts > 0).sum(-1, keepdims=True)
    return np.where(seen > 0, (counts + kinds * fallback) / np.maximum(seen + kinds, 1), fallback)
