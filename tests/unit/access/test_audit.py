"""The audit log of a service: what is written when, and what becomes of it while nobody takes it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import count

import grpc
import pytest

from services.access.audit import AuditLog, TopicAuditSink, address_of, audit_record_of, auditing
from services.access.guard import CallRecord
from services.chassis import telemetry
from services.chassis.callers import Caller, CallOutcome, KnownCall
from services.chassis.failures import StoreUnavailable
from services.chassis.health import Health
from services.contract.audit_records import decode_audit_record
from services.domain.audit_record import AuditOutcome, AuditRecord
from tests.fakes.access import an_audit_record
from tests.fakes.clock import FakeClock
from tests.fakes.kafka_producer import SlowProducer

GATEWAY = "spiffe://tocsin/service/gateway"
START = FakeClock().now()
CALLER = Caller(name="ci", role="editor", tenant="shop", kind="key", id="aaaaaaaaaaaa")
COMMAND = KnownCall(
    method="/tocsin.rules.v1.AlertRuleService/CreateAlertRule",
    metadata={"x-request-id": "request", "authorization": "Bearer tocsin_secret"},
    peer_address="ipv4:192.0.2.1:5",
)
DONE = CallOutcome(code=grpc.StatusCode.OK, resource="rule")
DENIED = CallOutcome(code=grpc.StatusCode.PERMISSION_DENIED, reason="PERMISSION_DENIED")


def a_call(outcome: CallOutcome = DONE, caller: Caller | None = CALLER) -> CallRecord:
    return CallRecord(at=START, call=COMMAND, caller=caller, outcome=outcome)


class Sink:
    """Keeps what it takes, while it is there."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.is_away = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        self.records += records

    @property
    def ids(self) -> list[str]:
        return [record.id for record in self.records]


class World:
    def __init__(self) -> None:
        self.sink, self.clock = Sink(), FakeClock()
        ids = count(1)
        self.log = AuditLog(self.sink, "manager", self.clock, lambda: str(next(ids)))


@pytest.fixture
def world() -> World:
    return World()


async def test_a_command_is_written_before_it_is_answered(world: World) -> None:
    await world.log.record(a_call())

    (record,) = world.sink.records
    assert record == an_audit_record(
        id="1", create_time=START, tenant="shop", resource="rule", request_id="request", peer_address="192.0.2.1"
    )
    assert "tocsin_secret" not in repr(record)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (grpc.StatusCode.OK, AuditOutcome.DONE),
        (grpc.StatusCode.UNAUTHENTICATED, AuditOutcome.REFUSED),
        (grpc.StatusCode.PERMISSION_DENIED, AuditOutcome.REFUSED),
        (grpc.StatusCode.NOT_FOUND, AuditOutcome.FAILED),
    ],
)
def test_how_a_call_ended_stands_in_its_entry(code: grpc.StatusCode, outcome: AuditOutcome) -> None:
    ended = CallOutcome(code=code, reason="WHY", resource="r" * 300)
    record = audit_record_of(a_call(ended), service="manager", record_id="1", trace_id="t")
    assert (record.outcome, record.code, record.reason, record.trace_id) == (outcome, code.name, "WHY", "t")
    assert record.resource == "r" * 256


def test_of_a_caller_whom_nobody_knows_nothing_is_said() -> None:
    record = audit_record_of(a_call(DENIED, None), service="ingest", record_id="1", trace_id="")
    assert (record.tenant, record.actor, record.actor_kind, record.actor_id, record.role) == ("default", "", "", "", "")


