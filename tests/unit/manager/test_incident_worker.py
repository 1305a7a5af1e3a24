"""Alerts that changed become incidents, whatever fails or which instance goes on; and commands on incidents."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.failures import Failure, InvalidRequest, StoreUnavailable
from services.chassis.kafka import Record
from services.chassis.telemetry import exposition, telemetry
from services.contract.timestamps import timestamp_of
from services.manager.adapters.incident_broadcaster import IncidentBroadcaster
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.alert_lifecycle import AlertState, Ended, Fired
from services.manager.core.catalog import Catalog, CatalogChanges, ServiceEntry, StoredService
from services.manager.core.incident import Incident, IncidentHistoryKind, IncidentState
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.transitions import decide
from services.manager.metrics import Metrics
from services.manager.rpc.alerts import AlertContext
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.incident_queries import watch_response
from services.manager.rpc.incidents import IncidentRpc
from services.manager.worker.incidents import IncidentWorker
from services.manager.worker.results import ResultWorker
from tests.fakes.clock import FakeClock
from tests.fakes.incidents import FixedRouting, MemoryIncidentReader, MemoryIncidents
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryChangeReader, MemoryDedupCache
from tests.fakes.on_call import FixedOnCall, a_policy, a_step
from tests.fakes.routing import a_stored_tree, a_tree
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1 import incident_service_pb2 as pb
from tocsin.notifications.v1.notification_pb2 import NotificationResult
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

SETTINGS = IncidentSettings()


@pytest.fixture(autouse=True)
def _telemetry() -> Iterator[None]:
    with telemetry("manager", "test", ""):
        yield


class FakeCatalog:
    """A catalog in which each service depends on the database."""

    def __init__(self, *services: str) -> None:
        stored = [
            StoredService(
                entry=ServiceEntry(name=name, depends_on=("database",)), revision=1, create_time=NOW, update_time=NOW
            )
            for name in services
        ]
        self.current = Catalog.of(CatalogChanges(revision=1, services=tuple(stored)))

    async def refresh(self) -> None:
        """Be as new as it gets."""


CATALOG = FakeCatalog("shop", "search")


class World:
    """A store, a clock, and what works on them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock(NOW)
        self.dedup_cache = MemoryDedupCache()
        self.routing = FixedRouting()
        self.on_call = FixedOnCall()
        commands = IncidentCommands(self.store, CATALOG, self.dedup_cache, self.clock, SETTINGS)
        reader = MemoryIncidentReader(self.store)
        context = AlertContext(CATALOG, MemoryChangeReader(self.store))
        self.rpc = IncidentRpc(commands, reader, IncidentBroadcaster(reader, watch_response), context)

    def worker(self, batch: int = 500) -> IncidentWorker:
        return IncidentWorker(
            self.store, CATALOG, self.routing, self.on_call, self.clock, Metrics(), settings=SETTINGS, batch=batch
        )

    async def alerts(self, kind: type[Fired] | type[Ended], *services: str) -> None:
        """Let an alert of each service fire or end."""
        for service in services:
            subject = replace(a_subject(service), labels={"service": service, "team": "a"})
            async with self.store.transaction() as transaction:
                sent = [a_transition(kind, subject=subject)]
                context = await transaction.alerts.load_for_update(sent, expected_new=())
                await transaction.transitions.insert(sent)
                _, outcomes = decide(context, sent, NOW)
                await transaction.alerts.save([(change, ()) for outcome in outcomes for change in outcome.changes])

    def incidents(self) -> list[Incident]:
        return [incident for incident, _ in self.store.tables.incidents.incidents.values()]

    def services(self) -> list[list[str]]:
        open_ones = [each for each in self.incidents() if not each.merged_into]
        return sorted(sorted(alert.service for alert in each.alerts.values()) for each in open_ones)


@pytest.fixture
def world() -> World:
    return World()


async def refusal(call: Any) -> Failure:
    with pytest.raises(Failure) as raised:
        await call
    return raised.value


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


