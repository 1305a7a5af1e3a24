"""IngestColumns over gRPC, with a real topic behind; and what the documentation shows."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import Any

import grpc
import pyarrow as pa
import pytest
from confluent_kafka import Message

from tests.fakes.log_events import an_event, events_in
from tests.integration.ingest.conftest import Running
from tests.integration.ingest.test_ingest import details_of
from tests.unit.ingest.test_column_streams import compressed, stream_of
from tests.unit.ingest.test_columns_handler import contract_stream
from tocsin.logs.v1.log_event_pb2 import EventColumns, LogBatch, LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestColumnsRequest, IngestColumnsResponse
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

pytestmark = pytest.mark.integration

Records = Callable[[], list[Message]]
DOCS = Path(__file__).parents[3] / "docs" / "events.md"


async def test_columns_reach_the_topic_byte_for_byte(ingest: Running, records: Records) -> None:
    events = [an_event(record_id=str(index), attributes={"index": str(index)}) for index in range(10_000)]
    packed = compressed(contract_stream(*events), "zstd")
    response = await ingest.stub.IngestColumns(IngestColumnsRequest(stream=packed, compression=EventColumns.ZSTD))
    assert response == IngestColumnsResponse(accepted_count=10_000)
    (record,) = records()
    assert LogBatch.FromString(record.value() or b"").columns.stream == packed
    assert list(events_in(record.value() or b"")) == events
    assert record.key() is None


async def test_columns_of_any_schema_are_accepted_in_part(ingest: Running, records: Records) -> None:
    batch = pa.record_batch({"level": ["error", "loud"], "service": ["shop"] * 2, "message": ["a", "b"], "n": [1, 2]})
    response = await ingest.stub.IngestColumns(IngestColumnsRequest(stream=stream_of(batch)))
    assert (response.accepted_count, response.refused_count, response.refused[0].field) == (1, 1, "level")
    expected = LogEvent(service="shop", level=LogEvent.ERROR, message="a", attributes={"n": "1"})
    assert [event for record in records() for event in events_in(record.value() or b"")] == [expected]


async def test_what_is_no_stream_is_refused_with_its_field(ingest: Running, records: Records) -> None:
    for stream in (b"", b"x" * 1000, stream_of(pa.record_batch({"service": [1]}))):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ingest.stub.IngestColumns(IngestColumnsRequest(stream=stream))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        bad_request: Any = details_of(refused.value)["BadRequest"]
        assert [violation.field for violation in bad_request.field_violations] == ["stream"]
    assert records() == []


async def test_the_example_in_the_documentation_works(ingest: Running, records: Records) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(example.splitlines()) == 5
    names: dict[str, Any] = {
        "pa": pa,
        "IngestColumnsRequest": IngestColumnsRequest,
        "LogIngestServiceStub": LogIngestServiceStub,
        "channel": ingest.channel,
        "times": [datetime(2026, 1, 1, tzinfo=UTC)],
        "levels": ["error"],
        "services": ["shop"],
        "messages": ["no space left"],
        "tiers": ["silver"],
    }
    exec(compile(f"def send():\n{indent(example, '    ')}    return response", DOCS.name, "exec"), names)  # noqa: S102
    assert await names["send"]() == IngestColumnsResponse(accepted_count=1)
    ((event,),) = [events_in(record.value() or b"") for record in records()]
    assert (event.message, event.attributes["user.tier"]) == ("no space left", "silver")
