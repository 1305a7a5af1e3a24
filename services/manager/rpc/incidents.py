"""IncidentService: read incidents; IncidentCommands acts on them."""

from collections.abc import AsyncIterator
from typing import Any

from services.chassis.grpc_server import Mount
from services.contract.paging import encode_page_token, filters_of
from services.contract.timestamps import timestamp_of
from services.manager.core.incident import (
    IncidentHistoryEntry,
    IncidentHistoryKind,
    summary_of,
)
from services.manager.core.service_changes import first_alerts
from services.manager.messages.incidents import correlation_message, incident_alert_message, incident_message
from services.manager.ports.feeds import IncidentFeed
from services.manager.ports.readers import IncidentReader
from services.manager.rpc.alerts import AlertContext
from services.manager.rpc.failures import IncidentNotFound
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.incident_queries import select_incidents, watched_incidents
from services.manager.rpc.requests import check_fields
from tocsin.incidents.v1 import incident_pb2
from tocsin.incidents.v1 import incident_service_pb2 as pb
from tocsin.incidents.v1.incident_service_pb2_grpc import IncidentServiceServicer, add_IncidentServiceServicer_to_server

_CORRELATED = frozenset({IncidentHistoryKind.OPENED, IncidentHistoryKind.JOINED})
_MAX_ALERTS = 1000


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class IncidentRpc(IncidentServiceServicer):
    """Serves IncidentService."""

    def __init__(
        self, commands: IncidentCommands, reader: IncidentReader, feed: IncidentFeed, context: AlertContext
    ) -> None:
        self._commands = commands
        self._reader = reader
        self._feed = feed
        self._context = context

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["IncidentService"].full_name,
            lambda server: add_IncidentServiceServicer_to_server(self, server),
        )

    async def ListIncidents(self, request: pb.ListIncidentsRequest, _context: Any) -> pb.ListIncidentsResponse:
        check_fields(request)
        filters = filters_of(request)
        shown, last = await select_incidents(self._reader, request, filters=filters)
        token = encode_page_token(last, filters=filters)
        return pb.ListIncidentsResponse(incidents=map(incident_message, shown), next_page_token=token)

    async def GetIncident(self, request: pb.GetIncidentRequest, _context: Any) -> pb.GetIncidentResponse:
        check_fields(request, "id")
        found = await self._reader.get(request.id)
        if found is None:
            raise IncidentNotFound("there is no incident with this id", incident_id=request.id)
        incident, history = found
        alerts = list(incident.alerts.values())[:_MAX_ALERTS]
        first = first_alerts((alert.service, alert.fire_time) for alert in incident.alerts.values())
        return pb.GetIncidentResponse(
            incident=incident_message(summary_of(incident)),
            alerts=[incident_alert_message(incident, alert) for alert in alerts],
            history=map(_history_message, history),
            recent_changes=await self._context.changes_before(first),
        )

    # Yields encoded messages, which the chassis passes on as they are: they are encoded once for all watchers.
    async def WatchIncidents(self, request: pb.WatchIncidentsRequest, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        check_fields(request)
        async with self._feed.subscribe(watched_incidents(request)) as subscription:
            # Where no incident is open, the first message may take long.
            await context.send_initial_metadata(())
            while True:
                for message in subscription.take():
                    yield message
                await subscription.wait()

    async def AcknowledgeIncident(
        self, request: pb.AcknowledgeIncidentRequest, _context: Any
    ) -> pb.AcknowledgeIncidentResponse:
        return await self._commands.acknowledge(request)

    async def UnacknowledgeIncident(
        self, request: pb.UnacknowledgeIncidentRequest, _context: Any
    ) -> pb.UnacknowledgeIncidentResponse:
        return await self._commands.unacknowledge(request)

    async def AssignIncident(self, request: pb.AssignIncidentRequest, _context: Any) -> pb.AssignIncidentResponse:
        return await self._commands.assign(request)

    async def CommentIncident(self, request: pb.CommentIncidentRequest, _context: Any) -> pb.CommentIncidentResponse:
        return await self._commands.comment(request)

    async def ResolveIncident(self, request: pb.ResolveIncidentRequest, _context: Any) -> pb.ResolveIncidentResponse:
        return await self._commands.resolve(request)

    async def MergeIncidents(self, request: pb.MergeIncidentsRequest, _context: Any) -> pb.MergeIncidentsResponse:
        return await self._commands.merge(request)

    async def SplitIncident(self, request: pb.SplitIncidentRequest, _context: Any) -> pb.SplitIncidentResponse:
        return await self._commands.split(request)


def _history_message(entry: IncidentHistoryEntry) -> incident_pb2.IncidentHistoryEntry:
    return incident_pb2.IncidentHistoryEntry(
        id=entry.id,
        kind=incident_pb2.IncidentHistoryEntry.Kind.Value(entry.kind.value),
        create_time=timestamp_of(entry.create_time),
        alert_id=entry.alert_id,
        actor=entry.actor,
        comment=entry.comment,
        correlation=correlation_message(entry.correlation) if entry.kind in _CORRELATED else None,
        notified_kind=entry.notified_kind or "",
        receivers=entry.receivers,
        notification_id=entry.notification_id,
        decided_by=entry.decided_by,
    )
