"""What the match stage writes the window stage reads as it was, in either form; what is malformed is refused."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.adapters.messages import MalformedError
from services.evaluator.adapters.window_partials_wire import decode_batch, encode_batch
from services.evaluator.core.partial_rows import PartialBatch, concat, of_rows
from services.evaluator.core.records import Aggregate, BlockProgress, Row, RowKey, Sample
from services.evaluator.core.samples import SAMPLE_SCHEMA
from tests.unit.evaluator.former_partials import encode_former, encode_of_one_block
from tests.unit.evaluator.rows import to_rows
from tests.unit.evaluator.strategies import batches, counts, one_block, partial_rows, texts
from tocsin.evaluation.v1 import partial_pb2

Rows = tuple[Row, ...]


def contents(batch: PartialBatch) -> tuple[object, ...]:
    parts = [(part.progress, part.rows, part.missed) for part in batch.blocks]
    return parts, to_rows(batch.rows), batch.continues, batch.output, batch.outputs


@given(batches)
def test_what_is_written_is_read_as_it_was(batch: PartialBatch) -> None:
    assert contents(decode_batch(encode_batch(batch))) == contents(batch)


@given(batches, st.integers(0, 3), st.data())
def test_rows_that_rules_share_are_read_as_they_were(batch: PartialBatch, output: int, data: st.DataObject) -> None:
    sharers = st.lists(st.tuples(texts, counts), min_size=1, max_size=4).map(tuple)
    selections = [data.draw(sharers) for _ in batch.rows.selections]
    batch = replace(batch, rows=replace(batch.rows, selections=selections), output=output, outputs=4)
    assert contents(decode_batch(encode_batch(batch))) == contents(batch)


def test_only_where_rules_share_rows_the_form_is_one_that_the_version_before_does_not_read() -> None:
    rows = of_rows([a_row("a"), a_row("b")])
    for sharers, version in (((("r", 1),), 2), ((("r", 1), ("s", 1)), 3)):
        batch = PartialBatch.of_block(progress=PROGRESS, rows=replace(rows, selections=(sharers,)))
        assert partial_pb2.PartialBatch.FromString(encode_batch(batch)).columns.schema_version == version


def test_malformed_lists_of_those_who_share_rows_are_refused() -> None:
    shared = replace(of_rows([a_row("a"), a_row("b")]), selections=((("r", 1), ("s", 1)),))
    one, far = np.array([0, 1], dtype="<u4").tobytes(), np.array([0, 2], dtype="<u4").tobytes()
    for sizes, members, problem in (
        ([1], one, "list_sizes: not as many"),
        ([0, 2], one, "list_sizes: not as many"),
        ([2], one + b"\0", "list_sizes: not as many"),
        ([2], far, "list_members: an index"),
        ([], b"", "selections: an index"),
    ):
        message = partial_pb2.PartialBatch.FromString(encode_batch(PartialBatch.of_block(PROGRESS, shared)))
        message.columns.list_sizes[:] = sizes
        message.columns.list_members = members
        with pytest.raises(MalformedError, match=problem):
            decode_batch(message.SerializeToString())


def test_a_partition_that_is_none_of_those_there_are_is_refused() -> None:
    message = columns_of(a_row("a"))
    message.output_partition = 1
    with pytest.raises(MalformedError, match="output_partition: outside"):
        decode_batch(message.SerializeToString())


@given(one_block)
def test_records_in_the_former_forms_are_read(batch: PartialBatch) -> None:
    for encode in (encode_of_one_block, encode_former):
        assert contents(decode_batch(encode(batch))) == contents(batch)


@given(st.lists(partial_rows, max_size=4))
def test_rows_of_several_batches_become_one(parts: list[Rows]) -> None:
    assert to_rows(concat([of_rows(part) for part in parts])) == tuple(row for part in parts for row in part)


@given(partial_rows, st.randoms())
def test_some_rows_are_taken_with_their_samples(rows: Rows, random: Random) -> None:
    chosen = random.choices(range(len(rows)), k=3) if rows else []
    taken = of_rows(rows).take(np.array(chosen, dtype=np.int64))
    for each in (taken, taken.compact()):
        assert to_rows(each) == tuple(rows[index] for index in chosen)


def test_only_what_rows_point_to_is_written() -> None:
    rows = of_rows([a_row("a", sample="x"), a_row("b", sample="y")])
    batch = decode_batch(encode_batch(PartialBatch.of_block(progress=PROGRESS, rows=rows.take(np.array([1])))))
    assert batch.rows.groups == (("b",),)
    assert [sample.message for sample in batch.rows.samples.to_list()] == ["y"]


def test_samples_in_the_former_form_have_no_attributes() -> None:
    # PartialBatch.rows, PartialRow.samples, SampleEvent.message and trace_id.
    value = bytes.fromhex("3a 0a 5a 08 22 01 6d 42 03") + b"abc"
    (row,) = to_rows(decode_batch(value).rows)
    (sample,) = row.aggregate.samples
    assert (sample.message, sample.trace_id, sample.attributes) == ("m", "abc", ())


@pytest.mark.parametrize("count", [1, 200, 2**8, 2**16, 2**32, 2**40, -1])
def test_integers_are_as_wide_as_they_need(count: int) -> None:
    rows = of_rows([a_row("a", counted=count), a_row("b", counted=0)])
    batch = PartialBatch.of_block(progress=PROGRESS, rows=rows)
    assert to_rows(decode_batch(encode_batch(batch)).rows) == to_rows(rows)


PROGRESS = BlockProgress(source_partition=0, source_partitions=1, block=0, up_to=1, previous_up_to=0)


def a_row(group: str, *, counted: int = 1, sample: str = "m") -> Row:
    samples = (Sample(1, "a", None, sample, None, None, "", ""),)
    return Row(RowKey("r", 1, (group,), 0), Aggregate(counted, min=1.0, max=1.0, last_event_ns=1, samples=samples))


def columns_of(*rows: Row) -> partial_pb2.PartialBatch:
    return partial_pb2.PartialBatch.FromString(
        encode_batch(PartialBatch.of_block(progress=PROGRESS, rows=of_rows(rows)))
    )


def refused(change: Callable[[partial_pb2.PartialColumns], None]) -> str:
    message = columns_of(a_row("a"), a_row("b"))
    decode_batch(message.SerializeToString())
    change(message.columns)
    with pytest.raises(MalformedError) as raised:
        decode_batch(message.SerializeToString())
    return str(raised.value)


def stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def samples_with(name: str, values: Any) -> bytes:
    table = pa.Table.from_pylist([], SAMPLE_SCHEMA)
    columns = [
        values if field.name == name else pa.nulls(len(values), field.type).fill_null(_zero(field.type))
        for field in SAMPLE_SCHEMA
    ]
    return stream_of(pa.Table.from_arrays(columns, schema=table.schema))


def _zero(kind: pa.DataType) -> Any:
    return pa.scalar([] if pa.types.is_map(kind) else "" if pa.types.is_string(kind) else 0, kind)


NAN, INFINITE = np.array([np.nan, 1.0]).tobytes(), np.array([np.inf, 1.0]).tobytes()


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("schema_version", 1, "schema version 2 or 3, got 1"),
        ("schema_version", 4, "schema version 2 or 3, got 4"),
        ("rule_ids", ["r", "s"], "selections"),
        ("group_sizes", [1], "group_sizes"),
        ("group_sizes", [3, -1], "group_sizes"),
        ("pane_times", bytes(15), "pane_times"),
        ("selections", b"\1\0", "selections: an index"),
        ("groups", b"\2\0", "groups: an index"),
        ("groups", np.array([-1, 0]).tobytes(), "groups: an index"),
        ("traces", b"\0\5", "traces: an index"),
        ("counts", bytes(3), "counts: 3 bytes for 2 rows"),
        ("totals", bytes(6), "totals: 6 bytes for 2 rows"),
        ("value_counts", bytes(32), "value_counts: 32 bytes for 2 rows"),
        ("sums", bytes(8), "sums: 8 bytes for 2 rows"),
        ("sums", NAN, "sums: not a number"),
        ("minimums", INFINITE, "minimums: not finite"),
        ("maximums", INFINITE, "maximums: not finite"),
        ("maximums", bytes(4), "maximums: 4 bytes for 2 rows"),
        ("last_event_times", bytes(8), "last_event_times: 8 bytes for 2 rows"),
        ("sample_counts", b"\1\2", "sample_indexes"),
        ("sample_counts", np.array([-1, 3]).tobytes(), "sample_indexes"),
        ("sample_indexes", b"\0\0\0\0\1", "sample_indexes"),
        ("sample_indexes", b"\0\0\0\0\7\0\0\0", "sample_indexes: an index"),
        ("samples", b"nonsense", "samples: expected an Arrow"),
        ("samples", stream_of(pa.table({"a": [1]})), "samples: expected the columns"),
    ],
)
def test_malformed_columns_are_refused(field: str, value: object, problem: str) -> None:
    def change(columns: partial_pb2.PartialColumns) -> None:
        columns.ClearField(field)  # type: ignore[arg-type]
        columns.MergeFrom(partial_pb2.PartialColumns(**{field: value}))  # type: ignore[arg-type]

    assert problem in refused(change)


def test_samples_without_a_value_or_that_are_not_utf_8_are_refused() -> None:
    def put(stream: bytes) -> str:
        return refused(lambda columns: setattr(columns, "samples", stream))

    broken = pa.array([b"\xff", b"\xff"]).view(pa.string())
    assert "Arrow" in put(samples_with("message", broken))
    assert "missing" in put(samples_with("host", pa.array([None, "h"])))
    unknown = pa.array([[("a", None)], []], SAMPLE_SCHEMA.field("attributes").type)
    assert "missing" in put(samples_with("attributes", unknown))


def test_columns_without_a_row_may_hold_no_numbers() -> None:
    message = partial_pb2.PartialBatch(columns=partial_pb2.PartialColumns(schema_version=1, counts=b"\1"))
    with pytest.raises(MalformedError, match="counts: 1 bytes for 0 rows"):
        decode_batch(message.SerializeToString())


def test_strings_that_are_not_utf_8_are_refused() -> None:
    row = a_row("zz")
    row = row._replace(aggregate=row.aggregate._replace(samples=()))
    value = columns_of(row).SerializeToString().replace(b"zz", b"\xff\xff")
    with pytest.raises(MalformedError):
        decode_batch(value)


def test_nonsense_is_malformed() -> None:
    with pytest.raises(MalformedError):
        decode_batch(b"\xff")
