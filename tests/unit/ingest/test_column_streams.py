"""Streams of columns from strangers: read whole, or refused with a sentence of our own."""

import os
import re
import struct
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract.arrow_streams import MAX_BATCHES, UnreadableColumnsError
from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.core.column_texts import text_size
from services.ingest.core.foreign_columns import UnusableColumnsError, to_events
from services.ingest.rpc.column_streams import open_stream, read_stream, zstd_size
from tocsin.logs.v1.log_event_pb2 import EventColumns

LZ4, ZSTD, NONE = EventColumns.LZ4, EventColumns.ZSTD, EventColumns.NONE
UNSPECIFIED = EventColumns.COMPRESSION_UNSPECIFIED
MAX = 1_000_000
EVENT = {
    "record_id": "r1",
    "event_time": 1_700_000_000_000_000_000,
    "service": "payment-service",
    "level": 5,
    "message": "Database connection failed",
    "host": "pod-1",
    "trace_id": "a1" * 16,
    "attributes": [("region", "eu-west"), ("tenant", "ä")],
}


def stream_of(*batches: pa.RecordBatch, schema: pa.Schema | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema or batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def contract_batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows or [EVENT, EVENT]), schema=EVENT_SCHEMA)


def foreign_batch() -> pa.RecordBatch:
    return pa.record_batch(
        {
            "service": pa.array(["shop", None, "shop"]).dictionary_encode(),
            "message": pa.array(["a message of some length", "b", None], pa.string_view()),
            "level": ["error", "warn", None],
            "n": pa.array([1, 2, 1]).dictionary_encode(),
            "s": pa.array([{"a": 1, "b": ["x", "y"]}, None, {"a": None, "b": None}]),
            "l": pa.array([[[1, 2], None], [], None], pa.list_(pa.list_(pa.int16()))),
            "f": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
            "attributes": pa.array([[("a", "b")], None, [("c", None)]], pa.map_(pa.string(), pa.string())),
            "timestamp": pa.array([1, 2, None], pa.timestamp("ms", "Europe/Berlin")),
            "nothing": pa.nulls(3),
        }
    )


def read(stream: bytes) -> pa.RecordBatch:
    return read_stream(pa.py_buffer(stream)).columns


def refused(stream: bytes, expected: str) -> None:
    with pytest.raises(UnreadableColumnsError, match=expected):
        read(stream)


def compressed(stream: bytes, codec: Any) -> bytes:
    return pa.compress(stream, codec=codec, asbytes=True)


@pytest.mark.parametrize("compression", [UNSPECIFIED, NONE, LZ4, ZSTD])
def test_a_stream_is_opened_as_it_was_compressed(compression: int) -> None:
    stream = stream_of(contract_batch())
    packed = (
        stream if compression in {UNSPECIFIED, NONE} else compressed(stream, "lz4" if compression == LZ4 else "zstd")
    )
    opened = open_stream(packed, compression, MAX)
    assert opened.stream.to_pybytes() == stream
    assert opened.is_packed == (compression in {LZ4, ZSTD})


