"""AlertService."""

from collections.abc import AsyncIterator
from typing import Any

from services.manager.rpc.alert_commands import AlertCommands
from services.manager.rpc.alert_queries import AlertQueries
from tocsin.alerts.v1 import alert_service_pb2 as pb
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceServicer


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class Alerts(AlertServiceServicer):
    """Hands each rpc to commands or queries."""

    def __init__(self, commands: AlertCommands, queries: AlertQueries) -> None:
        self._commands = commands
        self._queries = queries

    async def ListAlerts(self, request: pb.ListAlertsRequest, _context: Any) -> pb.ListAlertsResponse:
        return await self._queries.page(request)

    # Encoded already, which the chassis passes on as it is.
    def WatchAlerts(self, request: pb.WatchAlertsRequest, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        return self._queries.watch(request, lambda: context.send_initial_metadata(()))

    async def GetAlert(self, request: pb.GetAlertRequest, _context: Any) -> pb.GetAlertResponse:
        return await self._queries.get(request)

    async def AcknowledgeAlert(self, request: pb.AcknowledgeAlertRequest, _context: Any) -> pb.AcknowledgeAlertResponse:
        return await self._commands.acknowledge(request)

    async def ResolveAlert(self, request: pb.ResolveAlertRequest, _context: Any) -> pb.ResolveAlertResponse:
        return await self._commands.resolve(request)
