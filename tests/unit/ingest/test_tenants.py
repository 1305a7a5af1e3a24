"""Ingest: a record has the events of one tenant, and says whose they are."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from services.chassis.callers import Caller, as_caller
from tests.fakes.ingest import Bench
from tests.fakes.log_events import an_event
from tocsin.logs.v1.log_event_pb2 import LogBatch

LONG = timedelta(hours=1)


def call(tenant: str, rpc: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """Begin a call with a key of this tenant."""
    with as_caller(Caller(name="k", role="ingest", tenant=tenant, kind="key")):
        return asyncio.create_task(rpc)


def written(bench: Bench) -> list[tuple[str, int]]:
    """Return the tenant of each record, and how many events it has."""
    batches = [LogBatch.FromString(value) for value, _ in bench.producer.records]
    return [(batch.tenant, batch.columns.event_count) for batch in batches]


async def test_single_events_linger_with_those_of_their_own_tenant(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG, max_linger_events=2)
    calls = [call(tenant, bench.ingest(an_event())) for tenant in ("acme", "default", "acme", "default")]
    await asyncio.gather(*calls)
    assert written(bench) == [("acme", 2), ("", 2)]


async def test_an_event_that_lingers_alone_is_flushed_for_its_tenant(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=timedelta(milliseconds=1), max_linger_events=2)
    await asyncio.gather(call("acme", bench.ingest(an_event())), call("default", bench.ingest(an_event())))
    assert sorted(written(bench)) == [("", 1), ("acme", 1)]


async def test_batches_share_a_record_with_those_of_their_own_tenant(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(linger=LONG)
    bench.producer.holds = True
    first = call("default", bench.ingest_batch([an_event()]))
    await asyncio.sleep(0)
    later = [call(tenant, bench.ingest_batch([an_event()] * 2)) for tenant in ("acme", "default", "acme", "default")]
    await asyncio.sleep(0)
    bench.producer.holds = False
    bench.producer.confirm()
    await asyncio.gather(first, *later)
    assert written(bench) == [("", 1), ("", 4), ("acme", 4)]


async def test_a_batch_of_json_belongs_to_its_caller(bench: Bench) -> None:
    body = b'[{"service": "a", "level": "INFO", "message": "m"}]'
    await call("acme", bench.ingest_json_batch(body))
    await call("default", bench.ingest_json_batch(body))
    assert written(bench) == [("acme", 1), ("", 1)]
