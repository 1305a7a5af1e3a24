"""How many events a second a tenant may send."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import TenantLimitReached
from services.domain.tenants import TenantLimits
from services.ingest.core.event_rates import EventRates
from tests.fakes.ingest import a_bench
from tests.fakes.log_events import an_event
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest

LIMITS = TenantLimits(general=10, own={"acme": 100, "free": 0})


def test_a_second_of_events_may_come_at_once_and_what_is_beyond_is_waited_for() -> None:
    rates = EventRates(LIMITS)
    assert rates.wait("default", 50.0) == 0
    rates.charge("default", 10, 50.0)
    assert rates.wait("default", 50.0) == 0
    rates.charge("default", 25, 50.0)
    assert rates.wait("default", 50.0) == pytest.approx(2.5)
    assert rates.wait("default", 52.0) == pytest.approx(0.5)
    assert rates.wait("default", 52.5) == 0
    # What was not used is not saved up.
    rates.charge("default", 20, 900.0)
    assert rates.wait("default", 900.0) == pytest.approx(1.0)


def test_each_tenant_has_a_limit_of_its_own_or_none() -> None:
    rates = EventRates(LIMITS)
    for tenant in ("default", "acme", "free"):
        rates.charge(tenant, 200, 0.0)
    assert [rates.wait(tenant, 0.0) for tenant in ("default", "acme", "free", "other")] == [19.0, 1.0, 0.0, 0.0]


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), max_size=60))
def test_over_any_time_no_more_is_taken_than_the_rate_a_second_and_one_call(calls: list[tuple[float, int]]) -> None:
    rates, now, taken = EventRates(LIMITS), 0.0, 0
    for pause, events in calls:
        now += pause
        if not rates.wait("default", now):
            taken += events
            rates.charge("default", events, now)
        assert taken <= 10 * (now + 1) + 30 + 1e-6


async def test_single_events_batches_and_json_count() -> None:
    bench = a_bench(rates=TenantLimits(general=1))
    await bench.ingest(an_event())
    await bench.ingest_batch([an_event()] * 2)
    await bench.ingest_json(b'{"service": "a", "level": "INFO", "message": "m"}')
    await bench.ingest_json_batch(b'[{"service": "a", "level": "INFO", "message": "m"}]')
    assert bench.rates.wait("default", 0.0) == 4


async def test_a_call_is_refused_where_its_tenant_has_sent_far_too_much_by_the_time_it_is_read() -> None:
    bench = a_bench(rates=TenantLimits(general=1))
    is_read, comes = asyncio.Event(), asyncio.Event()

    async def read() -> bytes:
        is_read.set()
        await comes.wait()
        return IngestRequest(event=an_event()).SerializeToString()

    mounted: list[grpc.GenericRpcHandler] = []
    bench.rpc.mount().add(cast("grpc.aio.Server", SimpleNamespace(add_generic_rpc_handlers=mounted.extend)))
    method: Any = SimpleNamespace(method="/tocsin.logs.v1.LogIngestService/Ingest", invocation_metadata=())
    handler: Any = mounted[0].service(method)
    call = asyncio.create_task(handler.stream_unary(None, SimpleNamespace(read=read)))
    await is_read.wait()
    await bench.ingest_batch([an_event()] * 4)
    comes.set()
    with pytest.raises(TenantLimitReached):
        await call
