"""Matching annotation lists to recordings where a task holds one list per camera view.

Lists and recordings come in the same order of people, and a list ends where its view ends. So each recording takes a
list of a later person than the recording before it, and one rate for the whole task brings last ends to lengths.
"""

from collections.abc import Hashable, Sequence

import numpy as np

OPENING = 3  # segments that tell whose list it is
STEPS_IN_TOLERANCE = 8  # how finely rates are tried
REFINED = 8  # rates that are refined, the best first
MAX_REFINEMENTS = 10
MAX_FRAMES_OFF = 1.5  # half a frame of rounding, and a frame more or less at the end
MAX_UNSURE = 0.1  # share of recordings that another rate may give to other people


def opening_key(actions: Sequence[str], starts: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Return what the lists of one person have in common: the first actions and when they start."""
    return tuple(zip(actions[:OPENING], starts[:OPENING], strict=True))


def match_lists_to_handles(last_ends: Sequence[int], lengths: Sequence[int], list_keys: Sequence[Hashable], *,
                           tolerance: float = 0.02, rate: float | None = None) -> list[int] | None:
    """Give each recording a list, in order, such that ``last end x rate`` fits the recording's length best.

    The sum of squared log ratios is minimised over increasing assignments and over the rate.

    Args:
        last_ends: last end of each list, annotation frames; a list that ends at 0 is never taken.
        lengths: feature frames of each recording, > 0.
        list_keys: what tells a list's person, see :func:`opening_key`. Lists in a row with one key, or with a key
            that is a shorter opening of the other, are of one person.
        tolerance: how far, as a share of its length, a list may be from its recording at the best rate. A length is
            a whole number of frames, so a frame and a half are always allowed.
        rate: feature frames per annotation frame, where known; None searches for it.

    Returns:
        The index of each recording's list, increasing. None where no assignment fits, or where another rate fits
        other people's lists as well as rounding lets one tell (a few recordings beside the lists of many people);
        times that are at the feature rate already are preferred then.

    Raises:
        ValueError: ``last_ends`` and ``list_keys`` differ in number, or a length is not positive.
    """
    if len(last_ends) != len(list_keys) or min(lengths, default=1) <= 0:
        raise ValueError(f'{len(last_ends)} last ends, {len(list_keys)} list keys and lengths {list(lengths)}; '
                         'expected as many keys as ends, and lengths above 0')
    people = _people(list_keys)
    while True:
        match = _Matcher(last_ends, lengths, people, tolerance).best(rate)
        clash = None if match is None else _one_person_twice(match, list_keys)
        if clash is None:
            return match
        # a stray list stood between those of one person: all from the first to the second are that person's
        people = _merge(people, *clash)


def _people(keys: Sequence[Hashable]) -> np.ndarray:
    """Number the runs of lists that begin alike."""
    numbers, longest = [], None
    for key in keys:
        if longest is None or not _alike(key, longest):
            numbers.append(numbers[-1] + 1 if numbers else 0)
            longest = key
            continue
        numbers.append(numbers[-1])
        if isinstance(key, tuple) and len(key) > len(longest):
            longest = key  # the first list of this person was the one that broke off
    return np.array(numbers, dtype=int)


def _alike(key: Hashable, other: Hashable) -> bool:
    """Tell whether two keys are equal, or one is an opening of the other: a view that broke off early."""
    if isinstance(key, tuple) and isinstance(other, tuple):
        shared = min(len(key), len(other))
        return key[:shared] == other[:shared]
    return key == other


def _one_person_twice(match: Sequence[int], keys: Sequence[Hashable]) -> tuple[int, int] | None:
    """Return two lists taken that have one key, if any."""
    seen: dict[Hashable, int] = {}
    for index in match:
        if keys[index] in seen:
            return seen[keys[index]], index
        seen[keys[index]] = index
    return None


def _merge(people: np.ndarray, first: int, second: int) -> np.ndarray:
    """Make one person of all from that of list ``first`` to that of list ``second``."""
    low, high = people[first], people[second]
    return np.where(people <= low, people, np.maximum(people - (high - low), low))


class _Matcher:
    """Dynamic programme over people and recordings, for many rates at once."""

    def __init__(self, last_ends: Sequence[int], lengths: Sequence[int], people: np.ndarray,
                 tolerance: float) -> None:
        ends = np.asarray(last_ends, dtype=float)
        self._ends = np.log(ends, out=np.full(len(ends), -np.inf), where=ends > 0)
        self._lengths = np.log(np.asarray(lengths, dtype=float))
        self._allowed = np.maximum(tolerance, MAX_FRAMES_OFF / np.asarray(lengths)) + 1e-9
        self._step, self._apart = tolerance / STEPS_IN_TOLERANCE, 2 * tolerance
        self._rounding = float(np.sum(1 / np.asarray(lengths)**2))  # what rounding lengths to frames may cost
        self._people = people
        self._views = [np.flatnonzero(people == person) for person in range(people.max(initial=-1) + 1)]

    def best(self, rate: float | None) -> list[int] | None:
        """Return the assignment of least cost over the rates, None where none fits or it is anyone's guess."""
        if rate is not None:
            costs, takes = self._solve(np.log([rate]))
            return self._trace(takes[:, 0], np.log(rate)) if np.isfinite(costs[0]) else None
        rates = self._candidates()
        costs, _ = self._solve(rates)
        cost, match = self._least(rates, costs)
        as_they_are = self._refine(0.0)
        if as_they_are[0] <= cost + self._rounding:
            return as_they_are[1] or None
        # with few recordings some other rate may fit other people's lists just as well
        fitted = np.mean(self._lengths - self._ends[match])
        rival_cost, rival = self._least(rates, np.where(np.abs(rates - fitted) > self._apart, costs, np.inf))
        others = sum(self._people[mine] != self._people[other] for mine, other in zip(match, rival, strict=False))
        return None if rival_cost <= cost + self._rounding and others > MAX_UNSURE * len(match) else match

    def _least(self, rates: np.ndarray, costs: np.ndarray) -> tuple[float, list[int]]:
        """Refine the rates of least cost and return the best cost and assignment, (inf, []) where none fits."""
        order = np.argsort(costs, kind='stable')[:REFINED]
        return min((self._refine(rates[index]) for index in order if np.isfinite(costs[index])),
                   default=(np.inf, []))

    def _candidates(self) -> np.ndarray:
        """Log rates that bring some list to the longest recording, within what it allows."""
        longest = int(np.argmax(self._lengths))
        centers = self._lengths[longest] - self._ends[np.isfinite(self._ends)]
        reach = int(np.ceil(self._allowed[longest] / self._step))
        steps = np.round(centers / self._step)[:, None] + np.arange(-reach, reach + 1)
        return np.unique(steps) * self._step

    def _refine(self, rate: float) -> tuple[float, list[int]]:
        """Alternate between the best assignment at a rate and the best rate of an assignment.

        Returns:
            The least cost and its assignment, among those that fit at the best rate of their own; (inf, []) if none.
        """
        best, tried = (np.inf, []), None
        for _ in range(MAX_REFINEMENTS):
            costs, takes = self._solve(np.array([rate]))
            match = self._trace(takes[:, 0], rate) if np.isfinite(costs[0]) else []
            if not match or match == tried:
                break
            tried, rate = match, float(np.mean(self._lengths - self._ends[match]))
            best = min(best, (float(self._squared(self._ends[match] + rate - self._lengths).sum()), match))
        return best if np.isfinite(best[0]) else (np.inf, [])

    def _squared(self, ratios: np.ndarray) -> np.ndarray:
        """Square log ratios (..., N) of lists to recordings, infinite past what a recording allows."""
        return np.where(np.abs(np.expm1(ratios)) <= self._allowed, ratios**2, np.inf)

    def _costs(self, views: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Costs (views, R, N) of giving a person's lists to recordings."""
        return self._squared(np.unique(self._ends[views])[:, None, None] + rates[:, None] - self._lengths)

    def _solve(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least cost (R,) at each log rate, and whether a person's list is taken (people, R, N)."""
        total = np.full((len(rates), len(self._lengths) + 1), np.inf)
        total[:, 0] = 0  # no recording has a list yet
        takes = np.zeros((len(self._views), len(rates), len(self._lengths)), dtype=bool)
        for person, views in enumerate(self._views):
            taken = total[:, :-1] + self._costs(views, rates).min(axis=0)
            takes[person] = taken < total[:, 1:]
            total[:, 1:] = np.minimum(total[:, 1:], taken)
        return total[:, -1], takes

    def _trace(self, takes: np.ndarray, rate: float) -> list[int]:
        """Walk back through one rate's decisions (people, N) and take each person's closest view."""
        match, recording = [], len(self._lengths) - 1
        for person in reversed(range(len(self._views))):
            if recording >= 0 and takes[person, recording]:
                views = self._views[person]
                match.append(int(views[np.argmin(np.abs(self._ends[views] + rate - self._lengths[recording]))]))
                recording -= 1
        return match[::-1]
