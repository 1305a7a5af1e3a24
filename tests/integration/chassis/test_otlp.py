"""Spans on their way to a receiver of OTLP."""

import asyncio

from services.chassis import telemetry
from tests.fakes.otlp import SpanReceiver


def record_a_span(otlp: str) -> None:
    with telemetry.telemetry("ingest", "one", otlp):
        telemetry.tracer("test").start_span("receive").end()


async def test_the_last_spans_are_sent_before_the_end() -> None:
    with SpanReceiver() as receiver:
        await asyncio.to_thread(record_a_span, receiver.address)
    assert receiver.resources == [
        {"service.name": "ingest", "service.namespace": "tocsin", "service.instance.id": "one"}
    ]
    assert [(service, span.name) for service, span in receiver.spans] == [("ingest", "receive")]


async def test_an_unreachable_receiver_does_not_delay_the_end() -> None:
    async with asyncio.timeout(5):
        await asyncio.to_thread(record_a_span, "127.0.0.1:1")
