"""The values of the records on `window-snapshots`: a snapshot in parts, checked completely when it is read."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from services.evaluator.adapters.messages import MalformedError
from services.evaluator.core.distinct_integers import distinct_integers
from services.evaluator.core.match.events import Ints
from services.evaluator.core.records import Group
from services.evaluator.core.samples import SAMPLE_SCHEMA, SampleTable
from services.evaluator.core.window.aggregates import COLUMNS, AggregateColumns
from services.evaluator.core.window.exact_sums import SumColumns
from services.evaluator.core.window.growing_blocks import BLOCK_COLUMNS, BlockColumns
from services.evaluator.core.window.numbering import WindowEntry
from services.evaluator.core.window.pane_table import TableColumns
from services.evaluator.core.window.sample_log import SampleColumns
from services.evaluator.core.window.sequence import SourceSequence
from services.evaluator.core.window.snapshot import SelectionState, StageSnapshot
from services.evaluator.core.window.snapshot_check import InvalidSnapshotError, check_snapshot
from services.evaluator.core.window.watermark import SourceTimes
from tocsin.evaluation.v1 import partial_pb2

_VERSION: Final = 1
# Half of what a broker accepts by default.
MAX_PART_BYTES: Final = 512 * 1024

_TYPES: Final = {int: pa.int64(), bool: pa.bool_(), str: pa.string()}


def _schema(types: Mapping[str, Any]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


_SELECTIONS: Final = _schema(
    {"rule_id": pa.string(), "selection_revision": pa.int64()}
    | {name: _TYPES[kind] for name, kind in SelectionState.__annotations__.items()}
)
_WINDOWS: Final = _schema(
    {"is_used": pa.bool_()} | {name: _TYPES[kind] for name, kind in WindowEntry.__annotations__.items()}
)
_GROUPS: Final = pa.schema([pa.field("group", pa.list_(pa.field("item", pa.string(), nullable=False)))])
_PANES: Final = _schema(
    {"code": pa.int64()}
    | {name: pa.from_numpy_dtype(np.dtype(column.dtype)) for name, column in COLUMNS.items()}
    | {"sum_high": pa.float64(), "sum_low": pa.float64()}
)
_BLOCKS: Final = _schema(
    {"source": pa.int64()} | {name: pa.from_numpy_dtype(np.dtype(dtype)) for name, dtype in BLOCK_COLUMNS.items()}
)
_SAMPLE_INDEXES: Final = _schema({"event": pa.int64()})
_FOLDED_SAMPLES: Final = _schema({"slot": pa.int64(), "event": pa.int64()})
_NO_WINDOW: Final = (False, *(kind() for kind in WindowEntry.__annotations__.values()))


def encode_snapshot(snapshot: StageSnapshot) -> bytes:
    """Encode a snapshot as one piece."""
    table, sums = snapshot.table, snapshot.table.folded.sums
    numbers = snapshot.table.folded.numbers
    return partial_pb2.WindowSnapshot(
        position=snapshot.position,
        is_resumed=snapshot.is_resumed,
        source_partitions=snapshot.source_count,
        matched_by=snapshot.matched_by,
        sources=[_source(partition, snapshot) for partition in snapshot.sequences],
        selections=_stream(_SELECTIONS, _columns([(*key, *state) for key, state in snapshot.selections.items()])),
        windows=_stream(_WINDOWS, _columns([(True, *entry) if entry else _NO_WINDOW for entry in table.windows])),
        groups=_stream(_GROUPS, [table.groups]),
        panes=_stream(_PANES, [table.codes, *(numbers[name] for name in COLUMNS), sums.high, sums.low]),
        blocks=_stream(_BLOCKS, _block_columns(table.blocks)),
        block_samples=_stream(_SAMPLE_INDEXES, [_joined([block.sample_ids for block in table.blocks.values()])]),
        samples=_batches(SAMPLE_SCHEMA, [each.batch for each in table.samples.tables]),
        folded_samples=_stream(_FOLDED_SAMPLES, [table.samples.slots, table.samples.ids]),
        wide_sums=[
            partial_pb2.WindowSnapshot.WideSum(pane=pane, units=_integer_bytes(units))
            for pane, units in sums.integers.items()
        ],
    ).SerializeToString()


def decode_snapshot(content: bytes) -> StageSnapshot:
    """Decode and check a snapshot; raises MalformedError."""
    try:
        message = partial_pb2.WindowSnapshot.FromString(content)
        snapshot = _snapshot(message)
        check_snapshot(snapshot)
    except (DecodeError, InvalidSnapshotError) as error:
        raise MalformedError(str(error)) from None
    return snapshot


def part_values(content: bytes, max_bytes: int = MAX_PART_BYTES) -> tuple[str, list[bytes]]:
    """Return the id of a snapshot, and the values of its records."""
    digest = sha256(content)
    pieces = [content[start : start + max_bytes] for start in range(0, len(content), max_bytes)]
    return digest.hexdigest(), [
        partial_pb2.WindowSnapshotPart(
            schema_version=_VERSION, snapshot_id=digest.digest(), part=number, parts=len(pieces), content=piece
        ).SerializeToString()
        for number, piece in enumerate(pieces)
    ]


def joined_parts(values: Iterable[bytes], snapshot_id: str) -> bytes:
    """Return the content of a snapshot from records among which its parts are; raises MalformedError."""
    pieces: dict[int, bytes] = {}
    for value in values:
        try:
            part = partial_pb2.WindowSnapshotPart.FromString(value)
        except DecodeError:
            # It may be anything; what is missing shows in the digest.
            continue
        if part.schema_version == _VERSION and part.snapshot_id.hex() == snapshot_id:
            pieces[part.part] = part.content
    content = b"".join(piece for _, piece in sorted(pieces.items()))
    if sha256(content).hexdigest() != snapshot_id:
        raise MalformedError(f"{len(pieces)} parts are not the whole snapshot")
    return content


def _source(partition: int, snapshot: StageSnapshot) -> partial_pb2.WindowSnapshot.Source:
    sequence, times = snapshot.sequences[partition], snapshot.sources.get(partition, SourceTimes())
    return partial_pb2.WindowSnapshot.Source(
        partition=partition,
        block=sequence.block,
        up_to=sequence.up_to,
        is_complete=sequence.is_complete,
        event_ns=times.event_ns,
        idle_ns=times.idle_ns,
    )


def _integer_bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return list(zip(*rows, strict=True))


def _block_columns(blocks: Mapping[int, BlockColumns]) -> list[Any]:
    sources = [np.full(len(block.columns["slots"]), source) for source, block in blocks.items()]
    return [
        _joined(sources),
        *(_joined([block.columns[name] for block in blocks.values()], dtype) for name, dtype in BLOCK_COLUMNS.items()),
    ]


def _joined(arrays: Sequence[Any], dtype: type[np.generic] = np.int64) -> Any:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])


def _stream(schema: pa.Schema, columns: Sequence[Any]) -> bytes:
    values = columns or [()] * len(schema)
    arrays = [pa.array(each, type=field.type) for each, field in zip(values, schema, strict=True)]
    return _batches(schema, [pa.RecordBatch.from_arrays(arrays, schema=schema)])


def _batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _snapshot(message: partial_pb2.WindowSnapshot) -> StageSnapshot:
    selections = _rows(_read(message.selections, _SELECTIONS, "selections"))
    return StageSnapshot(
        position=message.position,
        is_resumed=message.is_resumed,
        selections={(rule_id, revision): SelectionState(*state) for rule_id, revision, *state in selections},
        sequences={
            source.partition: SourceSequence(block=source.block, up_to=source.up_to, is_complete=source.is_complete)
            for source in message.sources
        },
        source_count=message.source_partitions,
        matched_by=message.matched_by,
        sources={
            source.partition: SourceTimes(
                event_ns=source.event_ns if source.HasField("event_ns") else None,
                idle_ns=source.idle_ns if source.HasField("idle_ns") else None,
            )
            for source in message.sources
        },
        table=_table(message),
    )


def _table(message: partial_pb2.WindowSnapshot) -> TableColumns:
    windows = _rows(_read(message.windows, _WINDOWS, "windows"))
    panes = _arrays(_read(message.panes, _PANES, "panes"))
    samples = _read(message.samples, SAMPLE_SCHEMA, "samples")
    folded = _arrays(_read(message.folded_samples, _FOLDED_SAMPLES, "folded_samples"))
    integers = {each.pane: int.from_bytes(each.units, "little", signed=True) for each in message.wide_sums}
    return TableColumns(
        windows=[WindowEntry(*entry) if is_used else None for is_used, *entry in windows],
        groups=_groups(_read(message.groups, _GROUPS, "groups")),
        codes=panes["code"],
        folded=AggregateColumns(
            {name: panes[name] for name in COLUMNS}, SumColumns(panes["sum_high"], panes["sum_low"], integers)
        ),
        blocks=_blocks(
            _arrays(_read(message.blocks, _BLOCKS, "blocks")),
            _arrays(_read(message.block_samples, _SAMPLE_INDEXES, "block_samples"))["event"],
        ),
        samples=SampleColumns(
            tables=[SampleTable(batch) for batch in samples.to_batches()], slots=folded["slot"], ids=folded["event"]
        ),
    )


def _read(stream: bytes, schema: pa.Schema, name: str) -> pa.Table:
    try:
        with pa.ipc.open_stream(stream) as reader:
            _require(reader.schema == schema, f"{name}: expected the columns of schema version 1")
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, ValueError, OSError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise MalformedError(f"{name}: expected an Arrow IPC stream") from error
    _require(not any(_has_nulls(table.column(field.name), field) for field in schema), f"{name}: a value is missing")
    return table


def _has_nulls(column: "pa.ChunkedArray[Any]", field: "pa.Field[Any]") -> bool:
    """Whether a value is missing where there must be one, also within lists and maps."""
    if not field.nullable and column.null_count:
        return True
    if not pa.types.is_nested(field.type):
        return False
    chunks: list[Any] = column.chunks
    return any((chunk.items if pa.types.is_map(field.type) else chunk.values).null_count for chunk in chunks)


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _arrays(table: pa.Table) -> dict[str, Any]:
    return {name: table.column(name).to_numpy() for name in table.schema.names}


def _groups(table: pa.Table) -> list[Group | None]:
    groups: list[Group | None] = []
    chunks: list[Any] = table.column("group").chunks
    for chunk in chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False).tolist(), chunk.offsets.to_numpy().tolist()
        are_used = chunk.is_valid().to_numpy(zero_copy_only=False).tolist()
        groups += [
            tuple(values[start:end]) if is_used else None
            for (start, end), is_used in zip(pairwise(offsets), are_used, strict=True)
        ]
    return groups


def _blocks(rows: Mapping[str, Any], sample_ids: Ints) -> dict[int, BlockColumns]:
    """Return the rows of each source, with as many of the samples as they say, in their order."""
    sources, counts = rows["source"], rows["sample_count"]
    _require(counts.min(initial=0) >= 0 and counts.sum() == len(sample_ids), "block_samples: not as many as rows say")
    of_sample = np.repeat(sources, counts)
    return {
        source: BlockColumns(
            columns={name: rows[name][sources == source] for name in BLOCK_COLUMNS},
            sample_ids=sample_ids[of_sample == source],
        )
        for source in distinct_integers(sources).tolist()
    }


def _require(is_met: Any, problem: str) -> None:
    if not is_met:
        raise MalformedError(problem)
