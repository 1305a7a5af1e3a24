"""Rows as objects: a form that only tests need."""

from collections.abc import Iterator

import numpy as np

from services.evaluator.core.partial_rows import ABSENT_NS, PartialRows
from services.evaluator.core.records import Aggregate, Group, Row, RowKey, Sample


def to_rows(rows: PartialRows) -> tuple[Row, ...]:
    """Return rows as objects, one for each selection that shares it."""
    return tuple(
        Row(RowKey(rule_id, revision, *place), aggregate)
        for index, place, aggregate in zip(rows.selection.tolist(), _places(rows), _aggregates(rows), strict=True)
        for rule_id, revision in rows.selections[index]
    )


def _places(rows: PartialRows) -> Iterator[tuple[Group, int]]:
    return zip((rows.groups[index] for index in rows.group.tolist()), rows.pane_ns.tolist(), strict=True)


def _aggregates(rows: PartialRows) -> list[Aggregate]:
    samples = _samples_of_each(rows)
    aggregates = map(
        Aggregate,
        *(getattr(rows, name).tolist() for name in ("counted", "total", "value_count", "sum")),
        map(_present, rows.min.tolist()),
        map(_present, rows.max.tolist()),
        (None if moment_ns == ABSENT_NS else moment_ns for moment_ns in rows.last_event_ns.tolist()),
        samples,
        (rows.traceparents[index] for index in rows.traceparent.tolist()),
    )
    return list(aggregates)


def _present(value: float) -> float | None:
    return None if np.isnan(value) else value


def _samples_of_each(rows: PartialRows) -> list[tuple[Sample, ...]]:
    of_each: list[tuple[Sample, ...]] = [()] * len(rows)
    samples = rows.samples.to_list()
    for row, index in zip(rows.sample_rows.tolist(), rows.sample_indexes.tolist(), strict=True):
        of_each[row] = (*of_each[row], samples[index])
    return of_each
