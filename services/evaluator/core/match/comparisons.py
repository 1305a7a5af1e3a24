"""Compares the numbers of a field with the bounds of all rules."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.evaluator.core.match.events import Array, Floats, Ints, RowMask
from services.evaluator.core.match.terms import Compares

# From so many comparisons on it is cheaper to sort the numbers once than to compare all of them with each bound.
_MIN_SORTED = 8
# A comparison that selects more than one in so many numbers is made on all of them: sorting its rows costs more.
_LARGE = 16
_COMPARE: Mapping[str, Callable[[Floats, float], RowMask]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def find_compared(terms: Mapping[int, Compares], numbers: Array) -> list[tuple[int, Ints]]:
    """Return the keys of the terms that are true of any number, and the positions of these numbers, which rise."""
    if not terms:
        return []
    doubles: Floats = np.asarray(pc.cast(numbers, pa.float64()).to_numpy(zero_copy_only=False))
    if len(terms) < _MIN_SORTED:
        found = [(key, _compare(term, doubles)) for key, term in terms.items()]
        return [(key, positions) for key, positions in found if len(positions)]
    order = np.argsort(doubles)
    # What is no number, or absent, comes last.
    order = order[: len(order) - int(np.count_nonzero(np.isnan(doubles)))]
    return [
        (key, np.sort(order[first:end]) if (end - first) * _LARGE < len(order) else _compare(terms[key], doubles))
        for key, first, end in _spans(terms, doubles[order])
    ]


def _compare(term: Compares, doubles: Floats) -> Ints:
    return np.flatnonzero(_COMPARE[term.sign](doubles, term.bound))


def _spans(terms: Mapping[int, Compares], rising: Floats) -> list[tuple[int, int, int]]:
    """Return the key of each term that is true of any number, where these numbers begin and end."""
    bounds = np.array([term.bound for term in terms.values()])
    left, right = np.searchsorted(rising, bounds, side="left"), np.searchsorted(rising, bounds, side="right")
    is_below = np.array([term.sign in {"<", "<="} for term in terms.values()])
    takes_bound = np.array([term.sign in {"<=", ">="} for term in terms.values()])
    border = np.where(is_below == takes_bound, right, left)
    first = np.where(is_below, 0, border)
    behind = np.where(is_below, border, len(rising))
    chosen = first < behind
    keys = np.fromiter(terms, np.int64, len(terms))
    return list(zip(keys[chosen].tolist(), first[chosen].tolist(), behind[chosen].tolist(), strict=True))
