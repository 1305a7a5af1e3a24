"""What the manager takes of Envoy's reports of refused calls, and how much of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from services.access.methods import rpc_finder
from services.domain.audit_record import AuditRecord
from services.manager.rpc.gateway_refusals import MAX_READ_A_SECOND, GatewayRefusalRpc
from tests.fakes.clock import FakeClock

RPC = "/tocsin.alerts.v1.AlertService/ListAlerts"


class World:
    def __init__(self) -> None:
        self.clock, self.kept = FakeClock(), list[AuditRecord]()
        ids = count(1)
        self.rpc = GatewayRefusalRpc(self._keep, self.clock, lambda: str(next(ids)), rpc_finder())

    def _keep(self, records: Sequence[AuditRecord]) -> None:
        self.kept += records

    async def report(self, *times: datetime) -> None:
        """Report one refusal for each of these times."""
        request = ExportLogsServiceRequest()
        entries = request.resource_logs.add().scope_logs.add().log_records
        entries.extend(entry_at(time) for time in times)
        await self.rpc.Export(request, None)


def entry_at(time: datetime) -> LogRecord:
    entry = LogRecord(time_unix_nano=int(time.timestamp() * 1_000_000) * 1_000)
    for name, value in (
        ("path", RPC),
        ("address", "192.0.2.1"),
        ("details", "rbac_access_denied_matched_policy[none]"),
    ):
        entry.attributes.add(key=name).value.string_value = value
    return entry


@pytest.fixture
def world() -> World:
    return World()


async def test_each_refusal_is_an_entry(world: World) -> None:
    now = world.clock.now()
    await world.report(now - timedelta(seconds=2), now)

    assert [(each.id, each.method, each.create_time) for each in world.kept] == [
        ("1", RPC.lstrip("/"), now - timedelta(seconds=2)),
        ("2", RPC.lstrip("/"), now),
    ]


@pytest.mark.parametrize("skew", [timedelta(minutes=2), -timedelta(seconds=1), timedelta(days=9_000)])
async def test_a_clock_that_is_wrong_does_not_date_entries(world: World, skew: timedelta) -> None:
    await world.report(world.clock.now() - skew)

    assert world.kept[0].create_time == world.clock.now()


async def test_beyond_so_many_a_second_they_are_counted_without_being_read(world: World) -> None:
    now = world.clock.now()
    await world.report(*[now] * (MAX_READ_A_SECOND - 1))
    await world.report(*[now] * 5)

    assert len(world.kept) == MAX_READ_A_SECOND + 1
    assert (world.kept[-2].count, world.kept[-2].method) == (1, RPC.lstrip("/"))
    rest = world.kept[-1]
    assert (rest.count, rest.method, rest.peer_address, rest.code) == (4, "", "", "")
    assert rest.service == "gateway"

    await world.report(now)
    assert (world.kept[-1].count, world.kept[-1].method) == (1, "")

    world.clock.advance(timedelta(seconds=1))
    await world.report(now)
    assert world.kept[-1].method == RPC.lstrip("/")
