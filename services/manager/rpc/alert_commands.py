"""What people do to alerts."""

import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import trace_headers
from services.domain.alert import Command, Reason
from services.manager.core.alert import Alert
from services.manager.core.commands.change import Order, carry_out
from services.manager.ports.commands import Claims, Store
from services.manager.rpc.failures import AlertNotFound, AlertStateConflict
from services.manager.rpc.requests import check, check_etag, check_length
from services.manager.wire import alerts as wire
from tocsin.alerts.v1 import alert_service_pb2 as pb

log = structlog.get_logger()


class AlertCommands:
    """Acknowledging and resolving; doing either twice changes nothing the second time, whatever the etag.

    An alert that is resolved by hand while its condition still holds stays quiet for the rest of that episode: it
    fires anew when the trouble has ended and come back, or when the rule was edited and finds it again.
    """

    def __init__(self, store: Store, claims: Claims, clock: Clock) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock

    async def acknowledge(self, request: pb.AcknowledgeAlertRequest) -> pb.AcknowledgeAlertResponse:
        """Take an alert on."""
        alert = await self._carry_out(request, Command.ACKNOWLEDGE)
        return pb.AcknowledgeAlertResponse(alert=wire.alert(alert))

    async def resolve(self, request: pb.ResolveAlertRequest) -> pb.ResolveAlertResponse:
        """End an alert."""
        alert = await self._carry_out(request, Command.RESOLVE)
        await self._claims.release([alert.subject.open_key])
        return pb.ResolveAlertResponse(alert=wire.alert(alert))

    async def _carry_out(self, request: pb.AcknowledgeAlertRequest | pb.ResolveAlertRequest, command: Command) -> Alert:
        check(request, "id")
        check_length(request, actor=256, comment=4096)
        order = Order(command=command, actor=request.actor, comment=request.comment)
        async with self._store.writing() as writing:
            alert = await writing.alerts.find(request.id)
            if alert is None:
                raise AlertNotFound("there is no alert with this id", alert_id=request.id)
            change, reason = carry_out(alert, order, now=self._clock.now())
            if reason is Reason.IS_OVER:
                raise AlertStateConflict("the alert is resolved", alert_id=request.id, state=alert.life.state.value)
            if change is None:
                return alert
            check_etag(request.etag, alert.etag)
            await writing.alerts.save([(change, trace_headers())])
        log.info("alert_commanded", alert_id=alert.id, reason=reason.value)
        return change.alert
