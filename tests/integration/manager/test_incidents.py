"""Incidents through the API, with real stores: two managers, and a kill in the middle."""

import asyncio
import signal

import asyncpg
import grpc
import pytest

from services.chassis.grpc_client import channel
from services.chassis.kafka import Producer, producer
from services.manager.adapters.postgres import INCIDENTS_CHANGED
from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, again, transition, until
from tests.integration.manager.processes import process, serving
from tests.integration.manager.refusals import refusal
from tocsin.catalog.v1 import catalog_service_pb2
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry
from tocsin.incidents.v1 import incident_service_pb2 as pb
from tocsin.incidents.v1.incident_pb2 import Correlation, Incident, IncidentHistoryEntry
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration

Kind = IncidentHistoryEntry.Kind


async def depend_on_database(world: World, *services: str) -> None:
    entries = [ServiceEntry(name=name, depends_on=["database"]) for name in services]
    await world.catalog.ApplyServices(catalog_service_pb2.ApplyServicesRequest(services=entries))


async def listed(world: World) -> list[Incident]:
    """Return the incidents that were not merged into another one, the newest first."""
    response = await world.incidents.ListIncidents(pb.ListIncidentsRequest(page_size=500))
    return [each for each in response.incidents if not each.merged_into]


async def correlated(world: World, alerts: int) -> None:
    """Wait until so many alerts are in incidents."""

    async def done() -> bool:
        return sum(each.alert_count for each in await listed(world)) == alerts

    await until(done)


async def test_one_incident_names_the_cause_and_ends_with_its_alerts(world: World) -> None:
    await depend_on_database(world, "shop", "search")
    await world.publish(*(transition(resource=name) for name in ("shop", "search", "database", "mail")))
    await correlated(world, 4)
    whole, other = sorted(await listed(world), key=lambda each: -each.alert_count)
    assert [list(each.services) for each in (whole, other)] == [["database", "search", "shop"], ["mail"]]
    found = await world.incidents.GetIncident(pb.GetIncidentRequest(id=whole.id))
    cause = next(alert for alert in found.alerts if alert.alert_id == whole.cause_alert_id)
    assert cause.service == "database"
    assert whole.title == "High error count: database and 2 more alerts"
    assert {alert.correlation.reason for alert in found.alerts} == {Correlation.NONE_RELATED, Correlation.DEPENDENCY}
    taken = await world.incidents.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(id=whole.id, actor="ann"))
    assert taken.incident.state == Incident.ACKNOWLEDGED
    resolved = await world.incidents.ResolveIncident(pb.ResolveIncidentRequest(id=whole.id, actor="ann"))
    assert resolved.incident.open_alert_count == 0
    assert {alert.resolved_by for alert in await world.listed() if alert.resource != "mail"} == {"ann"}
    late = await refusal(world.incidents.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(id=whole.id)))
    assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCIDENT_STATE_CONFLICT")
    unknown = await refusal(world.incidents.GetIncident(pb.GetIncidentRequest(id="unknown")))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "INCIDENT_NOT_FOUND")


async def test_instances_are_woken_when_a_command_changes_an_incident(world: World) -> None:
    await world.publish(transition(resource="shop"))
    await correlated(world, 1)
    (incident,) = await listed(world)
    connection = await asyncpg.connect(world.settings.postgres.database_url.reveal())
    woken = asyncio.Event()
    try:
        await connection.add_listener(INCIDENTS_CHANGED, lambda *_: woken.set())
        await world.incidents.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(id=incident.id, actor="ann"))
        async with asyncio.timeout(10):
            await woken.wait()
    finally:
        await connection.close()


async def test_two_managers_make_one_incident_of_what_belongs_together(settings: Settings, running: Run) -> None:
    services = [f"service-{number}" for number in range(30)]
    async with running(settings) as one, running(again(settings)) as other:
        await depend_on_database(one, *services)
        await one.publish(*(transition(resource=name) for name in services[:15]), transition(resource="database"))
        await other.publish(*(transition(resource=name) for name in services[15:]))
        await correlated(one, 31)
        (incident,) = await listed(other)
        assert incident.alert_count == 31
        found = await other.incidents.GetIncident(pb.GetIncidentRequest(id=incident.id))
        assert len({alert.alert_id for alert in found.alerts}) == 31


async def test_after_kills_each_alert_is_in_one_incident(settings: Settings) -> None:
    """Kill each of two managers in turn while alerts come."""
    services = [f"service-{number}" for number in range(200)]
    second = again(settings)
    async with producer(settings.kafka, "test") as stream:
        async with process(settings) as killed, process(second), channel(second.process.listen) as calls:
            await until(lambda: serving(settings), within=40)
            await until(lambda: serving(second), within=40)
            world = World.on(second, stream, calls)
            await depend_on_database(world, *services)
            await publish_some(world, services[:100])
            await until(lambda: any_correlated(world))
            killed.send_signal(signal.SIGKILL)
            await publish_some(world, services[100:])
            await killed.wait()
        await judged_by_another(settings, stream, services)


async def publish_some(world: World, services: list[str]) -> None:
    await world.publish(transition(resource="database"), *(transition(resource=name) for name in services))


async def any_correlated(world: World) -> bool:
    return bool(await world.value("select count(*) from incident_alerts") > 0)


async def judged_by_another(settings: Settings, stream: Producer, services: list[str]) -> None:
    """Let a third manager finish, and compare with the alerts."""
    third = again(settings, "manager-3")
    async with process(third), channel(third.process.listen) as calls:
        await until(lambda: serving(third), within=40)
        world = World.on(third, stream, calls)

        async def done() -> bool:
            if len(await world.listed()) < len(services) + 1:
                return False
            return bool(await world.value("select count(*) = 0 from alerts where correlated_version < version"))

        await until(done, within=60)
        (incident,) = await listed(world)
        assert incident.alert_count == len(services) + 1
        found = await world.incidents.GetIncident(pb.GetIncidentRequest(id=incident.id))
        joined = [each.alert_id for each in found.history if each.kind in {Kind.JOINED, Kind.OPENED}]
        assert len(joined) == len(set(joined))
        assert len({alert.alert_id for alert in found.alerts}) == len(services) + 1


async def test_a_watch_sends_the_open_incidents_first_and_then_each_change(world: World) -> None:
    await world.publish(transition(resource="shop"))
    await correlated(world, 1)
    (shop,) = await listed(world)
    calls = world.incidents.WatchIncidents(pb.WatchIncidentsRequest(severities=[AlertRule.CRITICAL]))
    async with asyncio.timeout(10):
        assert (await calls.read()).incident.id == shop.id
        await world.incidents.CommentIncident(pb.CommentIncidentRequest(id=shop.id, comment="looking"))
        assert (await calls.read()).incident.id == shop.id
        await world.incidents.ResolveIncident(pb.ResolveIncidentRequest(id=shop.id, actor="ann"))
        ended = (await calls.read()).incident
    assert (ended.state, ended.resolved_by) == (Incident.RESOLVED, "ann")
    calls.cancel()


async def test_a_watch_of_incidents_is_answered_at_once_when_none_is_open(world: World) -> None:
    calls = world.incidents.WatchIncidents(pb.WatchIncidentsRequest(service="nobody"))
    async with asyncio.timeout(10):
        await calls.initial_metadata()
    calls.cancel()
