"""Learned dependencies through the API: reported to two managers, counted once, confirmed, ignored."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from services.contract.timestamps import timestamp_of
from services.manager.settings import Settings
from tests.fakes.transitions import NOW
from tests.integration.manager.conftest import Run, World, again, until
from tests.integration.manager.refusals import refusal
from tocsin.catalog.v1 import catalog_service_pb2
from tocsin.catalog.v1 import learned_edge_service_pb2 as pb
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge, ServiceEntry

pytestmark = pytest.mark.integration

TRACES = 30


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, trace_close_delay=timedelta(milliseconds=300))


def sighting(trace: int, service: str, second: int) -> pb.TraceSighting:
    first_time = timestamp_of(NOW + timedelta(seconds=second))
    return pb.TraceSighting(trace_id=f"{trace:032x}", service=service, first_time=first_time)


async def report(world: World, *sightings: pb.TraceSighting) -> pb.ReportTracesResponse:
    response: pb.ReportTracesResponse = await world.learned_edges.ReportTraces(
        pb.ReportTracesRequest(sightings=sightings)
    )
    return response


async def listed(world: World, **options: Any) -> list[pb.LearnedEdge]:
    request = pb.ListLearnedEdgesRequest(**options)
    return list((await world.learned_edges.ListLearnedEdges(request)).edges)


async def graph(world: World) -> list[tuple[str, str, str, str]]:
    response = await world.catalog.GetServiceGraph(catalog_service_pb2.GetServiceGraphRequest())
    return [
        (each.service, each.depends_on, GraphEdge.Origin.Name(each.origin), GraphEdge.State.Name(each.state))
        for each in response.edges
    ]


async def counted(world: World, traces: int) -> None:
    async def done() -> bool:
        return bool(await world.value("SELECT max(forward) >= $1 FROM learned_edges", traces - 0.01))

    await until(done)


async def test_traces_that_two_managers_are_told_of_become_one_edge_of_the_graph(
    settings: Settings, running: Run
) -> None:
    # Both reports come well before the traces are closed.
    settings = replace(settings, trace_close_delay=timedelta(seconds=3))
    async with running(settings) as first, running(again(settings)) as second:
        await report(first, *(sighting(n, "web", 0) for n in range(TRACES)))
        await report(second, *(sighting(n, "pay", 1) for n in range(TRACES)), sighting(0, "pay", 2))
        await counted(first, TRACES)
        (edge,) = await listed(second)
        assert (edge.service, edge.depends_on, edge.is_supported) == ("web", "pay", True)
        assert (edge.support, edge.confidence, edge.state) == (TRACES, 1, GraphEdge.STATE_UNSPECIFIED)
        for manager in (first, second):
            assert await graph(manager) == [("web", "pay", "LEARNED", "STATE_UNSPECIFIED")]
        # The entries of both come and go; what is learned stays, and its services are unknown then.
        entry = ServiceEntry(name="web", depends_on=["pay"])
        await first.catalog.ApplyServices(catalog_service_pb2.ApplyServicesRequest(services=[entry]))
        assert [each[2] for each in await graph(second)] == ["DECLARED", "LEARNED"]
        await first.catalog.DeleteService(catalog_service_pb2.DeleteServiceRequest(name="web"))
        assert [each[2] for each in await graph(second)] == ["LEARNED"]
        assert await first.value("SELECT count(*) FROM trace_sightings") == 0


async def test_people_confirm_and_ignore_what_was_learned(world: World) -> None:
    await report(world, *(sighting(n, name, at) for n in range(TRACES) for at, name in enumerate(("web", "pay"))))
    await counted(world, TRACES)
    request = pb.IgnoreLearnedEdgeRequest(service="web", depends_on="pay", actor="ann", request_id=str(uuid.uuid4()))
    ignored = await world.learned_edges.IgnoreLearnedEdge(request)
    assert (ignored.edge.state, ignored.edge.actor, ignored.unchanged) == (GraphEdge.IGNORED, "ann", False)
    assert await world.learned_edges.IgnoreLearnedEdge(request) == ignored
    assert await graph(world) == [("web", "pay", "LEARNED", "IGNORED")]
    confirm = pb.ConfirmLearnedEdgeRequest(service="web", depends_on="pay")
    confirmed = await world.learned_edges.ConfirmLearnedEdge(confirm)
    assert (confirmed.edge.state, confirmed.edge.actor) == (GraphEdge.CONFIRMED, "anonymous")
    assert (await world.learned_edges.ConfirmLearnedEdge(confirm)).unchanged
    assert await graph(world) == [("web", "pay", "LEARNED", "CONFIRMED")]
    assert await listed(world, states=[GraphEdge.IGNORED]) == []
    # What is seen later changes the counts, and not what people have said.
    await report(world, *(sighting(n, name, at) for n in range(99) for at, name in enumerate(("pay", "web"))))
    await counted(world, 99)
    edges = await listed(world, service="pay")
    assert [(each.service, each.state, each.is_supported) for each in edges] == [("web", GraphEdge.CONFIRMED, False)]
    weak = await listed(world, include_weak=True, page_size=1)
    assert [(each.service, each.is_supported) for each in weak] == [("pay", False)]
    page = await world.learned_edges.ListLearnedEdges(pb.ListLearnedEdgesRequest(include_weak=True, page_size=1))
    rest = pb.ListLearnedEdgesRequest(include_weak=True, page_size=1, page_token=page.next_page_token)
    last = await world.learned_edges.ListLearnedEdges(rest)
    assert ([each.service for each in last.edges], last.next_page_token) == (["web"], "")


async def test_bad_calls_name_each_field_and_store_nothing(world: World) -> None:
    good = sighting(1, "web", 0)
    calls = world.learned_edges
    for call, fields in (
        (report(world), ("sightings",)),
        (report(world, *[good] * 1001), ("sightings",)),
        (
            report(world, good, pb.TraceSighting(trace_id="X" * 32, service="web")),
            ("sightings[1].traceId", "sightings[1].firstTime"),
        ),
        (calls.ListLearnedEdges(pb.ListLearnedEdgesRequest(page_token="x")), ("pageToken",)),
        (calls.ListLearnedEdges(pb.ListLearnedEdgesRequest(states=[1, 7])), ("states[1]",)),  # type: ignore[list-item]
        (calls.ConfirmLearnedEdge(pb.ConfirmLearnedEdgeRequest()), ("service", "dependsOn")),
        (
            calls.IgnoreLearnedEdge(pb.IgnoreLearnedEdgeRequest(service="a", depends_on="b", actor="x" * 257)),
            ("actor",),
        ),
    ):
        assert (await refusal(call)).fields == fields
    out_of_range = sighting(1, "web", 0)
    out_of_range.first_time.seconds = 2**50
    assert (await refusal(report(world, out_of_range))).fields == ("sightings[0].firstTime",)
    unknown = await refusal(calls.ConfirmLearnedEdge(pb.ConfirmLearnedEdgeRequest(service="a", depends_on="b")))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "LEARNED_EDGE_NOT_FOUND")
    assert await world.value("SELECT count(*) FROM trace_sightings") == 0


async def test_hostile_names_are_left_out_and_the_traces_that_wait_are_bounded(world: World) -> None:
    await world.execute(
        """
        INSERT INTO trace_sightings SELECT 'default', md5(n::text), 'web', now(), now() + interval '1 hour'
        FROM generate_series(1, 49998) AS n
        """
    )
    response = await report(world, *(sighting(n, name, 0) for n in range(2) for name in ("web", "a\nb", "pay")))
    assert response.dropped_count == 2
    assert (await report(world, sighting(9, "web", 0))).dropped_count == 1
