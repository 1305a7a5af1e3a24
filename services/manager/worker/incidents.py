"""Correlate alerts into incidents, run what is due, and notify receivers, a batch in a transaction.

Which alerts have changed since incidents knew them is a column of the database, written in the transaction that changes
the incidents; so is the outbox, from which receivers are notified. So after a kill at any instant nothing is missed and
nothing done twice, whichever instance goes on. One transaction at a time holds the incidents, so no two instances open
an incident for alerts that belong together, and no two notify of the same thing. One that finds them held does not
queue up, but looks again soon: instances that took turns would read each other's writes all the time. Each instance
keeps the open ones in memory, and reads what others have written since its last turn: of what a person's command has
changed, the first instance that comes notifies.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.domain.fingerprint import digest
from services.domain.matchers import SERVICE
from services.manager.core.alert import Alert
from services.manager.core.incident import IncidentAlert
from services.manager.core.incident_batch import IncidentContext, IncidentSettings, OpenIncidents, SeenAlert
from services.manager.core.incident_changes import IncidentChange
from services.manager.messages.alerts import rule_labels_of
from services.manager.metrics import Metrics
from services.manager.ports.feeds import CatalogFeed, OnCallFeed, RoutingFeed
from services.manager.ports.incidents import TracedAlert
from services.manager.ports.tables import Store, Transaction

log = structlog.get_logger()

_BATCH = 500
_INTERVAL = timedelta(seconds=1)
# After which time it looks again whether another instance has ended its turns.
_BUSY_INTERVAL = timedelta(milliseconds=100)


class IncidentWorker:
    """Takes the alerts that changed, a batch a turn."""

    def __init__(
        self,
        store: Store,
        catalog: CatalogFeed,
        routing: RoutingFeed,
        on_call: OnCallFeed,
        clock: Clock,
        metrics: Metrics,
        *,
        settings: IncidentSettings,
        batch: int = _BATCH,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._routing = routing
        self._on_call = on_call
        self._clock = clock
        self._metrics = metrics
        self._settings = settings
        self._batch = batch
        self._open = OpenIncidents(settings)
        self._revision = -1

    async def turn(self) -> timedelta:
        """Take one batch, and run what is due; return after which time more has to be done."""
        try:
            taken = await self._take_batch()
        except BaseException:
            # What is in memory may not have been stored: it is read again.
            self._open, self._revision = OpenIncidents(self._settings), -1
            raise
        if taken is None:
            return _BUSY_INTERVAL
        now = self._clock.now()
        if taken == self._batch or self._open.has_work(now):
            return timedelta()
        due = self._open.next_due()
        return _INTERVAL if due is None else min(_INTERVAL, due - now)

    async def _take_batch(self) -> int | None:
        """Return how many alerts were taken; None where another instance is at it."""
        now = self._clock.now()
        if self._revision < 0:
            await self._read_stored(now)
        async with self._store.transaction() as transaction:
            # Most turns have nothing to do, and wait for no other instance.
            if not self._open.has_work(now) and not await transaction.incidents.has_news(self._revision):
                return 0
            revision = await transaction.incidents.try_lock()
            if revision is None:
                return None
            seen, changes = await self._advance(transaction, revision, now)
        self._revision = revision if changes else revision - 1
        self._metrics.incidents_changed(change.reason for change in changes)
        self._metrics.notified(each.reason for change in changes for each in change.notifications)
        bound = log.bind()
        for change in changes:
            bound.info(
                "incident_changed",
                incident_id=change.incident.id,
                reason=change.reason.value,
                notified=[f"{each.kind} {','.join(each.receivers)}: {each.comment}" for each in change.notifications],
            )
        return len(seen)

    async def _read_stored(self, now: datetime) -> None:
        """Read all that alerts may join. It may take seconds, so nobody is kept from incidents meanwhile.

        What others write in this time has a later revision, and is read by the next batch before it decides anything.
        """
        async with self._store.transaction() as transaction:
            revision = await transaction.incidents.revision()
            since = now - self._settings.correlation.reopen
            self._open.put(await transaction.incidents.list_changed(-1, resolved_after=since))
        self._revision = revision

    async def _advance(
        self, transaction: Transaction, revision: int, now: datetime
    ) -> tuple[Sequence[TracedAlert], Sequence[IncidentChange]]:
        """Decide about what is new, alone with the incidents, and write it."""
        reopen = self._settings.correlation.reopen
        self._open.put(await transaction.incidents.list_changed(self._revision, resolved_after=now - reopen))
        self._open.drop_old(now)
        before = self._open.known()
        seen = await transaction.incidents.list_seen(self._batch)
        exhausted = await transaction.notifications.take_exhausted(self._batch)
        changes = self._open.advance(list(map(_seen, seen)), self._context(exhausted), now)
        await transaction.incidents.save(changes, revision, before=before)
        await transaction.incidents.mark_seen([each.alert for each in seen])
        await _insert_notifications(transaction, changes, seen)
        return seen, changes

    def _context(self, exhausted: Mapping[str, frozenset[str]]) -> IncidentContext:
        catalog, routing = self._catalog.current, self._routing.current
        return IncidentContext(
            graph=catalog.graph,
            confirmed_graph=catalog.confirmed_graph,
            tree=None if routing is None else routing.tree,
            directory=self._on_call.current,
            exhausted=exhausted,
        )


async def _insert_notifications(
    transaction: Transaction, changes: Sequence[IncidentChange], seen: Sequence[TracedAlert]
) -> None:
    notifications = [notification for change in changes for notification in change.notifications]
    about = {each.alert.id: each for each in seen}
    missing = {notification.alert_id for notification in notifications} - about.keys()
    about |= await transaction.notifications.load_alerts(missing)
    for notification in notifications:
        if notification.alert_id not in about:
            # It has ended so long ago that it has expired; the incident has others.
            others = await transaction.notifications.load_alerts(list(notification.incident.alerts))
            if (other := next(iter(others.values()), None)) is not None:
                about[notification.alert_id] = other
    await transaction.notifications.insert(
        [(each, about[each.alert_id]) for each in notifications if each.alert_id in about]
    )


def _seen(traced: TracedAlert) -> SeenAlert:
    alert = traced.alert
    return SeenAlert(
        alert=incident_alert_of(alert),
        state=alert.status.state,
        is_acknowledged=alert.acknowledge_time is not None,
        acknowledged_by=alert.acknowledged_by,
        silenced_by=alert.silenced_by,
        is_stored=traced.is_stored,
        is_notified=alert.is_notified,
    )


def incident_alert_of(alert: Alert) -> IncidentAlert:
    """Return what decisions about incidents read of an alert."""
    subject = alert.subject
    labels = (part for pair in sorted(rule_labels_of(subject.evidence).items()) for part in pair)
    return IncidentAlert(
        id=alert.id,
        rule_name=subject.rule_name,
        service=subject.labels.get(SERVICE, ""),
        resource=subject.resource,
        severity=subject.severity,
        labels=subject.labels,
        fire_time=alert.fire_time,
        file_route=digest(subject.severity.name, *labels)[:16],
    )
