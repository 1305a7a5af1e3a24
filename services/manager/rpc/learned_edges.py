"""LearnedEdgeService: dependencies that are learned from traces, what people say of them, and evaluators' reports."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from services.chassis.callers import current_caller
from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.chassis.tenants import as_tenant, is_tenant_name, tenant_served
from services.contract.paging import encode_page_token, filters_of, shown_rows
from services.contract.timestamps import datetime_of, timestamp_of
from services.domain.tenants import read_tenant
from services.manager.core.catalog import service_name_problems
from services.manager.core.dependency_graph import EdgeState
from services.manager.core.learned_edges import LearnedChanges, LearnedEdge, LearningSettings, TraceSighting
from services.manager.metrics import Metrics
from services.manager.ports.readers import LearnedEdgeFilter, LearnedEdgeReader
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import LearnedEdgeNotFound
from services.manager.rpc.pages import page_of
from services.manager.rpc.requests import act_once, actor_of, check_choices, check_fields, check_length, refuse_if_any
from tocsin.catalog.v1 import learned_edge_service_pb2 as pb
from tocsin.catalog.v1.learned_edge_service_pb2_grpc import (
    LearnedEdgeServiceServicer,
    add_LearnedEdgeServiceServicer_to_server,
)
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge

_MAX_ACTOR = 256
# In a report, and in the store.
_MAX_REPORTED = 1000
_MAX_SIGHTINGS = 50_000
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_STATES = {GraphEdge.State.Value(state.value): state for state in EdgeState}

_Request = pb.ConfirmLearnedEdgeRequest | pb.IgnoreLearnedEdgeRequest
_Response = TypeVar("_Response", pb.ConfirmLearnedEdgeResponse, pb.IgnoreLearnedEdgeResponse)


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class LearnedEdgeRpc(LearnedEdgeServiceServicer):
    """Serves learned dependencies from the store."""

    def __init__(
        self,
        store: Store,
        reader: LearnedEdgeReader,
        clock: Clock,
        metrics: Metrics,
        settings: LearningSettings,
    ) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock
        self._metrics = metrics
        self._settings = settings

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["LearnedEdgeService"].full_name,
            lambda server: add_LearnedEdgeServiceServicer_to_server(self, server),
        )

    async def ListLearnedEdges(self, request: pb.ListLearnedEdgesRequest, _context: Any) -> pb.ListLearnedEdgesResponse:
        check_fields(request)
        check_choices("states", request.states, [(state.value, number) for number, state in _STATES.items()])
        filters = filters_of(request)
        page = page_of(request.page_size, request.page_token, filters=filters, width=2)
        wanted = LearnedEdgeFilter(
            service=request.service,
            states=tuple(_STATES[each] for each in request.states),
            is_weak_included=request.include_weak,
        )
        found = await self._reader.list_page(wanted, page)
        shown, last = shown_rows(found, page.size, lambda edge: edge.pair)
        return pb.ListLearnedEdgesResponse(
            edges=map(self._message, shown), next_page_token=encode_page_token(last, filters=filters)
        )

    async def ConfirmLearnedEdge(
        self, request: pb.ConfirmLearnedEdgeRequest, _context: Any
    ) -> pb.ConfirmLearnedEdgeResponse:
        return await self._decide(request, pb.ConfirmLearnedEdgeResponse, EdgeState.CONFIRMED)

    async def IgnoreLearnedEdge(
        self, request: pb.IgnoreLearnedEdgeRequest, _context: Any
    ) -> pb.IgnoreLearnedEdgeResponse:
        return await self._decide(request, pb.IgnoreLearnedEdgeResponse, EdgeState.IGNORED)

    async def ReportTraces(self, request: pb.ReportTracesRequest, _context: Any) -> pb.ReportTracesResponse:
        check_fields(request, "sightings")
        if len(request.sightings) > _MAX_REPORTED:
            refuse_if_any(
                Violation("sightings", f"has {len(request.sightings)} entries, at most {_MAX_REPORTED} in a call")
            )
        refuse_if_any(*_sighting_violations(request))
        sightings: dict[str, list[TraceSighting]] = {}
        for each in request.sightings:
            if not any(service_name_problems("service", each.service)):
                of_tenant = sightings.setdefault(tenant_served(current_caller(), read_tenant(each.tenant)), [])
                of_tenant.append(
                    TraceSighting(trace_id=each.trace_id, service=each.service, first_time=datetime_of(each.first_time))
                )
        dropped = 0
        for tenant, of_tenant in sightings.items():
            with as_tenant(tenant):
                dropped += await self._insert_sightings(of_tenant)
        return pb.ReportTracesResponse(dropped_count=dropped)

    async def _insert_sightings(self, sightings: Sequence[TraceSighting]) -> int:
        """Insert what there is room for; return how many were dropped."""
        async with self._store.transaction() as transaction:
            room = max(0, _MAX_SIGHTINGS - await transaction.traces.count())
            await transaction.traces.upsert(sightings[:room], self._clock.now())
        dropped = len(sightings[room:])
        self._metrics.traces_reported(stored=len(sightings) - dropped, dropped=dropped)
        return dropped

    async def _decide(self, request: _Request, response_type: type[_Response], state: EdgeState) -> _Response:
        """Store what people say of a dependency, once for each request_id."""
        check_fields(request, "service", "depends_on")
        check_length(request, actor=_MAX_ACTOR)
        now = self._clock.now()

        async def act(transaction: Transaction) -> _Response:
            before = await _locked(transaction, request)
            edge = before.decided(state, actor_of(request.actor), now)
            if edge is not before:
                await transaction.learned_edges.save(LearnedChanges(written=(edge,), is_graph_changed=True))
            return response_type(edge=self._message(edge), unchanged=edge is before)

        return await act_once(self._store, request, response_type, act, now=now)

    def _message(self, edge: LearnedEdge) -> pb.LearnedEdge:
        edge = edge.faded(self._clock.now(), self._settings.half_life)
        return pb.LearnedEdge(
            service=edge.service,
            depends_on=edge.depends_on,
            state=GraphEdge.State.Value(edge.state.value),
            support=round(edge.support, 1),
            confidence=round(edge.confidence, 3),
            is_supported=edge.is_supported,
            create_time=timestamp_of(edge.create_time),
            last_seen_time=timestamp_of(edge.seen_time),
            actor=edge.actor,
            decide_time=timestamp_of(edge.decide_time),
        )


async def _locked(transaction: Transaction, request: _Request) -> LearnedEdge:
    await transaction.learned_edges.lock()
    pair = request.service, request.depends_on
    edge = (await transaction.learned_edges.load([pair])).get(pair)
    if edge is None:
        raise LearnedEdgeNotFound(
            "no such dependency was learned; one that is known otherwise belongs in the catalog, in dependsOn",
            service=request.service,
            depends_on=request.depends_on,
        )
    return edge


def _sighting_violations(request: pb.ReportTracesRequest) -> Iterator[Violation]:
    for n, each in enumerate(request.sightings):
        if not _TRACE_ID.fullmatch(each.trace_id):
            yield Violation(f"sightings[{n}].traceId", "is not 32 lower-case hexadecimal digits")
        if not is_tenant_name(read_tenant(each.tenant)):
            yield Violation(f"sightings[{n}].tenant", "is not the name of a tenant")
        if not each.HasField("first_time"):
            yield Violation(f"sightings[{n}].firstTime", "is required")
            continue
        try:
            datetime_of(each.first_time)
        except ValueError as error:
            yield Violation(f"sightings[{n}].firstTime", str(error))
