"""Training recordings of the filter with unknown boundaries: what is true at each frame, and what sensors say of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.heads.filter.records import Evidence
from models.heads.filter.unsegmented import UnsegmentedFilter
from utils.tensorops import Action


class Recording(NamedTuple):
    """A training recording: embeddings (T, D), label and progress of each frame, its segments, and its group."""

    embeddings: Tensor
    kind: Tensor  # (T,), kind of segment, as in `segments`
    label: Tensor  # (T,), K is background
    phase: Tensor  # (T,), middle of the frame within its segment, in (0, 1)
    progress: Tensor  # (T,), within the action, in (0, 1]; NaN in background
    segments: list[tuple[int, int]]  # (kind, frames), as PhaseGrid.fit expects
    group: str

    @property
    def has_actions(self) -> bool:
        """True if a frame belongs to an action."""
        return not bool(self.progress.isnan().all())


class Rated(NamedTuple):
    """A left-out recording, a filter fitted without it, and the evidence of the filter's sensors."""

    recording: Recording
    model: UnsegmentedFilter
    evidence: Evidence


def annotate(embeddings: Tensor, actions: Sequence[Action], labels: Sequence[str], group: str) -> Recording:
    """Return a recording with the label, phase, and progress of each frame."""
    length, k = len(embeddings), len(labels)
    spans, end, previous = [], 0, k
    for action in actions:
        # Half-open, without overlap, and within the features.
        start, stop = max(action.start, end), min(action.end + 1, length)
        if stop <= start:
            continue
        if start > end:
            # A gap is background, of the kind that follows the previous label.
            spans.append((k + previous, end, start))
        previous = labels.index(action.name)
        spans.append((previous, start, stop))
        end = stop
    if end < length:
        spans.append((k + previous, end, length))
    sizes = torch.tensor([stop - start for _, start, stop in spans])
    kind = torch.tensor([span[0] for span in spans]).repeat_interleave(sizes)
    # (T,), progress: the end of each frame within its segment. Its middle, the phase, is half a frame earlier.
    place = torch.cat([torch.arange(1, size + 1) / size for size in sizes.tolist()])
    half = torch.repeat_interleave(0.5 / sizes, sizes)
    device = embeddings.device
    return Recording(embeddings.float(), kind.to(device), kind.clamp(max=k).to(device), (place - half).to(device),
                     torch.where(kind < k, place, torch.nan).to(device),
                     [(kind, stop - start) for kind, start, stop in spans], group)
