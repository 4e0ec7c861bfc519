"""Choose the reference: the recording that the others are closest to."""

from collections.abc import Sequence

from torch import Tensor

from alignment.matching import match_frames
from utils.errors import UserError, name_some


def choose_reference(names: Sequence[str], embeddings: Sequence[Tensor], named: str | None,
                     candidates: Sequence[str]) -> int:
    """Return the position of the reference.

    Args:
        names: names of the recordings.
        embeddings: (T_i, E) of each recording.
        named: name of the reference; None to choose the medoid by alignment cost.
        candidates: names to choose from, at least one: the annotated recordings, or all.

    Raises:
        UserError: no recording has the given name.
    """
    if named is not None:
        if named not in names:
            raise UserError(f'{named}: not the name of a recording, expected one of {name_some(names)}')
        return list(names).index(named)
    positions = [position for position, name in enumerate(names) if name in candidates]
    if len(positions) == 1:
        return positions[0]
    return min(positions, key=lambda position: mean_cost(embeddings, position))


def mean_cost(embeddings: Sequence[Tensor], reference: int) -> float:
    """Return the mean cost of aligning the other recordings to a reference: the lowest is that of the medoid."""
    others = [embedding for position, embedding in enumerate(embeddings) if position != reference]
    return sum(match_frames(other, embeddings[reference]).cost for other in others) / len(others)
