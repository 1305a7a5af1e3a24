"""Commands on incidents, and how they are listed."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.failures import Failure, InvalidRequest
from services.chassis.telemetry import telemetry
from services.contract.timestamps import timestamp_of
from services.manager.core.alert_lifecycle import AlertState, Fired
from services.manager.rpc import incident_commands
from tests.fakes.transitions import NOW
from tests.unit.manager.incident_world import World
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1 import incident_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@pytest.fixture(autouse=True)
def _telemetry() -> Iterator[None]:
    with telemetry("manager", "test", ""):
        yield


@pytest.fixture
def world() -> World:
    return World()


async def refusal(call: Any) -> Failure:
    with pytest.raises(Failure) as raised:
        await call
    return raised.value


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


async def test_an_incident_has_a_limit_of_comments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await only(world)
    monkeypatch.setattr(incident_commands, "MAX_COMMENTS", 2)
    for comment in ("one", "two"):
        await world.rpc.CommentIncident(pb.CommentIncidentRequest(id=name, comment=comment), None)
    full = await refusal(world.rpc.CommentIncident(pb.CommentIncidentRequest(id=name, comment="three"), None))
    assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_COMMENTS")
    assert str(full) == "the incident has 2 comments already, which is the maximum"
    # Others are not concerned.
    await world.rpc.AssignIncident(pb.AssignIncidentRequest(id=name, assignee="bob", comment="mine"), None)
