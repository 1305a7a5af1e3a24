"""The value of a record on `window-partials`: rows as columns, and rows in the form of former versions."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from services.contract.timestamps import nanoseconds_of, timestamp_of_nanoseconds
from services.evaluator.adapters.messages import MalformedError, sample_of
from services.evaluator.core.match.events import Floats, Ints
from services.evaluator.core.partial_rows import (
    ABSENT_NS,
    NO_ROWS,
    BlockPart,
    PartialBatch,
    PartialRows,
    Sharers,
    of_rows,
)
from services.evaluator.core.records import Aggregate, BlockProgress, Group, Row, RowKey
from services.evaluator.core.samples import NO_SAMPLES, SAMPLE_SCHEMA, SampleTable
from tocsin.evaluation.v1 import partial_pb2

# Of columns: in a record that is of one block, in one that says of which blocks it is, and where rules share rows.
_OF_ONE_BLOCK, _OF_BLOCKS, _SHARED = 1, 2, 3
# Of integers, by the width in bytes.
_INTEGERS: Final = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<i8"}
_NO_INTEGERS: Final[Ints] = np.zeros(0, dtype=np.int64)
_WIDTHS: Final = ((2**8, 1), (2**16, 2), (2**32, 4))


def encode_batch(batch: PartialBatch) -> bytes:
    """Encode a batch as the value of a record; its rows as columns."""
    # All blocks of a flush have these in common.
    progress = batch.blocks[0].progress
    return partial_pb2.PartialBatch(
        source_partitions=progress.source_partitions,
        rules_revision=progress.rules_revision,
        columns=encode_columns(batch.rows) if len(batch.rows) else None,
        continues=batch.continues,
        blocks=[_block(part) for part in batch.blocks],
        output_partition=batch.output,
        output_partitions=batch.outputs,
    ).SerializeToString()


def _block(part: BlockPart) -> partial_pb2.PartialBatch.Block:
    progress = part.progress
    block = partial_pb2.PartialBatch.Block(
        source_partition=progress.source_partition,
        block=progress.block,
        up_to=progress.up_to,
        previous_up_to=progress.previous_up_to,
        rows=part.rows,
        missed=[
            partial_pb2.MissedPanes(rule_id=rule_id, selection_revision=revision, pane_times=panes)
            for (rule_id, revision), panes in part.missed.items()
        ],
    )
    if progress.max_event_ns is not None:
        block.max_event_time.CopyFrom(timestamp_of_nanoseconds(progress.max_event_ns))
    if progress.max_arrival_ns is not None:
        block.max_arrival_time.CopyFrom(timestamp_of_nanoseconds(progress.max_arrival_ns))
    if progress.idle_ns is not None:
        block.idle_time.CopyFrom(timestamp_of_nanoseconds(progress.idle_ns))
    return block


def encode_columns(rows: PartialRows) -> partial_pb2.PartialColumns:
    """Return rows as a message, with only what some row points to."""
    rows = rows.compact()
    is_shared = any(len(sharers) > 1 for sharers in rows.selections)
    keys = list(dict.fromkeys(key for sharers in rows.selections for key in sharers)) if is_shared else rows.keys
    columns = partial_pb2.PartialColumns(
        schema_version=_OF_BLOCKS,
        rule_ids=[rule_id for rule_id, _ in keys],
        selection_revisions=[revision for _, revision in keys],
        group_values=[value for group in rows.groups for value in group],
        group_sizes=[len(group) for group in rows.groups],
        traceparents=rows.traceparents,
        pane_times=rows.pane_ns.astype("<i8").tobytes(),
        selections=_integer_bytes(rows.selection),
        groups=_integer_bytes(rows.group),
        counts=_integer_bytes(rows.counted),
        totals=_integer_bytes(rows.total),
        value_counts=_integer_bytes(rows.value_count),
        sums=rows.sum.astype("<f8").tobytes() if rows.sum.any() else b"",
        minimums=_optional_bytes(rows.min),
        maximums=_optional_bytes(rows.max),
        last_event_times=rows.last_event_ns.astype("<i8").tobytes() if (rows.last_event_ns != ABSENT_NS).any() else b"",
        traces=_integer_bytes(rows.traceparent),
    )
    if len(rows.sample_rows):
        columns.samples = _sample_stream(rows.samples)
        columns.sample_counts = _integer_bytes(np.bincount(rows.sample_rows, minlength=len(rows)))
        columns.sample_indexes = rows.sample_indexes.astype("<u4").tobytes()
    if is_shared:
        places = {key: place for place, key in enumerate(keys)}
        columns.schema_version = _SHARED
        columns.list_sizes.extend(map(len, rows.selections))
        members = [places[key] for sharers in rows.selections for key in sharers]
        columns.list_members = np.array(members, dtype="<u4").tobytes()
    return columns


def _integer_bytes(integers: Ints) -> bytes:
    """Return integers as narrow as they allow."""
    # As many bits as the greatest one has; negative when one is.
    bits = int(np.bitwise_or.reduce(integers))
    if not bits:
        return b""
    width = 8 if bits < 0 else next((width for limit, width in _WIDTHS if bits < limit), 8)
    return integers.astype(_INTEGERS[width]).tobytes()


def _optional_bytes(doubles: Floats) -> bytes:
    return b"" if np.isnan(doubles).all() else doubles.astype("<f8").tobytes()


def _sample_stream(samples: SampleTable) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SAMPLE_SCHEMA) as writer:
        writer.write_batch(samples.batch)
    return sink.getvalue().to_pybytes()


def decode_batch(value: bytes) -> PartialBatch:
    """Decode the value of a record in any form; raises MalformedError."""
    try:
        message = partial_pb2.PartialBatch.FromString(value)
    except DecodeError as error:
        raise MalformedError(str(error)) from None
    if message.HasField("columns"):
        rows = decode_columns(message.columns, (_OF_BLOCKS, _SHARED) if message.blocks else (_OF_ONE_BLOCK,))
    else:
        # Most records only say how far their blocks are.
        rows = of_rows([_row(row) for row in message.rows]) if message.rows else NO_ROWS
    if not message.blocks:
        blocks = [_part(message, message, len(rows))]
    else:
        blocks = [_part(message, block, block.rows) for block in message.blocks]
        _check_blocks(blocks, len(rows))
    # Records of former versions do not say for which partition they are, and have no rows that depend on it.
    outputs = message.output_partitions or 1
    _require(0 <= message.output_partition < outputs, "output_partition: outside of output_partitions")
    return PartialBatch(
        blocks=blocks,
        rows=rows,
        continues=message.continues,
        output=message.output_partition,
        outputs=outputs,
    )


def _part(
    batch: partial_pb2.PartialBatch, block: partial_pb2.PartialBatch | partial_pb2.PartialBatch.Block, rows: int
) -> BlockPart:
    """Return what a record says of a block; of its only one in the former form."""
    progress = BlockProgress(
        source_partition=block.source_partition,
        source_partitions=batch.source_partitions,
        block=block.block,
        up_to=block.up_to,
        previous_up_to=block.previous_up_to,
        rules_revision=batch.rules_revision,
        max_event_ns=nanoseconds_of(block.max_event_time) if block.HasField("max_event_time") else None,
        max_arrival_ns=nanoseconds_of(block.max_arrival_time) if block.HasField("max_arrival_time") else None,
        idle_ns=nanoseconds_of(block.idle_time) if block.HasField("idle_time") else None,
    )
    missed = {(each.rule_id, each.selection_revision): tuple(each.pane_times) for each in block.missed}
    return BlockPart(progress=progress, rows=rows, missed=missed)


def _check_blocks(blocks: Sequence[BlockPart], rows: int) -> None:
    sources = {part.progress.source_partition for part in blocks}
    _require(len(sources) == len(blocks), "blocks: two of one source_partition")
    sizes = [part.rows for part in blocks]
    _require(min(sizes) >= 0 and sum(sizes) == rows, f"blocks: {sum(sizes)} rows, expected {rows}")


def _row(message: partial_pb2.PartialRow) -> Row:
    key = RowKey(message.rule_id, message.selection_revision, tuple(message.group), nanoseconds_of(message.pane_time))
    aggregate = Aggregate(
        counted=message.count,
        total=message.total,
        value_count=message.value_count,
        sum=message.sum,
        min=message.min if message.HasField("min") else None,
        max=message.max if message.HasField("max") else None,
        last_event_ns=nanoseconds_of(message.last_event_time) if message.HasField("last_event_time") else None,
        samples=tuple(sample_of(sample) for sample in message.samples),
        traceparent=message.traceparent,
    )
    return Row(key, aggregate)


def decode_columns(columns: partial_pb2.PartialColumns, versions: Sequence[int]) -> PartialRows:
    """Return the rows of a message, checked completely; raises MalformedError."""
    expected = " or ".join(map(str, versions))
    _require(columns.schema_version in versions, f"expected schema version {expected}, got {columns.schema_version}")
    _require(len(columns.rule_ids) == len(columns.selection_revisions), "selections: tables differ in length")
    _require(len(columns.pane_times) % 8 == 0, "pane_times: not a multiple of 8 bytes")
    rows = len(columns.pane_times) // 8
    selections = _selections(columns)
    groups, traceparents = _groups(columns), tuple(columns.traceparents)
    samples = _samples(columns.samples)
    sample_rows, sample_indexes = _samples_of_rows(columns, rows)
    return PartialRows(
        selections=selections,
        groups=groups,
        traceparents=traceparents,
        samples=samples,
        selection=_indexes(_integers(columns.selections, rows, "selections"), len(selections), "selections"),
        group=_indexes(_integers(columns.groups, rows, "groups"), len(groups), "groups"),
        traceparent=_indexes(_integers(columns.traces, rows, "traces"), len(traceparents), "traces"),
        pane_ns=np.frombuffer(columns.pane_times, "<i8"),
        counted=_integers(columns.counts, rows, "counts"),
        total=_integers(columns.totals, rows, "totals"),
        value_count=_integers(columns.value_counts, rows, "value_counts"),
        last_event_ns=_moments(columns.last_event_times, rows),
        sum=_sums(columns.sums, rows),
        min=_optional_doubles(columns.minimums, rows, "minimums"),
        max=_optional_doubles(columns.maximums, rows, "maximums"),
        sample_rows=sample_rows,
        sample_indexes=_indexes(sample_indexes, len(samples), "sample_indexes"),
    )


def _require(is_met: Any, problem: str) -> None:
    if not is_met:
        raise MalformedError(problem)


def _selections(columns: partial_pb2.PartialColumns) -> tuple[Sharers, ...]:
    """Return who shares the rows of each entry; in former versions each selection has rows of its own."""
    keys = list(zip(columns.rule_ids, columns.selection_revisions, strict=True))
    if columns.schema_version != _SHARED:
        return tuple((key,) for key in keys)
    sizes = tuple(columns.list_sizes)
    is_whole = min(sizes, default=1) > 0 and sum(sizes) * 4 == len(columns.list_members)
    _require(is_whole, "list_sizes: not as many as list_members")
    members = _indexes(np.frombuffer(columns.list_members, "<u4").astype(np.int64), len(keys), "list_members")
    listed = [keys[member] for member in members.tolist()]
    return tuple(tuple(listed[start:end]) for start, end in pairwise(accumulate(sizes, initial=0)))


def _groups(columns: partial_pb2.PartialColumns) -> tuple[Group, ...]:
    values, sizes = tuple(columns.group_values), tuple(columns.group_sizes)
    _require(min(sizes, default=0) >= 0 and sum(sizes) == len(values), "group_sizes: not as many as group_values")
    return tuple(values[start:end] for start, end in pairwise(accumulate(sizes, initial=0)))


def _samples_of_rows(columns: partial_pb2.PartialColumns, rows: int) -> tuple[Ints, Ints]:
    """Return the row of each sample, and its index in the table."""
    if not (columns.sample_counts or columns.sample_indexes):
        return _NO_INTEGERS, _NO_INTEGERS
    counts = _integers(columns.sample_counts, rows, "sample_counts")
    _require(
        counts.min(initial=0) >= 0 and counts.sum() * 4 == len(columns.sample_indexes),
        "sample_indexes: not as many as sample_counts says",
    )
    return np.repeat(np.arange(rows), counts), np.frombuffer(columns.sample_indexes, "<u4").astype(np.int64)


def _integers(column: bytes, rows: int, name: str) -> Ints:
    if not column:
        return np.zeros(rows, dtype=np.int64)
    width, rest = divmod(len(column), rows) if rows else (0, 1)
    _require(not rest and width in _INTEGERS, f"{name}: {len(column)} bytes for {rows} rows")
    return np.frombuffer(column, _INTEGERS[width]).astype(np.int64)


def _indexes(indexes: Ints, entries: int, name: str) -> Ints:
    # Without sign a negative one is greater than any.
    is_inside = not len(indexes) or indexes.view(np.uint64).max() < entries
    _require(is_inside, f"{name}: an index outside of the table")
    return indexes


def _moments(column: bytes, rows: int) -> Ints:
    if not column:
        return np.full(rows, ABSENT_NS)
    _require(len(column) == 8 * rows, f"last_event_times: {len(column)} bytes for {rows} rows")
    return np.frombuffer(column, "<i8")


def _doubles(column: bytes, rows: int, name: str) -> Floats:
    _require(len(column) == 8 * rows, f"{name}: {len(column)} bytes for {rows} rows")
    return np.frombuffer(column, "<f8")


def _sums(column: bytes, rows: int) -> Floats:
    if not column:
        return np.zeros(rows)
    sums = _doubles(column, rows, "sums")
    # A sum may have become infinite.
    _require(not np.isnan(sums).any(), "sums: not a number")
    return sums


def _optional_doubles(column: bytes, rows: int, name: str) -> Floats:
    if not column:
        return np.full(rows, np.nan)
    doubles = _doubles(column, rows, name)
    _require(not np.isinf(doubles).any(), f"{name}: not finite")
    return doubles


def _samples(stream: bytes) -> SampleTable:
    if not stream:
        return NO_SAMPLES
    try:
        with pa.ipc.open_stream(stream) as reader:
            _require(reader.schema == SAMPLE_SCHEMA, "samples: expected the columns of schema version 1")
            table = reader.read_all()
        table.validate(full=True)
        _require(not _has_unexpected_nulls(table), "samples: a value is missing")
    except (pa.ArrowException, ValueError, OSError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise MalformedError("samples: expected an Arrow IPC stream") from error
    return SampleTable.concat([SampleTable(batch) for batch in table.to_batches()])


def _has_unexpected_nulls(table: pa.Table) -> bool:
    columns: list[Any] = [table.column(field.name) for field in SAMPLE_SCHEMA if not field.nullable]
    values = [chunk.items for chunk in columns[-1].chunks]
    return any(column.null_count for column in (*columns, *values))
