"""Seedable sampling of action segments, true progress, and cumulative distance."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from configs.generic_config import CONFIG
from utils.action import Action

DEFAULT_BACKGROUND = tuple(CONFIG.BACKGROUND_LABELS)


class SampledSegment(NamedTuple):
    """A segment of an action that a progress head is trained on.

    Attributes:
        embeddings: (n, D).
        target: progress at its last frame, (), or at every frame, (n,), if sampling is 'dense'.
        context: additional input of the head, from its method ``contexts``; None: nothing.
    """

    embeddings: Tensor
    target: Tensor
    context: object = None


def list_actions(times_dict: Mapping, num_frames: int,
                 background_labels: Sequence[str] = DEFAULT_BACKGROUND) -> list[Action]:
    """Return the segments that are not background and begin within the features.

    Args:
        times_dict: 'step', 'start_frame', 'end_frame' of a recording, both ends inclusive.
        num_frames: T, length of the features.
        background_labels: labels of segments that are not actions.
    """
    # 'step' is the label of a segment.
    segments = zip(times_dict['step'], times_dict['start_frame'], times_dict['end_frame'], strict=True)
    return [Action(*segment) for segment in segments
            if segment[0] not in background_labels and segment[1] < num_frames]


def sample_action_segment_with_random_index(
    embeddings: Tensor, times_dict: Mapping, min_segment_len: int = 3, *,
    background_labels: Sequence[str] = DEFAULT_BACKGROUND, rng: random.Random | None = None,
) -> tuple[Tensor, float, str] | tuple[None, None, None]:
    """Sample an action, a segment within it, and a target frame within the segment.

    Args:
        embeddings: (T, D), one row per frame.
        times_dict: 'step', 'start_frame', 'end_frame' of the recording, both ends inclusive.
        min_segment_len: smallest number of frames of the sampled segment; shorter actions are not sampled.
        background_labels: labels of segments that are not actions.
        rng: random generator; None: the module ``random``.

    Returns:
        The embeddings from the segment's start to the target, (n, D) with n >= 1; the target's progress within the
        whole action, in (0, 1]; the action's name. (None, None, None) if no action can be sampled.
    """
    draw = rng or random
    candidates = [action for action in list_actions(times_dict, len(embeddings), background_labels)
                  if action.length >= min_segment_len]
    if not candidates:
        return None, None, None
    action = draw.choice(candidates)
    last = min(action.end, len(embeddings) - 1)  # an annotation may extend past the features
    # The plan's draw: a start with room for the shortest segment, an end at or after that segment's end, and a target
    # anywhere in between, which may be the start itself.
    start = draw.randint(action.start, max(action.start, last - min_segment_len + 1))
    end = draw.randint(min(start + min_segment_len - 1, last), last)
    target = draw.randint(start, end)
    # Progress within the whole action, although the head does not read the frames before start.
    return embeddings[start:target + 1], (target - action.start + 1) / action.length, action.name


def sample_action_prefix(
    embeddings: Tensor, times_dict: Mapping, *,
    background_labels: Sequence[str] = DEFAULT_BACKGROUND, rng: random.Random | None = None,
) -> tuple[Tensor, float, str] | tuple[None, None, None]:
    """Sample an action and a target frame; the segment runs from the action's first frame to the target.

    Arguments and return values are those of :func:`sample_action_segment_with_random_index`.
    """
    draw = rng or random
    candidates = list_actions(times_dict, len(embeddings), background_labels)
    if not candidates:
        return None, None, None
    action = draw.choice(candidates)
    target = draw.randint(action.start, min(action.end, len(embeddings) - 1))
    return embeddings[action.start:target + 1], (target - action.start + 1) / action.length, action.name


def sample_whole_actions(
    embeddings: Tensor, times_dict: Mapping, count: int, *,
    background_labels: Sequence[str] = DEFAULT_BACKGROUND, rng: random.Random | None = None,
) -> list[tuple[Tensor, Tensor, Action]]:
    """Sample up to ``count`` different whole actions, with the true progress of every frame.

    Returns:
        For each action its embeddings, (n, D), its progress, (n,), in (0, 1], and the action itself.
    """
    actions = list_actions(times_dict, len(embeddings), background_labels)
    if len(actions) > count:
        actions = (rng or random).sample(actions, count)
    return [(embeddings[action.start:action.end + 1],
             action_progress(action, len(embeddings)).to(embeddings), action) for action in actions]


def action_progress(action: Action, num_frames: int) -> Tensor:
    """Return the true progress at each frame of an action that is within the features: (n,), in (0, 1]."""
    visible = min(action.end, num_frames - 1) - action.start + 1
    return torch.arange(1, visible + 1, dtype=torch.float64) / action.length


def get_trueprogress(times_dict: Mapping, num_frames: int,
                     background_labels: Sequence[str] = DEFAULT_BACKGROUND) -> Tensor:
    """Return the true progress of a whole recording.

    Each of the n action segments adds 1/n, linearly over its frames; in background the value does not change.

    Args:
        times_dict: 'step', 'start_frame', 'end_frame' of the recording, both ends inclusive.
        num_frames: T, length of the features.
        background_labels: labels of segments that are not actions.

    Returns:
        (T,), float64, in [0, 1]; zeros if there are no actions.
    """
    return recording_progress(list_actions(times_dict, num_frames, background_labels), num_frames)


def recording_progress(actions: Sequence[Action], num_frames: int) -> Tensor:
    """Return the true progress, (T,), of a whole recording from its actions; see :func:`get_trueprogress`."""
    gain = torch.zeros(num_frames, dtype=torch.float64)  # (T,), increase at each frame
    for action in actions:
        # Relative to the annotated length: an action that extends past the features adds less than 1/n.
        gain[action.start:action.end + 1] += 1 / (action.length * len(actions))
    return gain.cumsum(0).clamp(max=1)  # rounding may exceed 1


def get_cumulative_distance(embeddings: Tensor) -> Tensor:
    """Return the length of the path through the embeddings up to each frame: (T, D) -> (T,), float64, from 0."""
    # float64, because thousands of small steps are added up.
    distances = (embeddings[1:] - embeddings[:-1]).double().norm(dim=1)  # (T - 1,)
    return torch.cat([distances.new_zeros(1), distances.cumsum(0)])


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """Seed the generators of ``random`` and torch inside the block, and restore their states after it."""
    python_state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
