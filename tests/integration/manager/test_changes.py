"""Changes of services through the API, and what alerts say of their service and of changes before they fired."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from services.contract.timestamps import timestamp_of
from tests.integration.manager.conftest import START, World, transition, until
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.catalog.v1.catalog_service_pb2 import ApplyServicesRequest
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry
from tocsin.changes.v1 import change_service_pb2 as pb
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.incidents.v1 import incident_service_pb2 as incidents_pb

pytestmark = pytest.mark.integration

ENTRIES = [
    ServiceEntry(
        name="payment-service",
        owner="team-pay",
        tier="1",
        description="Takes payments.",
        links={"runbook": "https://wiki.example/pay"},
        labels={"region": "eu"},
        depends_on=["ledger"],
    ),
    ServiceEntry(name="ledger", depends_on=["bank"]),
]


async def recorded(world: World, service: str, *, request_id: str = "", **fields: Any) -> ServiceChange:
    change = ServiceChange(service=service, kind=ServiceChange.DEPLOYMENT)
    change.MergeFrom(ServiceChange(**fields))
    response: pb.RecordChangeResponse = await world.changes.RecordChange(
        pb.RecordChangeRequest(change=change, request_id=request_id)
    )
    return response.change


async def listed(world: World, **options: Any) -> list[str]:
    """Return the versions of all pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await world.changes.ListChanges(pb.ListChangesRequest(page_token=token, page_size=1, **options))
        found += [change.version for change in page.changes]
        token = page.next_page_token
        if not token:
            return found


async def test_changes_are_recorded_once_and_listed_with_filters(world: World) -> None:
    request_id = str(uuid.uuid4())
    first = await recorded(world, "a", version="1", request_id=request_id)
    assert uuid.UUID(first.id).version == 7
    assert (first.actor, first.time) == ("anonymous", first.create_time)
    assert await recorded(world, "a", version="1", request_id=request_id) == first
    reused = await refusal(recorded(world, "a", version="2", request_id=request_id))
    assert (reused.code, reused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    hour_ago = timestamp_of(datetime.now(UTC) - timedelta(hours=1))
    await recorded(world, "b", version="2", kind=ServiceChange.FEATURE_FLAG, time=hour_ago, actor="ann")
    assert await listed(world) == ["1", "2"]
    assert await listed(world, service="b", kinds=[ServiceChange.FEATURE_FLAG]) == ["2"]
    assert await listed(world, changed_before=first.time) == ["2"]
    checked = await world.changes.RecordChange(
        pb.RecordChangeRequest(change=ServiceChange(service="c", kind=ServiceChange.OTHER), validate_only=True)
    )
    assert (checked.change.service, checked.change.id, checked.change.HasField("create_time")) == ("c", "", False)
    assert await listed(world, service="c") == []


async def test_everything_that_is_wrong_is_named_at_once(world: World) -> None:
    late = ServiceChange(
        service=" ", version="v" * 300, link="ftp://x", time=timestamp_of(START + timedelta(days=9999))
    )
    wrong = await refusal(world.changes.RecordChange(pb.RecordChangeRequest(change=late)))
    assert (wrong.code, wrong.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ("kind", "service", "version", "link", "time"),
    )
    strange = ServiceChange(service="a", kind=9)  # type: ignore[arg-type]
    strange.time.seconds = 1 << 50
    for call, fields in (
        (world.changes.RecordChange(pb.RecordChangeRequest(change=strange)), ("time",)),
        (recorded(world, "a", version="\0"), ("version",)),
        (recorded(world, "a", request_id="x"), ("requestId",)),
        (world.changes.ListChanges(pb.ListChangesRequest(kinds=[9])), ("kinds[0]",)),  # type: ignore[list-item]
        (world.changes.ListChanges(pb.ListChangesRequest(page_size=-1)), ("pageSize",)),
    ):
        assert (await refusal(call)).fields == fields


async def test_an_alert_and_its_notification_say_who_owns_the_service_and_what_changed_before(world: World) -> None:
    await world.catalog.ApplyServices(ApplyServicesRequest(services=ENTRIES))
    for service, version, minutes in (
        ("payment-service", "near", 30),
        ("payment-service", "latest", 5),
        ("bank", "far", 1),
        ("ledger", "early", 61),
        ("web", "dependent", 1),
    ):
        await recorded(world, service, version=version, time=timestamp_of(START - minutes * timedelta(minutes=1)))
    await world.publish(transition())
    await world.processed(1)
    (listed_alert,) = await world.listed()
    assert listed_alert.match_labels["region"] == "eu"
    info = listed_alert.service_info
    assert (info.name, info.owner, info.tier, info.description) == (
        "payment-service",
        "team-pay",
        "1",
        "Takes payments.",
    )
    assert dict(info.links) == {"runbook": "https://wiki.example/pay"}
    expected = [("latest", 0), ("near", 0), ("far", 2)]

    async def got() -> Any:
        return (await world.alerts.GetAlert(alerts_pb.GetAlertRequest(id=listed_alert.id))).alert

    found = await got()
    assert [(each.change.version, each.distance) for each in found.recent_changes] == expected
    assert found.service_info == info
    # What is cached of the alert holds neither.
    await world.catalog.ApplyServices(
        ApplyServicesRequest(services=[ServiceEntry(name="payment-service", owner="new")])
    )

    async def follows() -> bool:
        return bool((await got()).service_info.owner == "new")

    await until(follows)
    assert [each.change.version for each in (await got()).recent_changes] == ["latest", "near"]
    ((notification, _), *_) = await world.notifications(1)
    assert notification.alert.service_info == info
    assert [(each.change.version, each.distance) for each in notification.alert.recent_changes] == expected
    assert notification.incident.changes == notification.alert.recent_changes
    (incident,) = (await world.incidents.ListIncidents(incidents_pb.ListIncidentsRequest())).incidents
    whole = await world.incidents.GetIncident(incidents_pb.GetIncidentRequest(id=incident.id))
    assert whole.recent_changes == (await got()).recent_changes
    acknowledged = await world.alerts.AcknowledgeAlert(alerts_pb.AcknowledgeAlertRequest(id=listed_alert.id))
    assert acknowledged.alert.service_info.owner == "new"
    stream = world.alerts.WatchAlerts(alerts_pb.WatchAlertsRequest())
    async with asyncio.timeout(10):
        assert (await stream.read()).alert.service_info.owner == "new"
    stream.cancel()


async def test_an_alert_of_an_unknown_service_has_no_such_field(world: World) -> None:
    await world.publish(transition(resource="unknown"))
    await world.processed(1)
    (alert,) = await world.listed()
    assert not alert.HasField("service_info")
    assert not alert.recent_changes
