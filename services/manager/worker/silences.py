"""Keep open alerts in step with the silences: mark those of which one begins or ends to hold.

Each instance looks by itself, so that another one can be away. At the beginning or end of a silence all open alerts are
looked at; in between only those that are silenced, since another instance with an older view may have opened one. What
is decided is written in the transaction that has the alert's row to itself. Incidents see that the alert has changed,
and notify of it where no silence holds any more.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import trace_headers, tracer
from services.manager.core.alert_changes import silence
from services.manager.core.silence_index import SilenceIndex
from services.manager.metrics import Metrics
from services.manager.ports.feeds import SilenceFeed
from services.manager.ports.readers import MatchedAlertReader
from services.manager.ports.tables import Store

log = structlog.get_logger()

_BATCH = 500
_INTERVAL = timedelta(seconds=1)


class SilenceWorker:
    """Looks at once a second, at each border of a silence, and when it is woken."""

    def __init__(
        self, store: Store, feed: SilenceFeed, reader: MatchedAlertReader, clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._feed = feed
        self._reader = reader
        self._clock = clock
        self._metrics = metrics
        # For which all open alerts were looked at.
        self._seen: SilenceIndex | None = None

    async def turn(self) -> timedelta:
        """Look once; return after which time to look again."""
        await self._feed.refresh()
        if self._feed.names_alerts():
            await self._expire_resolved()
        now = self._clock.now()
        index = self._feed.index(now)
        alerts = await (self._reader.list_silenced() if index is self._seen else self._reader.list_open())
        outdated = [alert.id for alert in alerts if alert.is_outdated(index)]
        batches = [outdated[first : first + _BATCH] for first in range(0, len(outdated), _BATCH)]
        is_complete = all([await self._update(batch, index) for batch in batches])
        self._seen = index if is_complete else None
        border = index.valid_until
        return _INTERVAL if border is None else max(timedelta(), min(_INTERVAL, border - now))

    async def _update(self, alert_ids: Sequence[str], index: SilenceIndex) -> bool:
        """Decide about alerts again, with their rows locked; return whether none was locked by another transaction."""
        with tracer(__name__).start_as_current_span("alerts silence"):
            async with self._store.transaction() as transaction:
                now = self._clock.now()
                alerts = await transaction.alerts.lock_open(alert_ids)
                decided = (silence(alert, index.silencing(alert.id, alert.subject.labels), now=now) for alert in alerts)
                changes = [change for change in decided if change is not None]
                await transaction.alerts.save([(change, trace_headers()) for change in changes])
        released = sum(not change.alert.silenced_by for change in changes)
        self._metrics.silences_applied(marked=len(changes) - released, released=released)
        log.info("silences_applied", alerts=len(changes), released=released)
        return len(alerts) == len(alert_ids)

    async def _expire_resolved(self) -> None:
        """End silences of named alerts when all are resolved."""
        async with self._store.transaction() as transaction:
            expired = await transaction.silences.expire_resolved(self._clock.now())
        if expired:
            await self._feed.refresh()
            log.info("silences_expired", silences=expired)
