"""The catalog of services through the API."""

import uuid
from typing import Any

import grpc
import pytest

from tests.integration.manager.conftest import Run, World, again
from tests.integration.manager.refusals import refusal
from tocsin.catalog.v1 import catalog_service_pb2 as pb
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge, ServiceEntry

pytestmark = pytest.mark.integration

Change = pb.AppliedService.Change


def entry(name: str, *depends_on: str, **fields: Any) -> ServiceEntry:
    return ServiceEntry(name=name, depends_on=depends_on, **fields)


async def applied(world: World, *entries: ServiceEntry, **options: Any) -> pb.ApplyServicesResponse:
    request = pb.ApplyServicesRequest(services=entries, **options)
    response: pb.ApplyServicesResponse = await world.catalog.ApplyServices(request)
    return response


async def got(world: World, name: str) -> ServiceEntry:
    response: pb.GetServiceResponse = await world.catalog.GetService(pb.GetServiceRequest(name=name))
    return response.service


async def listed(world: World, **options: Any) -> list[str]:
    """Return the names of all pages."""
    names: list[str] = []
    token = ""
    while True:
        request = pb.ListServicesRequest(page_token=token, **options)
        page = await world.catalog.ListServices(request)
        names += [each.name for each in page.services]
        token = page.next_page_token
        if not token:
            return names


async def test_services_are_applied_read_listed_replaced_and_deleted(world: World) -> None:
    pay = entry("pay", "ledger", "bank", "bank", owner="team-pay", tier="1", links={"runbook": "https://r.example/pay"})
    first = await applied(world, pay, entry("bank", labels={"team": "bank"}))
    assert [(each.name, each.change) for each in first.results] == [("pay", Change.CREATED), ("bank", Change.CREATED)]
    assert [(each.service, each.field) for each in first.warnings] == [("pay", "dependsOn[1]")]
    again_applied = await applied(world, pay, entry("bank", owner="b"))
    assert [each.change for each in again_applied.results] == [Change.UNCHANGED, Change.UPDATED]
    found = await got(world, "pay")
    assert (list(found.depends_on), found.etag) == (["bank", "ledger"], first.results[0].etag)
    assert found.create_time == found.update_time
    assert (await got(world, "bank")).labels == {}
    request = pb.ReplaceServiceRequest(name="pay", service=ServiceEntry(tier="2", etag=found.etag))
    replaced = (await world.catalog.ReplaceService(request)).service
    assert (replaced.name, replaced.owner, replaced.tier) == ("pay", "", "2")
    assert replaced.create_time != replaced.update_time
    await applied(world, entry("order", owner="b"))
    assert await listed(world, page_size=1) == ["bank", "order", "pay"]
    assert await listed(world, owner="b", name_prefix="o") == ["order"]
    stale = await refusal(world.catalog.ReplaceService(request))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    wrong = pb.DeleteServiceRequest(name="pay", etag=found.etag)
    assert (await refusal(world.catalog.DeleteService(wrong))).reason == "ETAG_MISMATCH"
    await world.catalog.DeleteService(pb.DeleteServiceRequest(name="pay", etag=replaced.etag))
    assert await listed(world) == ["bank", "order"]
    for call in (got(world, "pay"), world.catalog.DeleteService(pb.DeleteServiceRequest(name="pay"))):
        gone = await refusal(call)
        assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "SERVICE_NOT_FOUND")


async def test_everything_that_is_wrong_is_named_at_once_and_nothing_is_stored(world: World) -> None:
    wrong = await refusal(
        applied(
            world,
            entry("a", "b", "a", owner="x" * 300),
            entry("a", links={"runbook": "ftp://x", "r": "https://a\0"}),
            entry("", description="nul\0"),
        )
    )
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert sorted(wrong.fields) == [
        "services[0].dependsOn[1]",
        "services[0].owner",
        "services[1].links",
        "services[1].links[r]",
        "services[1].links[runbook]",
        "services[1].name",
        "services[2].description",
        "services[2].name",
    ]
    for call, fields in (
        (applied(world), ("services",)),
        (applied(world, *(entry(f"s{n}") for n in range(1001))), ("services",)),
        (world.catalog.ReplaceService(pb.ReplaceServiceRequest()), ("name",)),
        (world.catalog.ReplaceService(pb.ReplaceServiceRequest(name="a", service=entry("b"))), ("name",)),
        (world.catalog.ReplaceService(pb.ReplaceServiceRequest(name="a", service=entry("", "a"))), ("dependsOn[0]",)),
        (applied(world, entry("a"), request_id="7"), ("requestId",)),
        (world.catalog.GetServiceGraph(pb.GetServiceGraphRequest(depth=21)), ("depth",)),
        (world.catalog.ListServices(pb.ListServicesRequest(page_token="x")), ("pageToken",)),
    ):
        assert (await refusal(call)).fields == fields
    assert await listed(world) == []


