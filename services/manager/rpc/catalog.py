"""CatalogService: the catalog of services and its graph; CatalogCommands changes it."""

from typing import Any

from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.contract.paging import encode_page_token, filters_of
from services.manager.core.catalog import Catalog
from services.manager.core.dependency_graph import DependencyEdge
from services.manager.ports.feeds import CatalogFeed
from services.manager.rpc.catalog_commands import CatalogCommands, service_message
from services.manager.rpc.failures import ServiceNotFound
from services.manager.rpc.pages import first_page, page_of
from services.manager.rpc.requests import check_fields, refuse_if_any
from tocsin.catalog.v1 import catalog_service_pb2 as pb
from tocsin.catalog.v1.catalog_service_pb2_grpc import CatalogServiceServicer, add_CatalogServiceServicer_to_server
from tocsin.catalog.v1.service_entry_pb2 import DependencyCycle, GraphEdge, GraphNode

_MAX_DEPTH = 20
_MAX_CYCLES = 20


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class CatalogRpc(CatalogServiceServicer):
    """Serves the catalog from memory, after it is as new as the database's."""

    def __init__(self, commands: CatalogCommands, feed: CatalogFeed) -> None:
        self._commands = commands
        self._feed = feed

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["CatalogService"].full_name,
            lambda server: add_CatalogServiceServicer_to_server(self, server),
        )

    async def ReplaceService(self, request: pb.ReplaceServiceRequest, _context: Any) -> pb.ReplaceServiceResponse:
        return await self._commands.replace(request)

    async def ApplyServices(self, request: pb.ApplyServicesRequest, _context: Any) -> pb.ApplyServicesResponse:
        return await self._commands.apply(request)

    async def DeleteService(self, request: pb.DeleteServiceRequest, _context: Any) -> pb.DeleteServiceResponse:
        return await self._commands.delete(request)

    async def GetService(self, request: pb.GetServiceRequest, _context: Any) -> pb.GetServiceResponse:
        check_fields(request, "name")
        catalog = await self._newest()
        stored = catalog.services.get(request.name)
        if stored is None:
            raise ServiceNotFound("the catalog has no service of this name", service=request.name)
        return pb.GetServiceResponse(service=service_message(stored))

    async def ListServices(self, request: pb.ListServicesRequest, _context: Any) -> pb.ListServicesResponse:
        check_fields(request)
        filters = filters_of(request)
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)
        catalog = await self._newest()
        names = sorted(
            name
            for name, stored in catalog.services.items()
            if request.owner in {"", stored.entry.owner} and name.startswith(request.name_prefix)
        )
        shown, last = first_page(names, page, lambda name: service_message(catalog.services[name]))
        return pb.ListServicesResponse(services=shown, next_page_token=encode_page_token(last, filters=filters))

    async def GetServiceGraph(self, request: pb.GetServiceGraphRequest, _context: Any) -> pb.GetServiceGraphResponse:
        check_fields(request)
        if not 0 <= request.depth <= _MAX_DEPTH:
            refuse_if_any(Violation("depth", f"is {request.depth}, must be 1 to {_MAX_DEPTH}"))
        filters = filters_of(request)
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)
        catalog = await self._newest()
        names = _part(catalog, request.service, request.depth or _MAX_DEPTH)
        selected = frozenset(names)

        def with_edges(name: str) -> pb.GetServiceGraphResponse:
            edges = [edge for edge in catalog.graph.edges_of(name) if edge.depends_on in selected]
            return pb.GetServiceGraphResponse(nodes=[_node(catalog, name)], edges=map(_edge, edges))

        parts, last = first_page(names, page, with_edges)
        response = pb.GetServiceGraphResponse(
            cycles=[] if page.after else _cycles(catalog, selected if request.service else None),
            next_page_token=encode_page_token(last, filters=filters),
        )
        for part in parts:
            response.MergeFrom(part)
        return response

    async def _newest(self) -> Catalog:
        await self._feed.refresh()
        return self._feed.current


def _part(catalog: Catalog, service: str, depth: int) -> list[str]:
    """Return the names of the whole graph, or of its part around a service, in their order."""
    if not service:
        return catalog.names()
    if service not in catalog.services and service not in catalog.graph.names:
        raise ServiceNotFound("the catalog does not have this service, and no other one depends on it", service=service)
    return sorted(catalog.graph.around(service, depth))


def _node(catalog: Catalog, name: str) -> GraphNode:
    entry = catalog.entry_of(name)
    if entry is None:
        return GraphNode(name=name, is_unknown=True)
    return GraphNode(name=name, owner=entry.owner, tier=entry.tier)


def _edge(edge: DependencyEdge) -> GraphEdge:
    return GraphEdge(
        service=edge.service,
        depends_on=edge.depends_on,
        origin=GraphEdge.Origin.Value(edge.origin.value),
        state=GraphEdge.State.Value(edge.state.value),
    )


def _cycles(catalog: Catalog, within: frozenset[str] | None) -> list[DependencyCycle]:
    return [DependencyCycle(services=cycle) for cycle in catalog.graph.cycles(within)[:_MAX_CYCLES]]
