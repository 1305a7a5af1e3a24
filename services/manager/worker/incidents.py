"""Correlate alerts into incidents, settle them, and end acknowledgements, a batch in a transaction.

Which alerts have changed since incidents knew them is a column of the database, written in the transaction that changes
the incidents. So after a kill at any instant nothing is missed and nothing done twice, whichever instance goes on.
Instances take turns: one transaction at a time holds the incidents, so no two open an incident for alerts that belong
together. Each instance keeps the open ones in memory, and reads what others have written since its last turn.
"""

from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.domain.matchers import SERVICE
from services.manager.core.alert import Alert
from services.manager.core.incident import IncidentAlert
from services.manager.core.incident_batch import IncidentSettings, OpenIncidents, SeenAlert
from services.manager.metrics import Metrics
from services.manager.ports.feeds import CatalogFeed
from services.manager.ports.tables import Store

log = structlog.get_logger()

_BATCH = 500


class IncidentWorker:
    """Takes the alerts that changed, a batch a turn."""

    def __init__(
        self,
        store: Store,
        catalog: CatalogFeed,
        clock: Clock,
        metrics: Metrics,
        *,
        settings: IncidentSettings,
        batch: int = _BATCH,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._metrics = metrics
        self._settings = settings
        self._batch = batch
        self._open = OpenIncidents(settings)
        self._revision = -1

    async def turn(self) -> timedelta | None:
        """Take one batch, and run what is due; the next turn follows at once if more alerts may wait."""
        try:
            taken = await self._take_batch()
        except BaseException:
            # What is in memory may not have been stored: it is read again.
            self._open, self._revision = OpenIncidents(self._settings), -1
            raise
        return timedelta() if taken == self._batch else None

    async def _take_batch(self) -> int:
        now = self._clock.now()
        async with self._store.transaction() as transaction:
            revision = await transaction.incidents.lock()
            reopen = self._settings.correlation.reopen
            self._open.put(await transaction.incidents.list_changed(self._revision, resolved_after=now - reopen))
            self._open.drop_old(now)
            before = self._open.known()
            seen = await transaction.incidents.list_seen(self._batch)
            changes = self._open.advance(
                [_seen(alert, is_stored=is_stored) for alert, is_stored in seen], self._catalog.current.graph, now
            )
            await transaction.incidents.save(changes, revision, before=before)
            await transaction.incidents.mark_seen([alert for alert, _ in seen])
        self._revision = revision if changes else revision - 1
        for change in changes:
            self._metrics.incident_changed(change.reason)
            log.info("incident_changed", incident_id=change.incident.id, reason=change.reason.value)
        return len(seen)


def _seen(alert: Alert, *, is_stored: bool) -> SeenAlert:
    return SeenAlert(
        alert=incident_alert_of(alert),
        state=alert.status.state,
        acknowledged_by=alert.acknowledged_by,
        is_stored=is_stored,
    )


def incident_alert_of(alert: Alert) -> IncidentAlert:
    """Return what correlation reads of an alert."""
    subject = alert.subject
    return IncidentAlert(
        id=alert.id,
        rule_name=subject.rule_name,
        service=subject.labels.get(SERVICE, ""),
        resource=subject.resource,
        severity=subject.severity,
        labels=subject.labels,
        fire_time=alert.fire_time,
    )
