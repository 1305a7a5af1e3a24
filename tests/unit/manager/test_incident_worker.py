"""Alerts that changed become incidents, whatever fails or which instance goes on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.chassis.failures import StoreUnavailable
from services.chassis.kafka import Record
from services.chassis.telemetry import exposition, telemetry
from services.contract.timestamps import timestamp_of
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.incident import Incident, IncidentHistoryKind, IncidentState
from services.manager.metrics import Metrics
from services.manager.worker.results import ResultWorker
from tests.fakes.incidents import MemoryIncidents
from tests.fakes.on_call import FixedOnCall, a_policy, a_step
from tests.fakes.routing import a_stored_tree, a_tree
from tests.fakes.transitions import NOW
from tests.unit.manager.incident_world import SETTINGS, World
from tocsin.incidents.v1 import incident_service_pb2 as pb
from tocsin.notifications.v1.notification_pb2 import NotificationResult


@pytest.fixture(autouse=True)
def _telemetry() -> Iterator[None]:
    with telemetry("manager", "test", ""):
        yield


@pytest.fixture
def world() -> World:
    return World()


async def test_alerts_become_incidents_with_their_cause(world: World) -> None:
    await world.alerts(Fired, "database", "shop", "search", "mail")
    assert await world.worker().turn() == timedelta(seconds=1)
    assert world.services() == [["database", "search", "shop"], ["mail"]]
    whole = next(each for each in world.incidents() if len(each.alerts) == 3)
    assert whole.alerts[whole.cause].service == "database"
    assert whole.alerts[whole.cause].labels == {"team": "a", "service": "database"}
    assert 'tocsin_manager_incident_changes_total{reason="merged"} 2.0' in exposition()[0].decode()


async def test_a_full_batch_is_followed_at_once_and_each_alert_is_taken_once(world: World) -> None:
    await world.alerts(Fired, "database", "shop", "search")
    worker = world.worker(batch=2)
    assert await worker.turn() == timedelta()
    assert await worker.turn() == timedelta(seconds=1)
    assert world.services() == [["database", "search", "shop"]]
    revision = world.store.tables.incidents.revision
    assert await worker.turn() == timedelta(seconds=1)
    assert world.store.tables.incidents.revision == revision


async def test_an_instance_does_not_queue_up_for_another_one(world: World) -> None:
    await world.alerts(Fired, "database")
    worker = world.worker()
    world.store.tables.incidents.is_locked = True
    assert await worker.turn() == timedelta(milliseconds=100)
    assert world.services() == []
    world.store.tables.incidents.is_locked = False
    assert await worker.turn() == timedelta(seconds=1)
    assert world.services() == [["database"]]


async def test_what_a_lost_commit_has_decided_is_decided_again(world: World) -> None:
    await world.alerts(Fired, "database")
    worker = world.worker()
    await worker.turn()
    await world.alerts(Fired, "shop", "mail")
    world.store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await worker.turn()
    assert world.services() == [["database"]]
    await worker.turn()
    assert world.services() == [["database", "shop"], ["mail"]]
    kinds = Counter(entry.kind.value for entry in world.store.tables.incidents.history.values())
    assert kinds == {"OPENED": 2, "JOINED": 1, "NOTIFIED": 2}
    assert len(world.store.tables.outbox) == 2


async def test_instances_take_turns_and_know_what_the_other_has_written(world: World) -> None:
    one, other = world.worker(), world.worker()
    await world.alerts(Fired, "database")
    await one.turn()
    await other.turn()
    await world.alerts(Fired, "shop")
    await other.turn()
    await world.alerts(Fired, "search")
    await one.turn()
    assert world.services() == [["database", "search", "shop"]]
    await world.alerts(Ended, "database", "search", "shop")
    await one.turn()
    world.clock.advance(SETTINGS.settle)
    await other.turn()
    (incident,) = world.incidents()
    assert (incident.state, incident.resolve_time) == (IncidentState.RESOLVED, NOW + SETTINGS.settle)
    await one.turn()
    kinds = [entry.kind for entry in world.store.tables.incidents.history.values()]
    assert kinds.count(IncidentHistoryKind.RESOLVED) == 1


async def test_a_notification_is_about_another_alert_when_its_own_has_expired(world: World) -> None:
    await world.alerts(Fired, "database", "shop")
    await world.alerts(Fired, "mail")
    worker = world.worker()
    await worker.turn()
    for incident in world.incidents():
        await world.rpc.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(id=incident.id, actor="ann"), None)
        world.store.tables.alerts.pop(incident.cause)
    await worker.turn()
    sent = [(each.kind.value, about.alert.service) for each, about in world.store.tables.outbox]
    # Of mail there is none.
    assert sent[2:] == [("ACKNOWLEDGED", "shop")]


async def test_what_reached_nobody_lets_the_next_step_begin(world: World) -> None:
    steps = (
        a_step(schedules=(), receivers=("duty",)),
        a_step(schedules=(), delay=timedelta(minutes=5), receivers=("boss",)),
    )
    world.on_call = FixedOnCall(a_policy("p", steps=steps))
    world.routing.current = a_stored_tree(a_tree(policy="p"))
    await world.alerts(Fired, "shop")
    worker = world.worker()
    await worker.turn()
    sent = [notification for notification, _ in world.store.tables.outbox]
    assert [notification.receivers for notification in sent] == [("operators",), ("duty",)]
    result = NotificationResult(
        delivery_id="d",
        notification_id=sent[1].id,
        alert_id=sent[1].alert_id,
        incident_id=sent[1].incident.id,
        channel="duty",
        outcome=NotificationResult.FAILED,
        is_exhausted=True,
        create_time=timestamp_of(NOW),
    )
    record = Record("notification-results", 0, 0, b"", result.SerializeToString(), (), 0)
    result.tenant = "acme"
    foreign = replace(record, value=result.SerializeToString())
    await ResultWorker(world.store, Metrics()).handle([foreign])
    assert world.store.tables.incidents.exhausted == {}
    assert list(world.store.tenants["acme"].incidents.exhausted) == [sent[1].id]
    await ResultWorker(world.store, Metrics()).handle([record])
    await worker.turn()
    assert world.store.tables.outbox[-1][0].receivers == ("boss",)
    assert world.store.tables.incidents.exhausted == {}
    kinds = [entry.kind.value for entry in world.store.tables.incidents.history.values()]
    assert kinds == ["OPENED", "ESCALATED", "NOTIFIED", "NOTIFIED", "NOTIFICATION_FAILED", "ESCALATED", "NOTIFIED"]


async def test_a_worker_that_starts_reads_what_is_stored_before_it_has_the_incidents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.alerts(Fired, "shop")
    await world.worker().turn()
    reads: list[int] = []
    read = MemoryIncidents.list_changed

    async def list_changed(table: MemoryIncidents, revision: int, *, resolved_after: datetime) -> Sequence[Incident]:
        reads.append(revision)
        return await read(table, revision, resolved_after=resolved_after)

    monkeypatch.setattr(MemoryIncidents, "list_changed", list_changed)
    await world.alerts(Fired, "database")
    worker = world.worker()
    world.store.tables.incidents.is_locked = True
    assert await worker.turn() == timedelta(milliseconds=100)
    assert reads == [-1]
    world.store.tables.incidents.is_locked = False
    await worker.turn()
    assert reads == [-1, 1]
    assert world.services() == [["database", "shop"]]


async def test_each_alert_of_a_delivered_bundle_has_its_line(world: World) -> None:
    world.routing.current = a_stored_tree(a_tree())
    worker = world.worker()
    await world.alerts(Fired, "shop")
    await worker.turn()
    await world.alerts(Fired, "database")
    await worker.turn()
    world.clock.advance(timedelta(minutes=2))
    await worker.turn()
    first, bundle = [notification for notification, _ in world.store.tables.outbox]
    assert (first.kind, bundle.kind) == ("FIRING", "UPDATED")
    results = [
        NotificationResult(
            delivery_id=each.id,
            notification_id=each.id,
            alert_id=each.alert_id,
            incident_id=each.incident.id,
            channel="mail",
            outcome=NotificationResult.DELIVERED,
            create_time=timestamp_of(world.clock.now()),
        )
        for each in (first, bundle)
    ]
    records = [Record("notification-results", 0, 0, b"", each.SerializeToString(), (), 0) for each in results]
    for _ in range(2):
        await ResultWorker(world.store, Metrics()).handle(records)
    tables = world.store.tables
    told = {
        (tables.alerts[entry.alert_id].service, entry.notification_id)
        for entry in tables.history.values()
        if entry.kind is AlertHistoryKind.NOTIFIED
    }
    about_bundle = tables.alerts[bundle.alert_id].service
    assert told == {("shop", first.id), (about_bundle, bundle.id), ("database", bundle.id)}
    assert sum(entry.kind is AlertHistoryKind.NOTIFIED for entry in tables.history.values()) == len(told)
