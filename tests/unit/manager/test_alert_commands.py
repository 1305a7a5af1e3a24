"""Acknowledging and resolving: once for each request_id."""

from datetime import timedelta

import pytest

from services.chassis import telemetry
from services.chassis.failures import InvalidRequest
from services.chassis.request_ids import RequestIdReused
from services.manager.core.alert import Alert, AlertHistoryKind
from services.manager.core.alert_lifecycle import AlertAction, AlertState
from services.manager.core.transitions import TransitionContext, decide
from services.manager.metrics import Metrics
from services.manager.rpc.alerts import AlertCommands
from services.manager.rpc.failures import AlertNotFound
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryDedupCache
from tests.fakes.transitions import NOW, a_transition
from tocsin.alerts.v1 import alert_service_pb2 as pb

REQUEST_ID = "6f0c8a52-9e0b-4d3c-9a53-0d5e8f1b7c41"


@pytest.fixture
def store() -> MemoryStore:
    context, _ = decide(TransitionContext(), [a_transition()], NOW)
    store = MemoryStore()
    store.tables.alerts = {alert.id: alert for alert in context.open_alerts.values()}
    return store


@pytest.fixture
def alert(store: MemoryStore) -> Alert:
    (alert,) = store.tables.alerts.values()
    return alert


@pytest.fixture
def dedup_cache(alert: Alert) -> MemoryDedupCache:
    cache = MemoryDedupCache()
    cache.keys = {alert.subject.open_key}
    return cache


@pytest.fixture
def commands(store: MemoryStore, dedup_cache: MemoryDedupCache) -> AlertCommands:
    return AlertCommands(store, dedup_cache, FakeClock(NOW), Metrics())


async def acknowledge(commands: AlertCommands, request: pb.AcknowledgeAlertRequest) -> pb.AcknowledgeAlertResponse:
    return await commands.run(request, AlertAction.ACKNOWLEDGE, pb.AcknowledgeAlertResponse)


async def resolve(commands: AlertCommands, request: pb.ResolveAlertRequest) -> pb.ResolveAlertResponse:
    return await commands.run(request, AlertAction.RESOLVE, pb.ResolveAlertResponse)


async def test_a_repeated_action_gets_the_first_response_and_changes_nothing(
    store: MemoryStore, commands: AlertCommands, alert: Alert, dedup_cache: MemoryDedupCache
) -> None:
    request = pb.AcknowledgeAlertRequest(id=alert.id, actor="ana", etag=alert.etag, request_id=REQUEST_ID)
    first = await acknowledge(commands, request)
    assert dedup_cache.keys
    await resolve(commands, pb.ResolveAlertRequest(id=alert.id))
    assert await acknowledge(commands, request) == first
    assert first.alert.acknowledged_by == "ana"
    assert store.tables.alerts[alert.id].status.state is AlertState.RESOLVED
    assert not dedup_cache.keys
    assert [entry.kind for entry in store.tables.history.values()] == [
        AlertHistoryKind.ACKNOWLEDGED,
        AlertHistoryKind.RESOLVED,
    ]


async def test_a_request_id_is_not_taken_for_another_request(commands: AlertCommands, alert: Alert) -> None:
    await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, actor="ana", request_id=REQUEST_ID))
    with pytest.raises(RequestIdReused):
        await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, actor="bob", request_id=REQUEST_ID))
    with pytest.raises(RequestIdReused):
        await resolve(commands, pb.ResolveAlertRequest(id=alert.id, actor="ana", request_id=REQUEST_ID))
    with pytest.raises(InvalidRequest, match="requestId"):
        await resolve(commands, pb.ResolveAlertRequest(id=alert.id, request_id="no UUID"))


async def test_a_request_that_was_refused_may_be_repeated(
    store: MemoryStore, commands: AlertCommands, alert: Alert
) -> None:
    request = pb.ResolveAlertRequest(id=alert.id, request_id=REQUEST_ID)
    store.tables.alerts.clear()
    with pytest.raises(AlertNotFound):
        await resolve(commands, request)
    store.tables.alerts[alert.id] = alert
    assert (await resolve(commands, request)).alert.id == alert.id


async def test_the_time_to_acknowledge_is_recorded_once_by_severity(
    store: MemoryStore, dedup_cache: MemoryDedupCache, alert: Alert
) -> None:
    with telemetry.telemetry("test", "i", ""):
        commands = AlertCommands(store, dedup_cache, FakeClock(alert.fire_time + timedelta(minutes=5)), Metrics())
        for request_id in (REQUEST_ID, REQUEST_ID, ""):
            await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, request_id=request_id))
        await resolve(commands, pb.ResolveAlertRequest(id=alert.id))
        lines = telemetry.exposition()[0].decode().splitlines()
    severity = alert.subject.severity.name
    assert f'tocsin_manager_time_to_acknowledge_seconds_count{{severity="{severity}"}} 1.0' in lines
    assert f'tocsin_manager_time_to_acknowledge_seconds_sum{{severity="{severity}"}} 300.0' in lines
    assert f'tocsin_manager_time_to_acknowledge_seconds_bucket{{le="120",severity="{severity}"}} 0.0' in lines


async def test_who_does_not_say_a_name_is_anonymous(store: MemoryStore, commands: AlertCommands, alert: Alert) -> None:
    acknowledged = await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, actor="  "))
    resolved = await resolve(commands, pb.ResolveAlertRequest(id=alert.id))
    assert (acknowledged.alert.acknowledged_by, resolved.alert.resolved_by) == ("anonymous", "anonymous")
    assert [entry.actor for entry in store.tables.history.values()] == ["anonymous", "anonymous"]


async def test_who_comes_too_late_learns_who_was_first_and_adds_a_comment(
    store: MemoryStore, commands: AlertCommands, alert: Alert
) -> None:
    first = await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, actor="ana", comment="mine"))
    late = pb.AcknowledgeAlertRequest(id=alert.id, actor="bob", comment="see ticket 7", etag=alert.etag)
    for _ in range(2):
        response = await acknowledge(commands, late)
        assert response.alert == first.alert
        assert (first.unchanged, response.unchanged) == (False, True)
    await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, actor="cyn"))
    # The first call, repeated by a client that had no answer.
    await acknowledge(commands, pb.AcknowledgeAlertRequest(id=alert.id, actor="ana", comment="mine"))
    await resolve(commands, pb.ResolveAlertRequest(id=alert.id, actor="ana"))
    assert (await resolve(commands, pb.ResolveAlertRequest(id=alert.id, actor="bob", comment="why"))).unchanged
    assert [(entry.kind.value, entry.actor, entry.comment) for entry in store.tables.history.values()] == [
        ("ACKNOWLEDGED", "ana", "mine"),
        ("ACKNOWLEDGED", "bob", "see ticket 7"),
        ("RESOLVED", "ana", ""),
        ("RESOLVED", "bob", "why"),
    ]
