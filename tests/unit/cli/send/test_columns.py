"""Events that are sent as columns."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.send.columns import columns_request
from cli.send.sender import MAX_BATCH_EVENTS
from tests.fakes.ingest_server import IngestServer, events_of_stream
from tests.fakes.log_events import allowed_events
from tests.unit.cli.commands import sent
from tocsin.logs.v1.log_event_pb2 import LogEvent

LINES = "".join(f"ERROR: {number}\n" for number in range(1, 5001))


@settings(max_examples=30)
@given(st.lists(allowed_events, max_size=4))
def test_events_are_the_same_as_columns(events: list[LogEvent]) -> None:
    assert events_of_stream(columns_request(events)) == events


def test_a_time_is_kept_to_the_nanosecond() -> None:
    event = LogEvent(event_time=Timestamp(seconds=1_772_366_400, nanos=123_456_789))
    assert events_of_stream(columns_request([event])) == [event]


@pytest.mark.parametrize("seconds", [253_402_300_799, -62_135_596_800])
def test_a_time_that_no_column_holds_is_sent_as_one_that_is_refused(seconds: int) -> None:
    request = columns_request([LogEvent(event_time=Timestamp(seconds=seconds))])
    stream = pa.CompressedInputStream(pa.BufferReader(request.stream), "zstd")
    times = pa.ipc.open_stream(stream).read_all().column("event_time").cast(pa.int64()).to_pylist()
    assert times == [(2**63 - 1) * (1 if seconds > 0 else -1)]


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    file = tmp_path / "shop.log"
    file.write_text(LINES)
    return file


def test_a_file_is_sent_as_columns_of_some_thousand_lines(long_file: Path, ingest: IngestServer) -> None:
    ingest.takes_columns = True
    done = sent(ingest, str(long_file), "-o", "json")
    assert done.exit_code == 0, done.output
    assert ingest.columns_calls == len(ingest.requests) == 3
    assert max(len(request.events) for request in ingest.requests) == MAX_BATCH_EVENTS
    assert ingest.messages == [str(number) for number in range(1, 5001)]
    assert json.loads(done.stdout)["accepted"] == 5000


def test_a_server_without_columns_is_asked_once_and_sent_rows(long_file: Path, ingest: IngestServer) -> None:
    done = sent(ingest, str(long_file), "-o", "json")
    assert done.exit_code == 0, done.output
    assert ingest.columns_calls == 1
    assert [len(request.events) for request in ingest.requests] == [500] * 10
    assert ingest.messages == [str(number) for number in range(1, 5001)]


def test_a_server_that_takes_fewer_events_in_a_call_is_sent_rows(long_file: Path, ingest: IngestServer) -> None:
    ingest.takes_columns, ingest.max_events = True, 1000
    done = sent(ingest, str(long_file), "-o", "json")
    assert done.exit_code == 0, done.output
    assert ingest.columns_calls == 1
    assert ingest.messages == [str(number) for number in range(1, 5001)]
