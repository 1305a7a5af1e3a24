"""One tenant's caller walks over all rpcs, and finds nothing of what another tenant has."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict

from services.access.guard import RoleGuard
from services.chassis.callers import Caller, IncomingCall
from services.chassis.kafka import producer
from services.contract.public_services import PUBLIC_SERVICES
from services.domain.fingerprint import open_key
from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, transition, until
from tests.integration.manager.refusals import refusal
from tests.tenant_walk import CREATING, RULE, TODAY, names_one, request_of, shown
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.incidents.v1 import incident_service_pb2 as incidents_pb

pytestmark = pytest.mark.integration

HEADER = "x-tenant"
OTHERS = {"LogIngestService", "NotificationService", "AccessService"}
SERVICES = [
    service
    for name in PUBLIC_SERVICES
    if name.startswith("tocsin.") and (service := descriptor_pool.Default().FindServiceByName(name)).name not in OTHERS
]
METHODS = {method.name: method for service in SERVICES for method in service.methods}


class Tenant:
    """The calls of one tenant."""

    def __init__(self, world: World, calls: grpc.aio.Channel, name: str) -> None:
        self._world = world
        self._calls = calls
        self._metadata = ((HEADER, name),)

    def call(self, method: MethodDescriptor, request: Mapping[str, Any]) -> Any:
        """Call an rpc with a request in JSON's form."""
        sent = ParseDict(dict(request), message_factory.GetMessageClass(method.input_type)())
        path = f"/{method.containing_service.full_name}/{method.name}"
        decode = message_factory.GetMessageClass(method.output_type).FromString
        kind = self._calls.unary_stream if method.server_streaming else self._calls.unary_unary
        return kind(path, type(sent).SerializeToString, decode)(sent, metadata=self._metadata)

    async def ask(self, name: str, **request: Any) -> Any:
        """Call an rpc by its name."""
        return await self.call(METHODS[name], request)


@pytest.fixture
async def tenants(
    settings: Settings, running: Run, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[World, Tenant, Tenant]]:
    def admit(_: RoleGuard, call: IncomingCall) -> Caller:
        tenant = call.metadata.get(HEADER, "default")
        return Caller(name="somebody", role="admin", kind="key", tenant=tenant)

    monkeypatch.setattr(RoleGuard, "admit", admit)
    async with running(settings) as world, grpc.aio.insecure_channel(settings.process.listen) as calls:
        yield world, Tenant(world, calls, "acme"), Tenant(world, calls, "other")


async def fill(world: World, acme: Tenant) -> dict[str, dict[str, str]]:
    """Give a tenant one of everything; return by service the names and ids of what it has."""
    rule = (await acme.ask("CreateAlertRule", alertRule=RULE)).alert_rule
    sent = transition(rule_id=rule.id)
    sent.tenant = "acme"
    await world.publish(sent)
    metadata = ((HEADER, "acme"),)

    async def incident() -> Any:
        found = await world.incidents.ListIncidents(incidents_pb.ListIncidentsRequest(), metadata=metadata)
        return found.incidents

    (opened,) = await until(incident)
    (alert,) = (await world.alerts.ListAlerts(alerts_pb.ListAlertsRequest(), metadata=metadata)).alerts
    end = (TODAY + timedelta(days=1)).isoformat()
    silence = {"matchers": ['service="x"'], "endTime": end, "author": "ann", "comment": "c"}
    silenced = (await acme.ask("CreateSilence", silence=silence)).silence
    await acme.call(METHODS["ReplaceService"], {"name": "web", "service": {"dependsOn": ["db"]}})
    change = {"service": "web", "kind": "DEPLOYMENT", "version": "1"}
    await acme.ask("RecordChange", change=change)
    return {
        "AlertRuleService": {"id": rule.id},
        "RuleStatisticsService": {"id": rule.id},
        "AlertService": {"id": alert.id},
        "IncidentService": {"id": opened.id, "otherId": opened.id, "alertIds": alert.id},
        "SilenceService": {"id": silenced.id},
        "CatalogService": {"name": "web", "service": "web"},
        "LearnedEdgeService": {"service": "web", "dependsOn": "db"},
        "OnCallService": {"name": "primary", "schedule": "primary", "id": rule.id},
        "ExplainAlert": {"id": alert.id},
        "ExplainIncident": {"id": opened.id},
    }