async def only(world: World) -> str:
    """Return the id of the incident of one alert, which is made first."""
    await world.alerts(Fired, "shop")
    await world.worker().turn()
    return world.incidents()[0].id


async def test_an_incident_is_acknowledged_given_back_and_assigned(world: World) -> None:
    name = await only(world)
    until = NOW + timedelta(hours=1)
    request = pb.AcknowledgeIncidentRequest(id=name, actor=" ann ", until=timestamp_of(until))
    taken = await world.rpc.AcknowledgeIncident(request, None)
    assert (taken.incident.state, taken.incident.acknowledged_by) == (incident_pb2.Incident.ACKNOWLEDGED, "ann")
    assert taken.incident.acknowledged_until == timestamp_of(until)
    assert (await world.rpc.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(id=name, actor="bob"), None)).unchanged
    given = await world.rpc.UnacknowledgeIncident(pb.UnacknowledgeIncidentRequest(id=name), None)
    assert (given.incident.state, given.unchanged) == (incident_pb2.Incident.OPEN, False)
    assert (await world.rpc.UnacknowledgeIncident(pb.UnacknowledgeIncidentRequest(id=name), None)).unchanged
    assigned = await world.rpc.AssignIncident(pb.AssignIncidentRequest(id=name, assignee="bob"), None)
    assert (assigned.incident.assignee, assigned.unchanged) == ("bob", False)
    await world.rpc.CommentIncident(pb.CommentIncidentRequest(id=name, comment="look"), None)
    found = await world.rpc.GetIncident(pb.GetIncidentRequest(id=name), None)
    kinds = [incident_pb2.IncidentHistoryEntry.Kind.Name(entry.kind) for entry in found.history]
    assert kinds == ["OPENED", "NOTIFIED", "ACKNOWLEDGED", "UNACKNOWLEDGED", "ASSIGNED", "COMMENTED"]
    assert [entry.actor for entry in found.history] == ["", "", "ann", *["anonymous"] * 3]
    assert found.history[0].correlation.reason == incident_pb2.Correlation.NONE_RELATED
    assert not found.history[1].HasField("correlation")
    assert (found.history[1].notified_kind, found.history[1].decided_by) == ("FIRING", "routed")


async def test_resolving_an_incident_resolves_its_alerts(world: World) -> None:
    name = await only(world)
    (alert,) = world.store.tables.alerts.values()
    world.dedup_cache.keys = {alert.subject.open_key}
    resolved = await world.rpc.ResolveIncident(pb.ResolveIncidentRequest(id=name, actor="ann", comment="fixed"), None)
    assert (resolved.incident.state, resolved.unchanged) == (incident_pb2.Incident.RESOLVED, False)
    (alert,) = world.store.tables.alerts.values()
    assert (alert.status.state, alert.resolved_by) == (AlertState.RESOLVED, "ann")
    assert world.dedup_cache.keys == set()
    assert (await world.rpc.ResolveIncident(pb.ResolveIncidentRequest(id=name), None)).unchanged
    late = await refusal(world.rpc.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(id=name), None))
    assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCIDENT_STATE_CONFLICT")
    await world.worker().turn()
    assert len(world.incidents()) == 1


async def test_incidents_are_merged_and_split(world: World) -> None:
    await world.alerts(Fired, "shop", "mail")
    await world.worker().turn()
    one, other = world.incidents()
    merged = await world.rpc.MergeIncidents(pb.MergeIncidentsRequest(id=one.id, other_id=other.id), None)
    assert merged.incident.alert_count == 2
    again = await refusal(world.rpc.MergeIncidents(pb.MergeIncidentsRequest(id=one.id, other_id=other.id), None))
    assert again.reason == "INCIDENT_STATE_CONFLICT"
    assert str(again) == f"incident {other.id} is RESOLVED, but both must be open"
    itself = await refusal(world.rpc.MergeIncidents(pb.MergeIncidentsRequest(id=one.id, other_id=one.id), None))
    assert (itself.reason, str(itself)) == ("INCIDENT_STATE_CONFLICT", "an incident cannot be merged into itself")
    parts = await world.rpc.SplitIncident(pb.SplitIncidentRequest(id=one.id, alert_ids=list(other.alerts)), None)
    assert (parts.incident.alert_count, parts.new_incident.alert_count) == (1, 1)
    assert parts.new_incident.id not in {one.id, other.id}
    empty = await refusal(world.rpc.SplitIncident(pb.SplitIncidentRequest(id=one.id, alert_ids=["unknown"]), None))
    assert empty.reason == "INCIDENT_STATE_CONFLICT"


