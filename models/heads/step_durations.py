"""What a progress head knows of steps and their durations, as buffers that are stored with its weights."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.heads.durations import PacedDurations, actions_before, shrunken_log_pace
from utils.tensorops import Action

GRID = 256  # times at which a curve is stored, evenly in the logarithm
SHORTEST = 0.05  # paced frames of the first one
LONGEST = 1e5  # paced frames of the last one
IMPOSSIBLE = -1e4  # logit of a step of another task


class ActionContext(NamedTuple):
    """What is known of an action when it begins.

    Attributes:
        task: of its recording; None allows the steps of every task.
        log_pace: log of the recording's pace so far, see :class:`models.heads.durations.PacedDurations`.
        step: its label; None where it has to be recognised.
    """

    task: str | None = None
    log_pace: float = 0.0
    step: str | None = None


class StepDurations(nn.Module):
    """Survival curves and mean durations of the steps of all tasks.

    Args:
        steps: (task, label) of every step, without repetition.
    """

    def __init__(self, steps: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.steps = [tuple(step) for step in steps]
        if not self.steps or len(set(self.steps)) < len(self.steps):
            raise ValueError(f'steps is {list(steps)}, expected at least one (task, label), each once')
        self._index = {step: position for position, step in enumerate(self.steps)}
        self._log_start = math.log(SHORTEST)
        self._log_step = math.log(LONGEST / SHORTEST) / (GRID - 1)
        self.register_buffer('curves', torch.full((len(self.steps), GRID), 0.5))
        self.register_buffer('log_means', torch.zeros(len(self.steps)))
        self.register_buffer('shrinkage', torch.ones(len(self.steps)))  # of the step's task

    def fit(self, recordings: Mapping[str, Sequence[Sequence[Action]]]) -> None:
        """Learn curves and pace from training recordings, in place.

        Args:
            recordings: task -> actions of each of its training recordings.
        """
        log_elapsed = self._log_start + self._log_step * np.arange(GRID)
        for task, actions in recordings.items():
            if not any(actions):
                continue
            durations = PacedDurations(actions)
            for step, curve in zip(durations.steps, durations.survival_curves(log_elapsed), strict=True):
                position = self._index[task, step]
                self.curves[position] = torch.from_numpy(curve)
                self.log_means[position] = durations.log_means[step]
                self.shrinkage[position] = durations.shrinkage

    def context(self, task: str | None, actions: Sequence[Action], action: Action) -> ActionContext:
        """Describe one action of a recording by what is known when it begins, its label included."""
        of_task = {label: position for (name, label), position in self._index.items() if name == task}
        if not of_task:
            return ActionContext(None, 0.0, action.name)
        # Each buffer is read once: on a GPU every read waits for it.
        all_means, shrinkages = self.log_means.tolist(), self.shrinkage.tolist()
        log_means = {label: all_means[position] for label, position in of_task.items()}
        shrinkage = shrinkages[next(iter(of_task.values()))]
        return ActionContext(task, shrunken_log_pace(actions_before(actions, action), log_means, shrinkage),
                             action.name)

    def positions(self, contexts: Sequence[ActionContext]) -> Tensor:
        """Return each action's step as a position in ``steps``, (B,); -1 where it is not among them."""
        return torch.tensor([self._index.get((context.task, context.step), -1) for context in contexts],
                            device=self.curves.device)

    def possible(self, contexts: Sequence[ActionContext]) -> Tensor:
        """Return what is added to the logits so that only steps of an action's own task count: (B, steps)."""
        return torch.tensor([[0.0 if context.task in (None, task) else IMPOSSIBLE for task, _ in self.steps]
                             for context in contexts], device=self.curves.device)

    def progress(self, log_elapsed: Tensor) -> Tensor:
        """Look up what each step's curve says.

        Args:
            log_elapsed: (...), log of the paced frames elapsed.

        Returns:
            (..., steps), in (0, 1], in the precision of the times.
        """
        position = ((log_elapsed - self._log_start) / self._log_step).clamp(0, GRID - 1.001)
        before = position.floor().long()
        by_time = self.curves.T.to(log_elapsed.dtype)
        return torch.lerp(by_time[before], by_time[before + 1], (position - before).unsqueeze(-1))
