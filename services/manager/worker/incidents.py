"""Correlate alerts into incidents, run what is due, and notify receivers, a batch in a transaction.

Whoever changes alerts by the evaluator's transitions correlates them in the same transaction, so nothing is read back
that was just written. All other changes, and those for which it was not the time, are taken by this worker's turns:
which alerts have changed since incidents knew them is a column of the database, written in the transaction that changes
the incidents; so is the outbox, from which receivers are notified. So after a kill at any instant nothing is missed and
nothing done twice, whichever instance goes on.

One transaction at a time holds the incidents, so no two instances open an incident for alerts that belong together, and
no two notify of the same thing. One that finds them held does not queue up, but leaves the alerts to a turn, which
looks again soon: instances that took turns would read each other's writes all the time. Since nobody waits for the
incidents while it has alerts to itself, and whoever has both took the alerts first or waits for them alone, there is no
deadlock. Each instance keeps the open ones in memory, alone with them from before its transaction begins until it has
ended, and reads what others have written since: of what a person's command has changed, the first instance that comes
notifies. After a failure nobody knows whether the transaction was committed: what is stored is read again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

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
from services.manager.ports.tables import OpenAlertExistsError, Store, Transaction

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
        self._lock = asyncio.Lock()
        # What the present transaction has written, and its revision.
        self._written: tuple[int, Sequence[IncidentChange]] | None = None

    async def turn(self) -> timedelta:
        """Take one batch, and run what is due; return after which time more has to be done."""
        if self._revision < 0:
            await self._read_stored()
        async with self.alone() as is_alone:
            now = self._clock.now()
            if not is_alone:
                return _BUSY_INTERVAL
            async with self._store.transaction() as transaction:
                # Most turns have nothing to do, and wait for no other instance.
                if not self._open.has_work(now) and not await transaction.incidents.has_news(self._revision):
                    return self._pause()
                revision = await self.begin(transaction)
                if revision is None:
                    return _BUSY_INTERVAL
                seen = await transaction.incidents.list_seen(self._batch)
                await self.advance(transaction, revision, seen)
                await transaction.incidents.mark_seen([each.alert for each in seen])
        return timedelta() if len(seen) == self._batch else self._pause()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Be alone with the incidents in memory for a transaction of the block; false while they are to be read.

        That may take seconds, so nobody waits for it.
        """
        if self._revision < 0:
            yield False
            return
        async with self._lock:
            self._written = None
            try:
                yield True
            except OpenAlertExistsError:
                # Alerts are written before incidents: these are as they were.
                raise
            except BaseException:
                self._open, self._revision = OpenIncidents(self._settings), -1
                raise
            if self._written is not None:
                self._committed(*self._written)

    async def begin(self, transaction: Transaction) -> int | None:
        """Return the revision of what is to be written, alone with what is stored until the transaction ends.

        None while another instance is at it, and after a failure.
        """
        return None if self._revision < 0 else await transaction.incidents.try_lock()

    async def advance(self, transaction: Transaction, revision: int, seen: Sequence[TracedAlert]) -> None:
        """Decide about these alerts and what is due, and write it."""
        now = self._clock.now()
        reopen = self._settings.correlation.reopen
        self._open.put(await transaction.incidents.list_changed(self._revision, resolved_after=now - reopen))
        self._open.drop_old(now)
        before = self._open.known()
        exhausted = await transaction.notifications.take_exhausted(self._batch)
        changes = self._open.advance(list(map(_seen, seen)), self._context(exhausted), now)
        await transaction.incidents.save(changes, revision, before=before)
        await _insert_notifications(transaction, changes, seen)
        self._written = revision, changes

    def _committed(self, revision: int, changes: Sequence[IncidentChange]) -> None:
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

    def _pause(self) -> timedelta:
        now = self._clock.now()
        if self._open.has_work(now):
            return timedelta()
        due = self._open.next_due()
        return _INTERVAL if due is None else min(_INTERVAL, due - now)

    async def _read_stored(self) -> None:
        """Read all that alerts may join. It may take seconds, so nobody is kept from incidents meanwhile.

        What others write in this time has a later revision, and is read by the next batch before it decides anything.
        """
        read = OpenIncidents(self._settings)
        async with self._store.transaction() as transaction:
            revision = await transaction.incidents.revision()
            since = self._clock.now() - self._settings.correlation.reopen
            read.put(await transaction.incidents.list_changed(-1, resolved_after=since))
        self._open, self._revision = read, revision

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
