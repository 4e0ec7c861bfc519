"""Match annotation lists to recordings if a task has one list per camera view.

Lists and recordings are in the same order of people, and a list ends when its view ends. So each recording gets a list
of a later person than the recording before it, and one rate for the whole task converts last ends to lengths.
"""

from collections.abc import Hashable, Sequence

import numpy as np

OPENING = 3  # number of first segments that identify the person of a list
STEPS_IN_TOLERANCE = 8  # grid steps of the log rate within the tolerance
REFINED = 8  # number of best rates that are refined
MAX_REFINEMENTS = 10
MAX_FRAMES_OFF = 1.5  # half a frame of rounding, and one frame more or less at the end
MAX_UNSURE = 0.1  # fraction of recordings that another rate may assign to other people


def opening_key(actions: Sequence[str], starts: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Return the key that the lists of one person have in common: the first actions and their starts."""
    return tuple(zip(actions[:OPENING], starts[:OPENING], strict=True))


def match_lists_to_handles(last_ends: Sequence[int], lengths: Sequence[int], list_keys: Sequence[Hashable], *,
                           tolerance: float = 0.02, rate: float | None = None) -> list[int] | None:
    """Assign each recording a list, in order, such that ``last end * rate`` fits the recording's length best.

    The sum of squared log ratios is minimized over increasing assignments and over the rate.

    Args:
        last_ends: last end of each list in annotation frames; a list that ends at 0 is never assigned.
        lengths: feature frames of each recording, > 0.
        list_keys: key that identifies the person of each list, see :func:`opening_key`. Consecutive lists belong to one
            person if their keys are equal or one key is a prefix of the other.
        tolerance: maximum relative difference in length between a list, at the best rate, and its recording. Lengths
            are whole numbers of frames, so a difference of 1.5 frames is always allowed.
        rate: feature frames per annotation frame, if known; None: search for it.

    Returns:
        The index of each recording's list, increasing. None if no assignment fits, or if another rate fits the lists of
        other people equally well up to rounding, which happens if there are few recordings and lists of many people. If
        rate 1 fits equally well, it is preferred.

    Raises:
        ValueError: ``last_ends`` and ``list_keys`` differ in number, or a length is not positive.
    """
    if len(last_ends) != len(list_keys) or min(lengths, default=1) <= 0:
        raise ValueError(f'{len(last_ends)} last ends, {len(list_keys)} list keys and lengths {list(lengths)}; '
                         'expected the same number of keys and ends, and lengths above 0')
    people = _people(list_keys)
    while True:
        match = _Matcher(last_ends, lengths, people, tolerance).best(rate)
        clash = None if match is None else _one_person_twice(match, list_keys)
        if clash is None:
            return match
        # A stray list separated two lists of one person: assign all lists from the first to the second to that person.
        people = _merge(people, *clash)


def _people(keys: Sequence[Hashable]) -> np.ndarray:
    """Return the person number of each list; consecutive lists with matching keys have the same number."""
    numbers, longest = [], None
    for key in keys:
        if longest is None or not _alike(key, longest):
            numbers.append(numbers[-1] + 1 if numbers else 0)
            longest = key
            continue
        numbers.append(numbers[-1])
        if isinstance(key, tuple) and len(key) > len(longest):
            longest = key  # the first list of this person was cut short
    return np.array(numbers, dtype=int)


def _alike(key: Hashable, other: Hashable) -> bool:
    """Return True if two keys are equal, or if one is a prefix of the other because its view was cut short."""
    if isinstance(key, tuple) and isinstance(other, tuple):
        shared = min(len(key), len(other))
        return key[:shared] == other[:shared]
    return key == other


def _one_person_twice(match: Sequence[int], keys: Sequence[Hashable]) -> tuple[int, int] | None:
    """Return the indices of two assigned lists that have the same key; None if there are no such lists."""
    seen: dict[Hashable, int] = {}
    for index in match:
        if keys[index] in seen:
            return seen[keys[index]], index
        seen[keys[index]] = index
    return None


def _merge(people: np.ndarray, first: int, second: int) -> np.ndarray:
    """Merge all people from that of list ``first`` to that of list ``second`` into one person."""
    low, high = people[first], people[second]
    return np.where(people <= low, people, np.maximum(people - (high - low), low))


class _Matcher:
    """Dynamic program over people and recordings, for many rates at once."""

    def __init__(self, last_ends: Sequence[int], lengths: Sequence[int], people: np.ndarray,
                 tolerance: float) -> None:
        # In logarithms a rate is an offset: log end + log rate = log length. A list that ends at 0 becomes -inf, which
        # fits no recording.
        ends = np.asarray(last_ends, dtype=float)
        self._ends = np.log(ends, out=np.full(len(ends), -np.inf), where=ends > 0)
        self._lengths = np.log(np.asarray(lengths, dtype=float))
        self._allowed = np.maximum(tolerance, MAX_FRAMES_OFF / np.asarray(lengths)) + 1e-9  # (N,), relative
        # Grid step of the log rate, and the distance from which a log rate counts as another one.
        self._step, self._apart = tolerance / STEPS_IN_TOLERANCE, 2 * tolerance
        self._rounding = float(np.sum(1 / np.asarray(lengths)**2))  # maximum cost of rounding lengths to frames
        self._people = people
        # Person -> indices of the lists of their camera views.
        self._views = [np.flatnonzero(people == person) for person in range(people.max(initial=-1) + 1)]

    def best(self, rate: float | None) -> list[int] | None:
        """Return the assignment with the lowest cost over the rates; None if no assignment fits or it is ambiguous."""
        if rate is not None:
            costs, takes = self._solve(np.log([rate]))
            return self._trace(takes[:, 0], np.log(rate)) if np.isfinite(costs[0]) else None
        rates = self._candidates()
        costs, _ = self._solve(rates)
        cost, match = self._least(rates, costs)
        # Log rate 0: annotations at the feature rate are preferred if they fit equally well.
        as_they_are = self._refine(0.0)
        if as_they_are[0] <= cost + self._rounding:
            return as_they_are[1] or None
        # With few recordings, another rate may fit the lists of other people equally well.
        fitted = np.mean(self._lengths - self._ends[match])
        rival_cost, rival = self._least(rates, np.where(np.abs(rates - fitted) > self._apart, costs, np.inf))
        others = sum(self._people[mine] != self._people[other] for mine, other in zip(match, rival, strict=False))
        return None if rival_cost <= cost + self._rounding and others > MAX_UNSURE * len(match) else match

    def _least(self, rates: np.ndarray, costs: np.ndarray) -> tuple[float, list[int]]:
        """Refine the rates with the lowest costs; return the best cost and assignment, or (inf, []) if none fits."""
        order = np.argsort(costs, kind='stable')[:REFINED]
        return min((self._refine(rates[index]) for index in order if np.isfinite(costs[index])),
                   default=(np.inf, []))

    def _candidates(self) -> np.ndarray:
        """Return the log rates that fit any list to the longest recording, within the allowed difference."""
        # Some list must fit the longest recording, whose relative tolerance is the smallest: few rates remain.
        longest = int(np.argmax(self._lengths))
        centers = self._lengths[longest] - self._ends[np.isfinite(self._ends)]
        reach = int(np.ceil(self._allowed[longest] / self._step))
        steps = np.round(centers / self._step)[:, None] + np.arange(-reach, reach + 1)  # (lists, 2 reach + 1)
        return np.unique(steps) * self._step

    def _refine(self, rate: float) -> tuple[float, list[int]]:
        """Alternate between the best assignment at a rate and the best rate of an assignment.

        Returns:
            The lowest cost and its assignment, among assignments that fit at their own best rate; (inf, []) if none.
        """
        best, tried = (np.inf, []), None
        for _ in range(MAX_REFINEMENTS):
            costs, takes = self._solve(np.array([rate]))
            match = self._trace(takes[:, 0], rate) if np.isfinite(costs[0]) else []
            if not match or match == tried:
                break
            # Least squares: the best log rate of an assignment is the mean of its log ratios.
            tried, rate = match, float(np.mean(self._lengths - self._ends[match]))
            best = min(best, (float(self._squared(self._ends[match] + rate - self._lengths).sum()), match))
        return best if np.isfinite(best[0]) else (np.inf, [])

    def _squared(self, ratios: np.ndarray) -> np.ndarray:
        """Return the squares of log ratios (..., N), infinite if a recording's allowed difference is exceeded."""
        return np.where(np.abs(np.expm1(ratios)) <= self._allowed, ratios**2, np.inf)

    def _costs(self, views: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the costs (views, R, N) of assigning a person's lists to recordings at each log rate."""
        return self._squared(np.unique(self._ends[views])[:, None, None] + rates[:, None] - self._lengths)

    def _solve(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest cost (R,) at each log rate, and which person's list is taken (people, R, N), bool."""
        # total[r, n]: lowest cost at rate r of assigning lists of the people so far to the first n recordings.
        total = np.full((len(rates), len(self._lengths) + 1), np.inf)
        total[:, 0] = 0
        takes = np.zeros((len(self._views), len(rates), len(self._lengths)), dtype=bool)
        for person, views in enumerate(self._views):
            # Either this person's closest view goes to recording n, after n - 1 recordings of earlier people, or no
            # view does.
            taken = total[:, :-1] + self._costs(views, rates).min(axis=0)  # (R, N)
            takes[person] = taken < total[:, 1:]
            total[:, 1:] = np.minimum(total[:, 1:], taken)
        return total[:, -1], takes

    def _trace(self, takes: np.ndarray, rate: float) -> list[int]:
        """Trace one rate's decisions (people, N) back and choose each person's closest view."""
        match, recording = [], len(self._lengths) - 1
        # takes[person, n]: among the people up to this one, it is best that this person's list goes to recording n.
        for person in reversed(range(len(self._views))):
            if recording >= 0 and takes[person, recording]:
                views = self._views[person]
                match.append(int(views[np.argmin(np.abs(self._ends[views] + rate - self._lengths[recording]))]))
                recording -= 1
        return match[::-1]