async def test_another_tenant_finds_nothing_by_any_rpc(tenants: tuple[World, Tenant, Tenant]) -> None:
    world, acme, other = tenants
    known = await fill(world, acme)
    refused, empty = {}, {}
    for method in METHODS.values():
        request = request_of(method, known)
        if method.server_streaming or method.name in CREATING:
            continue
        if names_one(method):
            outcome = await refusal(other.call(method, request))
            refused[method.name] = outcome.code
        elif method.name.startswith("List"):
            empty[method.name] = shown(await other.call(method, {}))
    assert {name: code for name, code in refused.items() if code is not grpc.StatusCode.NOT_FOUND} == {}
    assert {name: found for name, found in empty.items() if found} == {}
    assert len(refused) > 30
    assert len(empty) >= 9
    reports = [await other.ask(name) for name in ("GetAlertReport", "GetIncidentReport", "GetNotificationReport")]
    assert all("web" not in str(report) and "payment" not in str(report) for report in reports)
    assert shown(await other.ask("GetServiceGraph")) == {}
    # And nothing has become of what it asked for.
    rule = (await acme.ask("GetAlertRule", id=known["AlertRuleService"]["id"])).alert_rule
    assert (rule.name, rule.threshold, rule.enabled, rule.tenant) == ("mine", 1, True, "acme")
    incident = await acme.ask("GetIncident", id=known["IncidentService"]["id"])
    assert incident.incident.open_alert_count == 1
    assert incident.incident.assignee == ""
    # Of names each tenant has its own.
    assert (await other.ask("CreateAlertRule", alertRule=RULE)).alert_rule.name == "mine"


async def test_a_notification_says_whose_alert_it_is(tenants: tuple[World, Tenant, Tenant]) -> None:
    world, acme, _ = tenants
    await fill(world, acme)
    ((notification, _),) = await world.notifications(1)
    assert notification.tenant == "acme"


async def test_watchers_are_sent_what_is_their_own_tenants(tenants: tuple[World, Tenant, Tenant]) -> None:
    world, acme, other = tenants
    known = await fill(world, acme)
    mine = acme.call(METHODS["WatchAlerts"], {})
    assert (await mine.read()).alert.id == known["AlertService"]["id"]
    incidents = acme.call(METHODS["WatchIncidents"], {})
    assert (await incidents.read()).incident.id == known["IncidentService"]["id"]
    theirs = other.call(METHODS["WatchAlerts"], {})
    await theirs.initial_metadata()
    sent = transition(rule_id="rule-2", resource="orders")
    sent.tenant = "other"
    await world.publish(sent)
    # The first alert that it is sent is its own.
    assert (await theirs.read()).alert.resource == "orders"
    for stream in (mine, incidents, theirs):
        stream.cancel()


async def test_a_tenants_backlog_delays_another_ones_alert_by_a_part_of_a_batch(
    settings: Settings, running: Run
) -> None:
    async with producer(settings.kafka, "test") as stream:
        for tenant, count in (("flood", 100), ("steady", 1)):
            for number in range(count):
                sent = transition(resource=f"{tenant}-{number}")
                sent.tenant = tenant
                await stream.send("alerts", sent.SerializeToString(), partition=0)
        async with running(replace(settings, max_batch=10)) as world:
            await world.processed(101)
            later = await world.value(
                """
                SELECT count(*) FROM alert_transitions WHERE create_time > (
                    SELECT max(create_time) FROM alert_transitions WHERE open_key = $1)
                """,
                open_key(rule_id="rule-1", resource="steady-0"),
            )
    # Without that at most the last batch's others were later.
    assert later > 10
