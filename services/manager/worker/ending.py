"""Ends the alerts of rules that were disabled or deleted, a batch in a transaction.

What is left to end stands in the database: after a kill in the middle any instance goes on, and an alert that ended
already is not open any more, so it is told once.
"""

from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import context_of, trace_headers, tracer
from services.domain.alert import Command
from services.domain.trace_context import headers_of
from services.manager.core.commands.change import Order, carry_out
from services.manager.core.commands.rules import Ending
from services.manager.metrics import Metrics
from services.manager.ports.commands import Claims, Store

log = structlog.get_logger()

_BATCH = 500


class EndingWorker:
    """Ends alerts in the order in which their rules ended, a batch in a turn."""

    def __init__(self, store: Store, claims: Claims, clock: Clock, metrics: Metrics, *, batch: int = _BATCH) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._metrics = metrics
        self._batch = batch

    async def turn(self) -> timedelta | None:
        """End one batch; the next turn follows at once, unless there was nothing to end."""
        async with self._store.writing() as writing:
            ending = await writing.endings.next()
            if ending is None:
                return None
            found = await writing.alerts.open_of(ending.rule_id, before=ending.revision, limit=self._batch)
            order = Order(command=Command.RESOLVE, comment=ending.comment)
            steps = [carry_out(alert, order, now=self._clock.now()) for alert in found]
            trace = _trace(ending)
            await writing.alerts.save([(change, trace) for change, _ in steps if change is not None])
            is_done = len(found) < self._batch
            if is_done:
                await writing.endings.done(ending)
        await self._claims.release([alert.subject.open_key for alert in found])
        self._metrics.ended(len(found))
        log.info("rule_alerts_ended", rule_id=ending.rule_id, alerts=len(found), is_done=is_done)
        return timedelta()


def _trace(ending: Ending) -> list[tuple[str, bytes]]:
    """A span that goes on where the command's trace stands."""
    context = context_of(headers_of(ending.traceparent))
    with tracer(__name__).start_as_current_span("alerts end", context=context):
        return trace_headers()
