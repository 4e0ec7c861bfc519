"""Annotated segments; apart from the functions on tensors, so that what reads annotations needs no torch."""

from typing import NamedTuple


class Action(NamedTuple):
    """One annotated segment of a recording; frames at the feature rate, both ends inclusive."""

    name: str
    start: int
    end: int

    @property
    def length(self) -> int:
        """Frames from start to end, also those past the end of the features."""
        return self.end - self.start + 1
