"""IngestColumns: which events are accepted, what the response says, and which bytes go on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.failures import InvalidRequest, MalformedMessage, Overloaded, RequestTooLarge
from services.contract.event_columns import EVENT_SCHEMA, decode_event_columns
from services.ingest.core.json_text import describe_json
from tests.fakes.ingest import Bench, a_bench
from tests.fakes.log_events import NOW, an_event, any_events
from tests.unit.ingest.test_column_streams import compressed, stream_of
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestColumnsResponse, RefusedEvent

FRAMES = {each.stem: each.read_bytes() for each in (Path(__file__).parents[2] / "data" / "frames").glob("*.arrow")}
GOOD = {"service": "shop", "level": 5, "message": "no connection"}


def row_of(event: LogEvent) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in ("record_id", "service", "level", "message", "host", "trace_id")}
    row |= {name: getattr(event, name) if event.HasField(name) else None for name in ("status_code", "response_time")}
    time = event.event_time
    row["event_time"] = time.seconds * 10**9 + time.nanos if event.HasField("event_time") else None
    return row | {"attributes": list(event.attributes.items())}


def contract_stream(*events: LogEvent) -> bytes:
    return stream_of(pa.RecordBatch.from_pylist([row_of(event) for event in events], schema=EVENT_SCHEMA))


def foreign_stream(**columns: Any) -> bytes:
    return stream_of(pa.record_batch(columns))


@pytest.mark.parametrize(("codec", "compression"), [("lz4", EventColumns.LZ4), ("zstd", EventColumns.ZSTD)])
async def test_the_bytes_that_came_go_on_as_they_are(
    bench: Bench, codec: str, compression: EventColumns.Compression.ValueType
) -> None:
    events = [an_event(), an_event(attributes={"a": "b", "c": "d"})]
    stream = contract_stream(*events)
    packed = compressed(stream, codec)
    response = await bench.ingest_columns(packed, compression)
    assert response == IngestColumnsResponse(accepted_count=2)
    ((record, _),) = bench.producer.records
    assert LogBatch.FromString(record).columns == EventColumns(
        schema_version=1, event_count=2, compression=compression, stream_size=len(stream), stream=packed
    )
    assert list(bench.producer.events) == events
    assert bench.in_flight.reserved == 0


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
async def test_frames_of_pandas_and_polars_are_events(bench: Bench, frame: bytes) -> None:
    response = await bench.ingest_columns(compressed(frame, "zstd"), EventColumns.ZSTD)
    assert response == IngestColumnsResponse(accepted_count=2)
    time = Timestamp(seconds=1_767_225_600)
    assert [*bench.producer.events] == [
        LogEvent(
            service="shop",
            level=LogEvent.ERROR,
            message="no space left",
            event_time=time,
            status_code=500,
            response_time=1.5,
            attributes={"user.tier": "gold"},
        ),
        LogEvent(service="till", level=LogEvent.INFO, message="ready", event_time=time),
    ]


async def test_the_bytes_do_not_go_on_where_an_event_is_refused_or_adjusted(bench: Bench) -> None:
    good, adjusted = an_event(), an_event(host="h" * 300)
    for events in ([good, an_event(service="")], [good, adjusted]):
        await bench.ingest_columns(compressed(contract_stream(*events), "zstd"), EventColumns.ZSTD)
    assert list(bench.producer.events) == [good, good, an_event(host="h" * 256)]


async def test_what_came_without_compression_is_compressed(bench: Bench) -> None:
    await bench.ingest_columns(contract_stream(an_event()))
    ((record, _),) = bench.producer.records
    assert LogBatch.FromString(record).columns.compression == EventColumns.LZ4
    assert list(bench.producer.events) == [an_event()]


async def test_columns_of_any_schema_become_events(bench: Bench) -> None:
    response = await bench.ingest_columns(
        foreign_stream(
            timestamp=pa.array([NOW, NOW], pa.timestamp("us")),
            level=["error", "fatal"],
            service=pa.array(["shop", "shop"]).dictionary_encode(),
            message=["a", "b"],
            statusCode=[503.0, None],
            user=[{"tier": "silver"}, None],
        )
    )
    assert response == IngestColumnsResponse(accepted_count=2)
    at = Timestamp()
    at.FromDatetime(NOW)
    shop = partial(LogEvent, service="shop", event_time=at)
    assert list(bench.producer.events) == [
        shop(level=LogEvent.ERROR, message="a", status_code=503, attributes={"user.tier": "silver"}),
        shop(level=LogEvent.FATAL, message="b"),
    ]


async def test_events_are_accepted_in_part(bench: Bench) -> None:
    stream = foreign_stream(
        record_id=[1, 2, 3],
        service=["shop", "", "shop"],
        level=["error", "error", "loud"],
        message=["a", "b", "c"],
        status_code=[1000, 1000, 200],
        trace_id=["a3ce929d0e0e4736", None, None],
    )
    response = await bench.ingest_columns(stream)
    assert list(response.refused) == [
        RefusedEvent(index=1, record_id="2", field="service", reason="expected 1 to 256 characters, found nothing"),
        RefusedEvent(
            index=2,
            record_id="3",
            field="level",
            reason='expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found "loud"',
        ),
    ]
    assert (response.accepted_count, response.refused_count, response.adjusted.event_count) == (1, 2, 1)
    assert [(each.field, list(each.indexes)) for each in response.adjusted.values] == [
        ("statusCode", [0]),
        ("traceId", [0]),
    ]
    (event,) = bench.producer.events
    assert event.trace_id == "a3ce929d0e0e4736".zfill(32)
    assert dict(event.attributes) == {"status_code": "1000"}


async def test_when_all_are_refused_each_wrong_field_is_named(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="none of the 1 events") as refused:
        await bench.ingest_columns(foreign_stream(service=["shop"], event_time=["noon"], level=[9], message=[""]))
    assert [(each.field, each.description) for each in refused.value.violations] == [
        ("events[0].eventTime", 'expected a time with its zone, from 1970 to ten minutes ahead of now, found "noon"'),
        ("events[0].level", "expected one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found 9"),
        ("events[0].message", "expected 1 to 64 bytes, found nothing"),
    ]
    assert bench.producer.records == []


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"hello", "expected a whole Arrow IPC stream, found other bytes"),
        (foreign_stream(service=[1]), 'column "service": expected a string, found int64'),
        (b"x" * 2**20 + b"x", "expected at most 1048576 bytes before compression, found more"),
    ],
    ids=["no stream", "a wrong type", "too large"],
)
async def test_what_cannot_be_events_is_refused_by_its_field(
    make_bench: Callable[..., Bench], stream: bytes, expected: str
) -> None:
    bench = make_bench(max_request_bytes=2**22, max_inflight_bytes=2**23)
    with pytest.raises(InvalidRequest) as refused:
        await bench.ingest_columns(stream)
    assert [(each.field, each.description) for each in refused.value.violations] == [("stream", expected)]
    assert bench.in_flight.reserved == 0


async def test_bytes_that_are_no_request_are_malformed(bench: Bench) -> None:
    with pytest.raises(MalformedMessage):
        await bench.rpc.ingest_columns(b"\x0a\xff", None)


async def test_no_events_and_too_many_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="no events"):
        await bench.ingest_columns(contract_stream())
    with pytest.raises(RequestTooLarge, match="too many events"):
        await bench.ingest_columns(foreign_stream(nothing=pa.nulls(101)))


async def test_too_many_bytes_are_refused(make_bench: Callable[..., Bench]) -> None:
    with pytest.raises(RequestTooLarge, match="at most 10 bytes"):
        await make_bench(max_request_bytes=10).ingest_columns(contract_stream())


async def test_what_a_stream_becomes_has_a_reservation_too(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_inflight_bytes=20_000)
    packed = compressed(foreign_stream(message=["x" * 60] * 90, other=["y" * 100] * 90), "zstd")
    assert len(packed) < 2_000
    with pytest.raises(Overloaded):
        await bench.ingest_columns(packed, EventColumns.ZSTD)
    packed = compressed(contract_stream(*[an_event(record_id="r" * 120)] * 90), "zstd")
    assert len(packed) < 2_000
    with pytest.raises(Overloaded):
        await bench.ingest_columns(packed, EventColumns.ZSTD)
    assert bench.in_flight.reserved == 0


async def test_a_record_that_would_be_too_large_is_cut(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_record_bytes=2_000)
    events = [an_event(record_id=f"{index:0100}") for index in range(20)]
    await bench.ingest_columns(compressed(contract_stream(*events), "zstd"), EventColumns.ZSTD)
    assert len(bench.producer.records) == 1
    events = [an_event(record_id=str(hash((index, "a"))) * 6) for index in range(40)]
    await bench.ingest_columns(compressed(contract_stream(*events), "lz4"), EventColumns.LZ4)
    assert len(bench.producer.records) > 2
    assert list(bench.producer.events)[20:] == events


async def test_a_key_that_an_event_has_twice_goes_on_once(bench: Bench) -> None:
    row = row_of(an_event()) | {"attributes": [("a", "1"), ("a", "2")]}
    stream = stream_of(pa.RecordBatch.from_pylist([row], schema=EVENT_SCHEMA))
    response = await bench.ingest_columns(compressed(stream, "lz4"), EventColumns.LZ4)
    assert [each.field for each in response.adjusted.values] == ["attributes"]
    assert list(bench.producer.events) == [an_event(attributes={"a": "1"})]


async def test_entries_of_attributes_that_no_event_has_do_not_go_on(bench: Bench) -> None:
    batch = pa.RecordBatch.from_pylist([row_of(an_event(attributes={"k": "v"}))], schema=EVENT_SCHEMA)
    attributes: Any = batch.column(9)
    hidden = pa.Array.from_buffers(
        attributes.type,
        1,
        [None, pa.py_buffer(b"\1\0\0\0\1\0\0\0")],
        children=[
            pa.StructArray.from_arrays(
                [attributes.keys, attributes.items], fields=[attributes.type.key_field, attributes.type.item_field]
            )
        ],
    )
    stream = stream_of(batch.set_column(9, EVENT_SCHEMA.field(9), hidden))
    await bench.ingest_columns(compressed(stream, "lz4"), EventColumns.LZ4)
    assert list(bench.producer.events) == [an_event()]
    written: Any = decode_event_columns(LogBatch.FromString(bench.producer.records[0][0]).columns).column("attributes")
    assert len(written.keys) == 0


@settings(max_examples=40)
@given(st.lists(any_events, min_size=1, max_size=5))
async def test_columns_have_the_outcome_of_the_same_events_in_a_batch(events: list[LogEvent]) -> None:
    outcomes: list[list[Any]] = []
    for by_columns in (True, False):
        bench = a_bench(max_record_bytes=6_000)
        try:
            if by_columns:
                response: Any = await bench.ingest_columns(
                    compressed(contract_stream(*map(representable, events)), "zstd"), EventColumns.ZSTD
                )
            else:
                response = await bench.ingest_batch(events)
        except InvalidRequest as error:
            outcomes.append([*map(describe_json, map(str, error.violations))])
            continue
        outcomes.append([response.SerializeToString(deterministic=True), *bench.producer.events])
    assert outcomes[0] == outcomes[1]


def representable(event: LogEvent) -> LogEvent:
    """Return the event with a time that a column can hold; one that is far away is refused in any case."""
    copy = LogEvent.FromString(event.SerializeToString())
    if event.HasField("event_time") and not (
        0 <= event.event_time.nanos < 10**9 and abs(event.event_time.seconds) < 9 * 10**9
    ):
        copy.event_time.CopyFrom(Timestamp(seconds=-1))
    return copy