@pytest.mark.parametrize(
    ("peer", "forwarded", "identity", "address"),
    [
        ("ipv4:192.0.2.1:5", "", "", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5", "", "", "2001:db8::1"),
        ("unix:", "", "", "unix"),
        ("ipv4:192.0.2.1:5", "10.0.0.1, 198.51.100.7", GATEWAY, "198.51.100.7"),
        ("ipv4:192.0.2.1:5", "198.51.100.7", "", "192.0.2.1"),
        ("ipv4:192.0.2.1:5", "198.51.100.7", "spiffe://tocsin/service/ingest", "192.0.2.1"),
    ],
)
def test_only_the_gateway_may_say_from_where_a_call_came(
    peer: str, forwarded: str, identity: str, address: str
) -> None:
    call = KnownCall(method="/a/B", metadata={"x-forwarded-for": forwarded}, peer_identity=identity, peer_address=peer)
    assert address_of(call) == address


async def test_the_entry_has_the_trace_of_the_call(world: World) -> None:
    with telemetry.tracer("test").start_as_current_span("call") as span:
        await world.log.record(a_call())
    trace_id = span.get_span_context().trace_id
    assert world.sink.records[0].trace_id == (f"{trace_id:032x}" if trace_id else "")


async def test_a_refusal_waits_for_the_next_turn_and_equal_ones_are_folded(world: World) -> None:
    for _ in range(3):
        await world.log.record(a_call(DENIED))
    assert world.sink.records == []
    await world.log.turn()
    assert world.sink.ids == ["1"]
    world.clock.advance(timedelta(minutes=1))
    await world.log.turn()
    assert [(each.id, each.count) for each in world.sink.records] == [("1", 1), ("2", 2)]


async def test_what_cannot_be_written_waits_in_its_order(world: World) -> None:
    world.sink.is_away = True
    await world.log.record(a_call())
    await world.log.record(a_call())
    with pytest.raises(StoreUnavailable):
        await world.log.turn()
    world.sink.is_away = False
    await world.log.turn()
    await world.log.turn()
    assert world.sink.ids == ["1", "2"]


class Hanging(Sink):
    """Answers nothing while it is away."""

    async def write(self, records: Sequence[AuditRecord]) -> None:
        if self.is_away:
            await asyncio.Event().wait()
        await super().write(records)


async def test_a_command_whose_caller_leaves_while_it_is_written_is_written_all_the_same() -> None:
    sink = Hanging()
    sink.is_away = True
    log = AuditLog(sink, "manager", FakeClock(), lambda: "1")
    recording = asyncio.create_task(log.record(a_call()))
    await asyncio.sleep(0)
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    sink.is_away = False
    await log.turn()
    assert sink.ids == ["1"]


async def test_a_command_does_not_wait_long_for_a_sink_that_hangs() -> None:
    sink = Hanging()
    sink.is_away = True
    log = AuditLog(sink, "manager", FakeClock(), lambda: "1", max_wait=timedelta(milliseconds=1))
    await log.record(a_call())
    sink.is_away = False
    await log.turn()
    assert sink.ids == ["1"]


async def test_a_command_for_which_the_store_was_away_does_not_wait_for_it_again(world: World) -> None:
    await world.log.record(a_call(CallOutcome(code=grpc.StatusCode.UNAVAILABLE, reason="STORE_UNAVAILABLE")))
    assert world.sink.records == []
    await world.log.turn()
    assert world.sink.ids == ["1"]


async def test_at_the_end_all_is_written(world: World) -> None:
    async with auditing(world.log, Health("manager")):
        world.sink.is_away = True
        await world.log.record(a_call())
        await world.log.record(a_call(DENIED))
        await world.log.record(a_call(DENIED))
        world.sink.is_away = False
    assert sorted(world.sink.ids) == ["1", "2", "3"]


async def test_more_than_ten_thousand_do_not_wait(world: World) -> None:
    world.sink.is_away = True
    for _ in range(10_001):
        await world.log.record(a_call())
    world.sink.is_away = False
    await world.log.close()
    assert world.sink.ids == [str(n) for n in range(1, 10_001)]


async def test_an_end_without_a_sink_is_an_end(world: World) -> None:
    world.sink.is_away = True
    await world.log.record(a_call())
    await world.log.close()
    assert world.sink.records == []


async def test_a_topic_takes_entries_too() -> None:
    producer = SlowProducer()
    await TopicAuditSink(producer).write([an_audit_record()])  # type: ignore[arg-type]  # as much as is needed of it
    assert [decode_audit_record(value or b"") for value in producer.records] == [an_audit_record()]
