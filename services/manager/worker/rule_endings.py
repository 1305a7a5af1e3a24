"""Resolve the alerts of rules that were disabled, deleted or edited, a batch in a transaction.

The endings are rows of the database: after a kill in the middle any instance goes on, and an alert that was resolved
already is not open any more, so its receivers are notified once.
"""

from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import context_of, trace_headers, tracer
from services.domain.trace_context import TraceHeaders, headers_of
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction
from services.manager.core.rule_edits import RuleEnding
from services.manager.metrics import Metrics
from services.manager.ports.feeds import DedupCache
from services.manager.ports.tables import Store

log = structlog.get_logger()

_BATCH = 500


class RuleEndingWorker:
    """Resolves alerts in the order in which their rules ended, a batch a turn."""

    def __init__(
        self, store: Store, dedup_cache: DedupCache, clock: Clock, metrics: Metrics, *, batch: int = _BATCH
    ) -> None:
        self._store = store
        self._dedup_cache = dedup_cache
        self._clock = clock
        self._metrics = metrics
        self._batch = batch

    async def turn(self) -> timedelta | None:
        """Resolve one batch; the next turn follows at once, unless no ending is left."""
        async with self._store.transaction() as transaction:
            ending = await transaction.rule_endings.next_for_update()
            if ending is None:
                return None
            alerts = await transaction.alerts.list_open_for_update(
                ending.rule_id, before=ending.revision, limit=self._batch
            )
            command = AlertCommand(action=AlertAction.RESOLVE, comment=ending.comment)
            changes = [apply_command(alert, command, now=self._clock.now())[0] for alert in alerts]
            trace = _trace_headers(ending)
            await transaction.alerts.save([(change, trace) for change in changes if change is not None])
            is_done = len(alerts) < self._batch
            if is_done:
                await transaction.rule_endings.delete(ending)
        await self._dedup_cache.remove([alert.subject.open_key for alert in alerts])
        self._metrics.rule_alerts_ended(len(alerts))
        log.info("rule_alerts_ended", rule_id=ending.rule_id, alerts=len(alerts), is_done=is_done)
        return timedelta()


def _trace_headers(ending: RuleEnding) -> TraceHeaders:
    """Return the headers of a span that continues the command's trace."""
    context = context_of(headers_of(ending.traceparent))
    with tracer(__name__).start_as_current_span("alerts end", context=context):
        return trace_headers()
