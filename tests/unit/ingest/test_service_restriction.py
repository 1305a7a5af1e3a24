"""A key that may send the events of some services only: what is refused, at each rpc."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from services.chassis.callers import Caller, as_caller
from services.chassis.failures import InvalidRequest
from services.contract.event_columns import EVENT_SCHEMA
from tests.fakes.ingest import Bench
from tests.fakes.log_events import an_event, columns_of
from tocsin.logs.v1.log_event_pb2 import LogEvent

PAY = Caller(name="ci", role="ingest", kind="key", services=frozenset({"pay", "shop"}))
OWN, OTHER = an_event(service="pay"), an_event(service="bank")
REASON = 'expected a service of the caller\'s key: pay, shop, found "bank"'


def as_json(event: LogEvent) -> dict[str, str]:
    return {"service": event.service, "level": LogEvent.Level.Name(event.level), "message": event.message}


def stream_of(*events: LogEvent) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
        writer.write_batch(columns_of(*events))
    return bytes(sink.getvalue())


SINGLE: list[Callable[[Bench, LogEvent], Any]] = [
    lambda bench, event: bench.ingest(event),
    lambda bench, event: bench.ingest_json(json.dumps(as_json(event)).encode()),
]
MANY: list[Callable[[Bench, list[LogEvent]], Any]] = [
    lambda bench, events: bench.ingest_batch(events),
    lambda bench, events: bench.ingest_columns(stream_of(*events)),
    lambda bench, events: bench.ingest_json_batch(json.dumps(list(map(as_json, events))).encode()),
]


@pytest.mark.parametrize("send", SINGLE)
async def test_a_single_event_of_another_service_is_refused(bench: Bench, send: Any) -> None:
    with as_caller(PAY):
        assert (await send(bench, OWN)).accepted_count == 1
        with pytest.raises(InvalidRequest) as refused:
            await send(bench, OTHER)
    assert [(each.field, each.description) for each in refused.value.violations] == [("service", REASON)]
    assert [event.service for event in bench.producer.events] == ["pay"]


@pytest.mark.parametrize("send", MANY)
async def test_of_many_events_those_of_other_services_are_refused(bench: Bench, send: Any) -> None:
    with as_caller(PAY):
        response = await send(bench, [OWN, OTHER, an_event(service="shop")])
        with pytest.raises(InvalidRequest) as refused:
            await send(bench, [OTHER])
    assert (response.accepted_count, response.refused_count) == (2, 1)
    assert [(each.index, each.field, each.reason) for each in response.refused] == [(1, "service", REASON)]
    assert [each.field for each in refused.value.violations] == ["events[0].service"]
    assert [event.service for event in bench.producer.events] == ["pay", "shop"]


@pytest.mark.parametrize("send", [*SINGLE, *MANY])
async def test_without_a_restriction_every_service_is_allowed(bench: Bench, send: Any) -> None:
    with as_caller(Caller(name="ci", role="ingest", kind="key")):
        assert (await send(bench, OTHER if send in SINGLE else [OTHER])).accepted_count == 1


async def test_events_that_go_together_are_each_checked_by_their_own_callers_key(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(max_linger_events=4)

    async def send(event: LogEvent, *services: str) -> str:
        with as_caller(Caller(name="ci", role="ingest", kind="key", services=frozenset(services))):
            try:
                await bench.ingest(event)
            except InvalidRequest as refused:
                return refused.violations[0].description
            return "accepted"

    calls = (send(OTHER), send(OWN, "bank"), send(OWN, "pay"), send(OTHER, "pay", "shop"))
    outcomes = list(await asyncio.gather(*calls))
    assert outcomes == [
        "accepted",
        'expected a service of the caller\'s key: bank, found "pay"',
        "accepted",
        REASON,
    ]
    assert len(bench.producer.records) == 1


async def test_a_service_that_is_wrong_anyway_is_named_once(bench: Bench) -> None:
    with as_caller(PAY):
        response = await bench.ingest_batch([OWN, an_event(service="")])
        with pytest.raises(InvalidRequest) as refused:
            await bench.ingest_batch([an_event(service="", message="")])
    assert response.refused[0].reason == "expected 1 to 256 characters, found nothing"
    assert [each.field for each in refused.value.violations] == ["events[0].service", "events[0].message"]


async def test_long_names_and_many_services_are_cut(bench: Bench) -> None:
    services = frozenset(f"s{n}" for n in range(8))
    with (
        as_caller(Caller(name="ci", role="ingest", kind="key", services=services)),
        pytest.raises(InvalidRequest) as refused,
    ):
        await bench.ingest(an_event(service="x" * 65))
    assert refused.value.violations[0].description == (
        f'expected a service of the caller\'s key: s0, s1, s2, s3, s4 and 3 more, found "{"x" * 64}…"'
    )
