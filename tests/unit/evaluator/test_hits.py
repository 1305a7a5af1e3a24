"""The events that rules selected, and the rows that these belong to."""

import numpy as np

from services.evaluator.core.match.hits import _Hits


def test_some_of_the_rows_are_taken_with_their_events() -> None:
    hits = _Hits(
        events=np.array([5, 6, 7, 8]),
        row=np.array([0, 1, 0, 2]),
        values=np.array([0.5, 1.5, 2.5, 3.5]),
        rules=np.array([0, 1, 2]),
        bucket=np.array([3, 4, 5]),
        last=np.array([7, 6, 8]),
        total=np.array([2, 1, 3]),
    )
    assert hits.take(np.arange(3)) is hits
    taken = hits.take(np.array([0, 2]))
    assert taken.events.tolist() == [5, 7, 8]
    assert taken.row.tolist() == [0, 0, 1]
    assert taken.values.tolist() == [0.5, 2.5, 3.5]
    rows = {name: getattr(taken, name).tolist() for name in ("rules", "bucket", "last", "total")}
    assert rows == {"rules": [0, 2], "bucket": [3, 5], "last": [7, 8], "total": [2, 3]}
