"""Annotated segments; apart from the functions on tensors, so that what reads annotations needs no torch."""

from collections.abc import Sequence
from typing import NamedTuple


class Action(NamedTuple):
    """A segment of a recording; frames at the feature rate, both ends inclusive.

    Attributes:
        name: label; None if unknown, which occurs in prediction only.
        start: first frame.
        end: last frame.
    """

    name: str | None
    start: int
    end: int

    @property
    def length(self) -> int:
        """Frames from start to end, also those past the end of the features."""
        return self.end - self.start + 1


def actions_before(actions: Sequence[Action], action: Action) -> list[Action]:
    """Return the actions of a recording that are completed when another action of it starts."""
    return [other for other in actions if other.end < action.start]