@pytest.mark.parametrize(
    ("name", "begin", "expected"),
    [
        ("short", b"\x28\xb5\x2f\xfd", None),
        ("another magic", b"\x29\xb5\x2f\xfd" + b"\0" * 20, None),
        ("a single segment of 7", b"\x28\xb5\x2f\xfd\x20\x07" + b"\0" * 20, 7),
        ("a window, no size", b"\x28\xb5\x2f\xfd\x00\x58" + b"\0" * 20, None),
        ("two bytes", b"\x28\xb5\x2f\xfd\x60\x01\x00" + b"\0" * 20, 257),
        ("a window, four bytes", b"\x28\xb5\x2f\xfd\x80\x58\x00\x01" + b"\0" * 20, 256),
        ("a dictionary, eight bytes", b"\x28\xb5\x2f\xfd\xe3\1\1\1\1\x05" + b"\0" * 20, 5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_size_that_a_frame_of_zstandard_names_is_read(name: str, begin: bytes, expected: int | None) -> None:
    assert zstd_size(begin) == expected, name


@pytest.mark.parametrize("size", [1, 255, 256, 300, 65_791, 65_792, 100_000])
def test_the_size_of_a_frame_is_what_it_becomes(size: int) -> None:
    assert zstd_size(compressed(b"x" * size, "zstd")) == size


def test_several_frames_and_a_frame_without_a_size_are_opened_too() -> None:
    stream = stream_of(contract_batch())
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as writer:
        writer.write(stream)
    for packed in (compressed(stream[:100], "zstd") + compressed(stream[100:], "zstd"), sink.getvalue().to_pybytes()):
        opened = open_stream(packed, ZSTD, MAX)
        assert opened.stream.to_pybytes() == stream
        assert not opened.is_packed


OPENING = """
import sys
import pyarrow as pa
from services.ingest.rpc.column_streams import open_stream
try:
    open_stream(sys.stdin.buffer.read(), int(sys.argv[1]), 1_000_000)
except Exception as error:
    print(error)
print(pa.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize(("codec", "compression"), [("lz4", LZ4), ("zstd", ZSTD)])
def test_what_becomes_too_large_is_refused_before_it_does(codec: str, compression: int) -> None:
    # In a process of its own, since the most memory that one has taken never falls.
    done = subprocess.run(
        [sys.executable, "-c", OPENING, str(compression)],
        input=compressed(b"\0" * 20 * MAX, codec),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    error, memory = done.stdout.decode().splitlines()
    assert error == "stream: expected at most 1000000 bytes before compression, found more"
    assert int(memory) < 3 * MAX


def test_a_stream_that_is_too_large_as_it_is_is_refused() -> None:
    with pytest.raises(UnreadableColumnsError, match="at most 10 bytes"):
        open_stream(b"x" * 11, NONE, 10)


@pytest.mark.parametrize("compression", [LZ4, ZSTD])
@pytest.mark.parametrize("cut", [0, 1, 5, 30, -1])
def test_bytes_that_are_not_compressed_or_cut_off_are_refused(compression: int, cut: int) -> None:
    packed = compressed(stream_of(contract_batch()), "lz4" if compression == LZ4 else "zstd")
    for wrong in (packed[:cut], b"x" * 50):
        with pytest.raises(UnreadableColumnsError, match=r"expected (bytes compressed with|a whole Arrow IPC stream)"):
            read_stream(open_stream(wrong, compression, MAX).stream)


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(UnreadableColumnsError, match="compression: expected NONE, LZ4 or ZSTD, found 7"):
        open_stream(b"", 7, MAX)


def test_a_stream_of_any_schema_is_read_with_all_its_batches() -> None:
    batch = foreign_batch()
    columns = read(stream_of(batch, batch))
    assert columns.to_pylist() == [*batch.to_pylist(), *batch.to_pylist()]
    assert read(stream_of(schema=batch.schema)).num_rows == 0


def test_dictionaries_may_change_from_batch_to_batch() -> None:
    batches = [pa.record_batch({"service": pa.array(names).dictionary_encode()}) for names in (["a", "b"], ["c", "a"])]
    assert read(stream_of(*batches)).column("service").to_pylist() == ["a", "b", "c", "a"]


def test_a_stream_without_batches_has_no_events_whatever_its_schema() -> None:
    assert read(stream_of(schema=pa.schema([("a", pa.dictionary(pa.int8(), pa.decimal128(3, 1)))]))).num_rows == 0


def test_batches_that_arrow_cannot_join_are_refused() -> None:
    batches = [
        pa.record_batch({"service": pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([None, name]))})
        for name in ("a", "b")
    ]
    assert read(stream_of(batches[0])).num_rows == 2
    refused(stream_of(*batches), "stream: expected record batches that can be joined; send one alone")


def test_a_stream_as_the_contract_has_it_may_go_on_as_it_is() -> None:
    stream = stream_of(contract_batch())
    assert read_stream(pa.py_buffer(stream)).is_contract


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(stream_of(contract_batch()) + b"x", id="something after the end"),
        pytest.param(stream_of(contract_batch(), contract_batch()), id="several batches"),
        pytest.param(stream_of(foreign_batch()), id="another schema"),
    ],
)
def test_any_other_stream_is_written_anew(stream: bytes) -> None:
    assert not read_stream(pa.py_buffer(stream)).is_contract


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", "stream: expected a whole Arrow IPC stream, found other bytes"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 50, "found a frame of Zstandard; set compression to ZSTD"),
        (b"\x04\x22\x4d\x18" + b"x" * 50, "found a frame of LZ4; set compression to LZ4"),
        (b"ARROW1\0\0" + b"x" * 50, "found an Arrow IPC file; write a stream"),
        (b"PAR1" + b"x" * 50, "found a Parquet file; write an Arrow IPC stream"),
        (stream_of(contract_batch())[:-200], "expected a whole Arrow IPC stream"),
        (stream_of(contract_batch(), compression="zstd"), "stream: expected no compression inside the stream"),
        (stream_of(*[contract_batch()] * (MAX_BATCHES + 1)), "stream: expected at most 256 record batches"),
        (stream_of(contract_batch()).replace("ä".encode(), b"\xff\xff"), "expected a whole Arrow IPC stream"),
    ],
)
def test_what_is_no_stream_is_refused(stream: bytes, expected: str) -> None:
    refused(stream, expected)


def _first_message(stream: bytes) -> bytes:
    return stream[: 8 + int(struct.unpack_from("<i", stream, 4)[0])]


def test_a_message_in_another_ones_place_is_refused() -> None:
    own, other = stream_of(contract_batch()), stream_of(foreign_batch())
    dictionary = other[len(_first_message(other)) :]
    refused(own[len(_first_message(own)) :], "expected a schema first, found a message of the type record batch")
    refused(_first_message(own) + own, "expected record batches, found a message of the type schema")
    refused(_first_message(own) + dictionary, "expected record batches, found a message of the type dictionary")
    # Without the dictionaries that it names.
    named = pa.record_batch({"service": pa.array(["a"]).dictionary_encode()})
    whole = stream_of(named)
    head = _first_message(whole)
    size = len(_first_message(whole[len(head) :])) + 64
    refused(head + whole[len(head) + size :], "stream: expected")


def test_columns_that_cannot_be_events_are_named() -> None:
    with pytest.raises(UnusableColumnsError, match='column "service": expected a string, found int64'):
        read(stream_of(pa.record_batch({"service": [1]})))


def test_names_that_are_not_utf_8_are_refused() -> None:
    stream = stream_of(pa.record_batch({"namename": ["x"], "outer": [{"innerinner": 1}]}))
    for name in (b"namename", b"innerinner"):
        with pytest.raises(UnusableColumnsError, match="expected names of columns in UTF-8"):
            read(stream.replace(name, b"\xff" * len(name)))


def test_what_is_said_of_nulls_in_a_dictionary_is_checked() -> None:
    stream = stream_of(pa.record_batch({"service": pa.array(["a", "b", "c", "d", "e", "f", "g"]).dictionary_encode()}))
    broken = stream.replace(struct.pack("<2q", 7, 0), struct.pack("<2q", 7, 8), 1)
    assert broken != stream
    refused(broken, "a dictionary: expected at most 7 nulls, got 8")


def test_views_and_indices_that_are_null_may_be_anything() -> None:
    views = pa.array(["x" * 20, None], pa.string_view())
    buffers: Any = views.buffers()
    wild = pa.py_buffer(buffers[1].to_pybytes()[:16] + b"\x50\x00\x00\x00" + b"\xff" * 12)
    message: Any = pa.Array.from_buffers(pa.string_view(), 2, [buffers[0], wild, *buffers[2:]])
    indices: Any = pa.Array.from_buffers(pa.int32(), 2, [buffers[0], pa.py_buffer(struct.pack("<2i", 0, 2**30))])
    service = pa.DictionaryArray.from_arrays(indices, pa.array(["shop"]), safe=False)
    columns = read(stream_of(pa.record_batch({"message": message, "service": service})))
    assert text_size(columns.column("message")) == 20
    events = to_events(columns, EVENT_SCHEMA, max_attributes=32, max_bytes=MAX).columns
    assert events.column("message").to_pylist() == ["x" * 20, ""]
    assert events.column("service").to_pylist() == ["shop", ""]


SEEDS = [stream_of(contract_batch()), stream_of(foreign_batch(), foreign_batch())]
OUR_WORDS = r'(stream: |column ".*": )?(\w+: |a dictionary: )?expected .*'
_changes = st.sampled_from(
    [b"", b"\0", b"\1", b"\xff", b"\x80", b"\0" * 8, b"\xff" * 8, struct.pack("<i", 2**30), struct.pack("<q", 2**62)]
)


@settings(max_examples=400)
@given(st.data())
def test_whatever_is_changed_is_refused_in_our_words_or_becomes_whole_events(data: st.DataObject) -> None:
    stream = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 1500) | st.integers(0, len(stream) - 1)) % len(stream)
        change = data.draw(_changes | st.binary(max_size=9))
        stream[at : at + data.draw(st.sampled_from([len(change), 0, 1, 8]))] = change
    try:
        columns = read(bytes(stream))
        events = to_events(columns, EVENT_SCHEMA, max_attributes=32, max_bytes=MAX)
    except (UnreadableColumnsError, UnusableColumnsError) as error:
        assert re.fullmatch(OUR_WORDS, str(error))  # noqa: PT017  (not each change is a mistake)
        return
    events.columns.validate(full=True)
    for field in EVENT_SCHEMA:
        assert field.nullable or events.columns.column(field.name).null_count == 0
