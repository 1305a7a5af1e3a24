"""Rows as objects: a form that only tests need."""

import numpy as np

from services.evaluator.core.partial_rows import ABSENT_NS, PartialRows
from services.evaluator.core.records import Aggregate, Row, RowKey, Sample


def to_rows(rows: PartialRows) -> tuple[Row, ...]:
    """Return rows as objects."""
    samples = _samples_of_each(rows)
    selections = (rows.selections[index] for index in rows.selection.tolist())
    groups = (rows.groups[index] for index in rows.group.tolist())
    keys = [
        RowKey(rule_id, revision, group, pane_ns)
        for (rule_id, revision), group, pane_ns in zip(selections, groups, rows.pane_ns.tolist(), strict=True)
    ]
    aggregates = map(
        Aggregate,
        *(getattr(rows, name).tolist() for name in ("counted", "total", "value_count", "sum")),
        map(_present, rows.min.tolist()),
        map(_present, rows.max.tolist()),
        (None if moment_ns == ABSENT_NS else moment_ns for moment_ns in rows.last_event_ns.tolist()),
        samples,
        (rows.traceparents[index] for index in rows.traceparent.tolist()),
    )
    return tuple(map(Row, keys, aggregates))


def _present(value: float) -> float | None:
    return None if np.isnan(value) else value


def _samples_of_each(rows: PartialRows) -> list[tuple[Sample, ...]]:
    of_each: list[tuple[Sample, ...]] = [()] * len(rows)
    samples = rows.samples.to_list()
    for row, index in zip(rows.sample_rows.tolist(), rows.sample_indexes.tolist(), strict=True):
        of_each[row] = (*of_each[row], samples[index])
    return of_each