async def test_a_check_stores_nothing_and_a_repeated_call_acts_once(world: World) -> None:
    checked = await applied(world, entry("a", "b"), entry("b", "a"), validate_only=True)
    assert [(each.change, each.etag) for each in checked.results] == [(Change.CREATED, "")] * 2
    assert [each.description for each in checked.warnings] == [
        "these services depend on each other in a circle: a → b → a"
    ]
    request = pb.ReplaceServiceRequest(name="a", service=entry("", tier="1"), validate_only=True)
    alone = (await world.catalog.ReplaceService(request)).service
    assert (alone.tier, alone.etag, alone.HasField("create_time")) == ("1", "", False)
    assert await listed(world) == []
    request_id = str(uuid.uuid4())
    first = await applied(world, entry("a"), request_id=request_id)
    await world.catalog.DeleteService(pb.DeleteServiceRequest(name="a"))
    assert await applied(world, entry("a"), request_id=request_id) == first
    assert await listed(world) == []
    reused = await refusal(applied(world, entry("c"), request_id=request_id))
    assert (reused.code, reused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_no_more_services_than_the_maximum_are_stored(world: World) -> None:
    for start in range(0, 10_000, 1000):
        await applied(world, *(entry(f"s{n:05}") for n in range(start, start + 1000)))
    full = await refusal(applied(world, entry("another")))
    assert (full.code, full.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_SERVICES")
    assert len(await listed(world, page_size=500)) == 10_000
    assert [each.change for each in (await applied(world, entry("s00001", tier="1"))).results] == [Change.UPDATED]


async def test_the_graph_has_pages_a_part_around_a_service_and_circles(world: World) -> None:
    await applied(world, entry("web", "pay", owner="w"), entry("pay", "bank"), entry("bank", "pay"), entry("lone", "x"))

    async def graph(**options: Any) -> pb.GetServiceGraphResponse:
        response: pb.GetServiceGraphResponse = await world.catalog.GetServiceGraph(pb.GetServiceGraphRequest(**options))
        return response

    whole = await graph()
    assert [(node.name, node.is_unknown, node.owner) for node in whole.nodes] == [
        ("bank", False, ""),
        ("lone", False, ""),
        ("pay", False, ""),
        ("web", False, "w"),
        ("x", True, ""),
    ]
    assert [(edge.service, edge.depends_on) for edge in whole.edges] == [
        ("bank", "pay"),
        ("lone", "x"),
        ("pay", "bank"),
        ("web", "pay"),
    ]
    assert {(edge.origin, edge.state) for edge in whole.edges} == {(GraphEdge.DECLARED, GraphEdge.CONFIRMED)}
    assert [list(cycle.services) for cycle in whole.cycles] == [["bank", "pay"]]
    first = await graph(page_size=3)
    rest = await graph(page_size=3, page_token=first.next_page_token)
    assert [*first.nodes, *rest.nodes] == list(whole.nodes)
    assert [*first.edges, *rest.edges] == list(whole.edges)
    assert (list(first.cycles), list(rest.cycles), rest.next_page_token) == (list(whole.cycles), [], "")
    part = await graph(service="web", depth=1)
    assert ([node.name for node in part.nodes], len(part.edges), len(part.cycles)) == (["pay", "web"], 1, 0)
    assert [node.name for node in (await graph(service="x")).nodes] == ["lone", "x"]
    assert (await refusal(graph(service="nobody"))).reason == "SERVICE_NOT_FOUND"
    assert (await refusal(graph(page_token=first.next_page_token, service="web"))).fields == ("pageToken",)


async def test_every_instance_has_what_one_has_stored(world: World, running: Run) -> None:
    async with running(again(world.settings)) as other:
        await applied(world, entry("a"))
        assert await listed(other) == ["a"]
        await other.catalog.DeleteService(pb.DeleteServiceRequest(name="a"))
        assert await listed(world) == []
