"""Edit distance of two sequences."""

import numpy as np


def levenshtein(first: np.ndarray, second: np.ndarray) -> int:
    """Return the fewest insertions, deletions, and replacements that turn one sequence (n,) into another (m,)."""
    places = np.arange(len(second) + 1)
    row = places.copy()
    for index, label in enumerate(first, start=1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (second != label))  # deletion, replacement
        candidates = np.concatenate([[index], changed])
        row = np.minimum.accumulate(candidates - places) + places  # any number of insertions after each
    return int(row[-1])
