"""AlertService: read and watch alerts, and act on them."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import structlog

from services.chassis.clock import Clock
from services.chassis.grpc_server import Mount
from services.chassis.telemetry import trace_headers
from services.contract.paging import encode_page_token, filters_of
from services.contract.timestamps import datetime_of
from services.domain.fingerprint import digest
from services.domain.matchers import SERVICE
from services.manager.core.alert import Alert
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, AlertReason
from services.manager.core.service_changes import ChangeSearch, ServiceChange
from services.manager.messages.alerts import alert_message, fill_service_info, history_message, related_messages
from services.manager.metrics import Metrics
from services.manager.ports.feeds import AlertFeed, CatalogFeed, DedupCache, ResponseCache
from services.manager.ports.readers import AlertReader, ChangeReader
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.alert_queries import select_page, watch_filter
from services.manager.rpc.failures import AlertNotFound, AlertStateConflict
from services.manager.rpc.requests import (
    act_once,
    actor_of,
    check_etag,
    check_fields,
    check_length,
)
from tocsin.alerts.v1 import alert_service_pb2 as pb
from tocsin.alerts.v1.alert_pb2 import Alert as AlertMessage
from tocsin.alerts.v1.alert_pb2 import RelatedChange
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceServicer, add_AlertServiceServicer_to_server

log = structlog.get_logger()

_UNCHANGED = frozenset({AlertReason.ALREADY_ACKNOWLEDGED, AlertReason.ALREADY_RESOLVED})

_CommandRequest = pb.AcknowledgeAlertRequest | pb.ResolveAlertRequest
_FilledResponse = TypeVar("_FilledResponse", pb.AcknowledgeAlertResponse, pb.ResolveAlertResponse, pb.GetAlertResponse)
_CommandResponse = TypeVar("_CommandResponse", pb.AcknowledgeAlertResponse, pb.ResolveAlertResponse)


class AlertCommands:
    """Acknowledges and resolves; the same action again changes nothing, whatever the etag, and may add a comment.

    An alert that is resolved by hand while its condition still holds stays silent for the rest of that episode: it
    fires again when the condition has ended and holds anew, or when the rule was edited and its severity raised.
    """

    def __init__(self, store: Store, dedup_cache: DedupCache, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._dedup_cache = dedup_cache
        self._clock = clock
        self._metrics = metrics

    async def run(
        self, request: _CommandRequest, action: AlertAction, response_type: type[_CommandResponse]
    ) -> _CommandResponse:
        """Do the action, once for each request_id."""
        check_fields(request, "id")
        check_length(request, actor=256, comment=4096)
        command = AlertCommand(action=action, actor=actor_of(request.actor), comment=request.comment)
        resolved: list[str] = []
        acknowledged: list[Alert] = []
        now = self._clock.now()

        async def act(transaction: Transaction) -> _CommandResponse:
            alert, reason = await self._apply(transaction, request, command, now)
            if not alert.is_open:
                resolved.append(alert.subject.open_key)
            if reason is AlertReason.ACKNOWLEDGED:
                acknowledged.append(alert)
            return response_type(alert=alert_message(alert), unchanged=reason in _UNCHANGED)

        response = await act_once(self._store, request, response_type, act, now=now)
        await self._dedup_cache.remove(resolved)
        for alert in acknowledged:
            self._metrics.acknowledged(alert.subject.severity, now - alert.fire_time)
        return response

    async def _apply(
        self, transaction: Transaction, request: _CommandRequest, command: AlertCommand, now: datetime
    ) -> tuple[Alert, AlertReason]:
        alert = await transaction.alerts.get_for_update(request.id)
        if alert is None:
            raise AlertNotFound("there is no alert with this id", alert_id=request.id)
        change, reason = apply_command(alert, command, now=now)
        if reason is AlertReason.NOT_ACKNOWLEDGEABLE:
            raise AlertStateConflict("the alert is resolved", alert_id=request.id, state=alert.status.state.value)
        if change is None:
            return alert, reason
        if reason not in _UNCHANGED:
            check_etag(request.etag, alert.etag)
        await transaction.alerts.save([(change, trace_headers())])
        log.info("alert_action_applied", alert_id=alert.id, reason=reason.value)
        return change.alert, reason


class AlertContext:
    """What surrounds alerts and is not stored with them: services in the catalog, and changes before they fired."""

    def __init__(self, catalog: CatalogFeed, changes: ChangeReader) -> None:
        self._catalog = catalog
        self._changes = changes

    def fill(self, alert: AlertMessage) -> None:
        """Set what the catalog has of the alert's service."""
        fill_service_info(alert, self._catalog.current)

    async def fill_changes(self, alert: AlertMessage) -> None:
        """Set the changes before it fired."""
        service, fire_time = alert.match_labels.get(SERVICE, ""), datetime_of(alert.fire_time)
        search = ChangeSearch.of([(service, fire_time)], self._catalog.current.graph)
        alert.recent_changes.extend(
            related_messages(search.related(service, fire_time, await self._changes_of(search)))
        )

    async def changes_before(self, alerts: Sequence[tuple[str, datetime]]) -> list[RelatedChange]:
        """Return the changes before some alerts fired, which are given by service and fire time."""
        search = ChangeSearch.of(alerts, self._catalog.current.graph)
        return related_messages(search.related_to_any(alerts, await self._changes_of(search)))

    async def _changes_of(self, search: ChangeSearch) -> Sequence[ServiceChange]:
        if not search.services:
            return ()
        return await self._changes.list_between(search.services, search.after, search.until)


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class AlertRpc(AlertServiceServicer):
    """Serves AlertService."""

    def __init__(
        self,
        commands: AlertCommands,
        reader: AlertReader,
        cache: ResponseCache,
        feed: AlertFeed,
        context: AlertContext,
    ) -> None:
        self._commands = commands
        self._reader = reader
        self._cache = cache
        self._feed = feed
        self._context = context

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["AlertService"].full_name,
            lambda server: add_AlertServiceServicer_to_server(self, server),
        )

    async def AcknowledgeAlert(self, request: pb.AcknowledgeAlertRequest, _context: Any) -> pb.AcknowledgeAlertResponse:
        return self._filled(await self._commands.run(request, AlertAction.ACKNOWLEDGE, pb.AcknowledgeAlertResponse))

    async def ResolveAlert(self, request: pb.ResolveAlertRequest, _context: Any) -> pb.ResolveAlertResponse:
        return self._filled(await self._commands.run(request, AlertAction.RESOLVE, pb.ResolveAlertResponse))

    async def GetAlert(self, request: pb.GetAlertRequest, _context: Any) -> pb.GetAlertResponse:
        check_fields(request, "id")
        version = await self._reader.version(request.id)

        async def compute() -> bytes:
            stored = await self._reader.get(request.id)
            if stored is None:
                raise _not_found(request.id)
            alert, history = stored
            message = pb.GetAlertResponse(alert=alert_message(alert), history=map(history_message, history))
            return message.SerializeToString()

        if version is None:
            raise _not_found(request.id)
        # Cached under the version, which the database is asked for each time.
        key = f"alert:{version}:{digest(request.id)}"
        response = pb.GetAlertResponse.FromString(await self._cache.get(key, compute))
        await self._context.fill_changes(response.alert)
        return self._filled(response)

    async def ListAlerts(self, request: pb.ListAlertsRequest, _context: Any) -> pb.ListAlertsResponse:
        check_fields(request)
        filters = filters_of(request)
        alerts, last = await select_page(self._reader, request, filters=filters)
        for alert in alerts:
            self._context.fill(alert)
        token = encode_page_token(last, filters=filters)
        return pb.ListAlertsResponse(alerts=alerts, next_page_token=token)

    # Yields encoded messages, which the chassis passes on as they are: they are encoded once for all watchers.
    async def WatchAlerts(self, request: pb.WatchAlertsRequest, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        check_fields(request)
        wanted = watch_filter(request)
        async with self._feed.subscribe(wanted) as subscription:
            # Where no alert is open, the first message may take long.
            await context.send_initial_metadata(())
            while True:
                while (message := subscription.next()) is not None:
                    yield message
                await subscription.wait()

    def _filled(self, response: _FilledResponse) -> _FilledResponse:
        self._context.fill(response.alert)
        return response


def _not_found(alert_id: str) -> AlertNotFound:
    return AlertNotFound("there is no alert with this id", alert_id=alert_id)