async def test_a_repeated_call_does_nothing_and_a_stale_one_is_refused(world: World) -> None:
    name = await only(world)
    etag = world.incidents()[0].etag
    request = pb.CommentIncidentRequest(id=name, comment="look", request_id=str(uuid.uuid4()), etag=etag)
    first = await world.rpc.CommentIncident(request, None)
    assert await world.rpc.CommentIncident(request, None) == first
    stale = await refusal(world.rpc.AssignIncident(pb.AssignIncidentRequest(id=name, assignee="x", etag=etag), None))
    assert stale.reason == "ETAG_MISMATCH"


@pytest.mark.parametrize(
    ("call", "request_", "field"),
    [
        ("GetIncident", pb.GetIncidentRequest(), "id"),
        ("CommentIncident", pb.CommentIncidentRequest(id="x"), "comment"),
        ("MergeIncidents", pb.MergeIncidentsRequest(id="x"), "otherId"),
        ("SplitIncident", pb.SplitIncidentRequest(id="x"), "alertIds"),
        ("SplitIncident", pb.SplitIncidentRequest(id="x", alert_ids=["a"] * 501), "alertIds"),
        ("AssignIncident", pb.AssignIncidentRequest(id="x", assignee="a" * 257), "assignee"),
        ("ResolveIncident", pb.ResolveIncidentRequest(id="x", comment="a" * 4097), "comment"),
        ("AcknowledgeIncident", pb.AcknowledgeIncidentRequest(id="x", until=timestamp_of(NOW)), "until"),
        ("AcknowledgeIncident", pb.AcknowledgeIncidentRequest(id="x", until=Timestamp(seconds=-(10**12))), "until"),
        ("ListIncidents", pb.ListIncidentsRequest(states=[incident_pb2.Incident.STATE_UNSPECIFIED]), "states[0]"),
        (
            "ListIncidents",
            pb.ListIncidentsRequest(severities=[AlertRule.LOW, AlertRule.SEVERITY_UNSPECIFIED]),
            "severities[1]",
        ),
        ("ListIncidents", pb.ListIncidentsRequest(id_prefix="a" * 37), "idPrefix"),
        ("ListIncidents", pb.ListIncidentsRequest(page_token="?"), "pageToken"),
    ],
)
async def test_what_is_not_allowed_is_named(world: World, call: str, request_: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await getattr(world.rpc, call)(request_, None)
    assert [violation.field for violation in raised.value.violations] == [field]


async def test_an_unknown_incident_is_not_found(world: World) -> None:
    for call in (
        world.rpc.GetIncident(pb.GetIncidentRequest(id="x"), None),
        world.rpc.ResolveIncident(pb.ResolveIncidentRequest(id="x"), None),
    ):
        failure = await refusal(call)
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")


async def test_incidents_are_listed_in_pages(world: World) -> None:
    await world.alerts(Fired, "shop", "mail", "other")
    await world.worker().turn()
    first = await world.rpc.ListIncidents(pb.ListIncidentsRequest(page_size=2), None)
    second = await world.rpc.ListIncidents(pb.ListIncidentsRequest(page_size=2, page_token=first.next_page_token), None)
    listed = [service for each in (*first.incidents, *second.incidents) for service in each.services]
    assert sorted(listed) == ["mail", "other", "shop"]
    assert second.next_page_token == ""
    wanted = pb.ListIncidentsRequest(states=[incident_pb2.Incident.OPEN], severities=[AlertRule.HIGH], service="mail")
    assert len((await world.rpc.ListIncidents(wanted, None)).incidents) == 1
