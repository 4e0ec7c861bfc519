"""A head that infers boundaries, in arbitrary but causal ways, for tests of what surrounds it."""

import torch

from models.heads.estimates import FrameEstimates
from models.heads.recurrent import ProgressHead
from recordings.background import BACKGROUND

LABELS = {'tea': ['boil', 'pour'], 'tyre': ['jack', 'lift'], None: ['boil', 'jack']}
MARGIN = 0.125  # of an interval
SCALE = 20  # embeddings of a network that was never trained differ little from frame to frame


class FilterHead(ProgressHead):
    """The plan's head, and estimates that depend on the mean of all embeddings so far, and on the last one."""

    offers_filter = offers_intervals = True

    def filter(self, embeddings, task=None):
        elapsed = torch.arange(1, len(embeddings) + 1)
        return self._estimates(embeddings, embeddings.cumsum(dim=0), elapsed, task)

    def filter_step(self, embedding, state=None, task=None):
        total, count = (embedding, 1) if state is None else (state[0] + embedding, state[1] + 1)
        estimates = self._estimates(embedding.unsqueeze(0), total.unsqueeze(0), torch.tensor([count]), task)
        return estimates, (total, count)

    def _estimates(self, embeddings, totals, elapsed, task):
        labels = [*LABELS[task], BACKGROUND]
        change = SCALE * (embeddings - totals / elapsed.unsqueeze(1))  # of the last frame, from the mean so far
        probability, index = change[:, :3].softmax(dim=1).max(dim=1)
        step = [labels[position] for position in index]
        progress = change[:, 3].sigmoid()
        overall = elapsed / (elapsed + 20.0)
        return FrameEstimates(
            step, progress, progress - MARGIN, progress + MARGIN, remaining=10 * (1 - progress), overall=overall,
            overall_low=overall / 2, overall_high=(1 + overall) / 2, overall_remaining=20 * torch.ones(len(step)),
            step_probability=probability, next_step=[labels[(position + 1) % 2] for position in index],
            unknown=change[:, 4] > 0.1)

    def forward_intervals(self, segments, contexts=None):
        curves = self.forward_dense(segments, contexts)
        return [torch.stack([curve - MARGIN, curve + MARGIN], dim=1) for curve in curves]

    def step_interval(self, embedding, state=None, context=None):
        progress, state = self.step(embedding, state, context)
        return torch.stack([progress, progress - MARGIN, progress + MARGIN]), state
