"""Decode a whole fetch of partial batches through columns: several times as fast as message by message."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ptars import HandlerPool

from services.domain.level import Level
from services.evaluator.core.match.events import Ints
from services.evaluator.core.records import Aggregate, BlockProgress, PartialBatch, Row, RowKey, Sample
from tocsin.evaluation.v1 import partial_pb2

_HEADER = {
    "source_partition": "source_partition",
    "source_partitions": "source_partitions",
    "block": "block",
    "up_to": "up_to",
    "previous_up_to": "previous_up_to",
    "max_event_ns": "max_event_time",
    "max_arrival_ns": "max_arrival_time",
    "idle_ns": "idle_time",
    "rules_revision": "rules_revision",
}
_NUMBERS = ("count", "total", "value_count", "sum", "min", "max", "last_event_time")


class PartialDecoder:
    """Decodes partial batches with ptars."""

    def __init__(self) -> None:
        pool = HandlerPool([partial_pb2.DESCRIPTOR])
        self._handler = pool.get_for_message(partial_pb2.PartialBatch.DESCRIPTOR)

    def decode(
        self, values: Sequence[bytes], judged: Sequence[bool] = (), partitions: Sequence[int] = ()
    ) -> list[PartialBatch]:
        """Decode batches; raises ValueError if one of them is malformed.

        Leave out rows of a judged batch that another judged batch of the same partition, source and block replaces.
        """
        columns = self._handler.list_to_record_batch(list(values))
        lists = columns.column("rows")
        counts = np.diff(lists.offsets.to_numpy()).astype(np.int64)
        rows = lists.flatten()
        batch_of_row = np.repeat(np.arange(len(values)), counts)
        if any(judged):
            outputs = np.asarray(partitions, dtype=np.int64)
            indices = _rows_to_keep(columns, rows, batch_of_row, np.asarray(judged, dtype=bool), outputs)
            rows, batch_of_row = rows.take(pa.array(indices)), batch_of_row[indices]
        borders = np.searchsorted(batch_of_row, np.arange(len(values) + 1)).tolist()
        decoded = _rows(rows)
        return [
            PartialBatch(progress=progress, rows=tuple(decoded[start:end]))
            for progress, (start, end) in zip(_progress(columns), pairwise(borders), strict=True)
        ]


def _progress(columns: Any) -> list[BlockProgress]:
    fields = [_list_of(columns.column(name)) for name in _HEADER.values()]
    return [BlockProgress(**dict(zip(_HEADER, values, strict=True))) for values in zip(*fields, strict=True)]


def _rows(rows: Any) -> list[Row]:
    groups = map(tuple, rows.field("group").to_pylist())
    keys = map(
        RowKey,
        rows.field("rule_id").to_pylist(),
        rows.field("selection_revision").to_pylist(),
        groups,
        _list_of(rows.field("pane_time")),
    )
    numbers = [_list_of(rows.field(name)) for name in _NUMBERS]
    aggregates = map(Aggregate, *numbers, _samples(rows.field("samples")), rows.field("traceparent").to_pylist())
    return list(map(Row, keys, aggregates))


def _samples(lists: Any) -> list[tuple[Sample, ...]]:
    """Return each row's samples; most rows have none."""
    by_row: list[tuple[Sample, ...]] = [()] * len(lists)
    filled = np.flatnonzero(np.diff(lists.offsets.to_numpy()))
    nonempty = lists.take(pa.array(filled))
    samples = _samples_of(nonempty.flatten())
    start = 0
    for index, count in zip(filled.tolist(), np.diff(nonempty.offsets.to_numpy()).tolist(), strict=True):
        by_row[index], start = tuple(samples[start : start + count]), start + count
    return by_row


def _samples_of(samples: Any) -> list[Sample]:
    levels = [Level(level) if level else None for level in samples.field("level").to_pylist()]
    texts = {name: samples.field(name).to_pylist() for name in ("service", "message", "host", "trace_id")}
    return list(
        map(
            Sample,
            _list_of(samples.field("event_time").fill_null(0)),
            texts["service"],
            levels,
            texts["message"],
            samples.field("status_code").to_pylist(),
            samples.field("response_time").to_pylist(),
            texts["host"],
            texts["trace_id"],
            [tuple(sorted(pairs or ())) for pairs in samples.field("attributes").to_pylist()],
        )
    )


def _list_of(column: Any) -> list[Any]:
    """Return a column's values; timestamps as nanoseconds."""
    values: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _rows_to_keep(columns: Any, rows: Any, batch_of_row: Ints, judged: NDArray[np.bool_], outputs: Ints) -> Ints:
    """Return the indices of rows that are not replaced; rows with samples stay, because later ones may omit them.

    Of each key the judged row that reaches furthest counts. It is not always the last: a writer that began again
    repeats rows, and repeated rows of a block are stale once a later block has begun. Rows that are not judged yet
    replace none: windows close before they are read.
    """
    sources, blocks, up_to = (columns.column(name).to_numpy() for name in ("source_partition", "block", "up_to"))
    reached = np.where(judged & ~_is_stale(outputs, sources, blocks), up_to, -1)
    keys = [sources[batch_of_row], blocks[batch_of_row]]
    keys.append(outputs[batch_of_row])
    keys += [rows.field("selection_revision").to_numpy(), rows.field("pane_time").cast(pa.int64()).to_numpy()]
    keys += [_codes(rows.field("rule_id")), *_group_codes(rows.field("group"))]
    last = _greatest_of_each(keys, reached[batch_of_row])
    has_samples = np.diff(rows.field("samples").offsets.to_numpy()) > 0
    return np.flatnonzero(last | has_samples | ~judged[batch_of_row])


def _is_stale(outputs: Ints, sources: Ints, blocks: Ints) -> NDArray[np.bool_]:
    """Mark the batches of blocks after which a later block of the same source has begun."""
    latest_blocks: dict[tuple[int, int], int] = {}
    is_stale = []
    for output, source, block in zip(outputs.tolist(), sources.tolist(), blocks.tolist(), strict=True):
        latest_blocks[output, source] = latest = max(block, latest_blocks.get((output, source), block))
        is_stale.append(block < latest)
    return np.array(is_stale, dtype=bool)


def _codes(texts: Any) -> Ints:
    return np.asarray(texts.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def _group_codes(groups: Any) -> list[Ints]:
    """Return a number for each value of each group, by place; -1 where a group has fewer values."""
    offsets = groups.offsets.to_numpy()
    lengths = np.diff(offsets)
    values = _codes(groups.flatten())
    places = []
    for place in range(int(lengths.max(initial=0))):
        codes = np.full(len(lengths), -1, dtype=np.int64)
        has = lengths > place
        codes[has] = values[offsets[:-1][has] - offsets[0] + place]
        places.append(codes)
    return places


def _greatest_of_each(keys: Sequence[Ints], values: Ints) -> NDArray[np.bool_]:
    """Mark the row of each key with the greatest value."""
    # The first array is the last to decide.
    order = np.lexsort([values, *keys])
    is_end = np.zeros(len(order), dtype=bool)
    is_end[-1:] = True
    for key in keys:
        is_end[:-1] |= np.diff(key[order]) != 0
    last = np.zeros(len(order), dtype=bool)
    last[order] = is_end
    return last
