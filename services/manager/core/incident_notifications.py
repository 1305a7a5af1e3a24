"""Who is notified of an incident, of what, and when: what its receivers know, compared with what it is.

`plan_notifications` looks at an incident as it is now, whatever steps have led there, and at what each receiver was
last notified of. What differs is notified, or waits until a time that the incident remembers. So a plan that is made
again without a change notifies nobody, and one after a restart, a merge or a command needs nothing but the incident.

What a receiver knows of alerts is a number: the incident's version when it was last notified. An alert has the version
with which its notifications were no longer withheld, and the one with which it ended; what is higher is news. So
notifying of a thousand alerts writes one receiver, not a thousand alerts. An alert that was not withheld once is *live*
until it ends, also if a silence begins: whoever was notified of it is notified of its end.

A receiver is
- notified that the incident fires, at once, when an alert is news whose route names it, and it does not know of the
  incident yet or any more;
- sent updates of one that it knows, of all its alerts: at once when the severity is higher than it was notified of,
  and else at most once in its bundling interval; where alerts have ended and nothing else, one interval after that;
- notified once that somebody has acknowledged it;
- notified of the end, at once, when no alert is live.

A rule that fires too often for one resource is *flapping*: receivers are notified of that once, and then of its
beginnings and ends at most once in their bundling interval, until it fires less often.

Where a route of a live alert names an escalation policy, its steps notify others (escalation.py), of the whole
incident; they are receivers like all others from then on.

Without a routing tree, the notifier's file decides, and the manager knows it as one receiver without a name. What this
one knows includes the severities and rules' labels that the file was asked about: one that is new may lead to other
channels, and is notified of at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.domain.values import replaced
from services.manager.core.audible_alerts import routes_to, subject_alert_of, with_audible, words_of_routes, worst_alert
from services.manager.core.escalation import (
    EscalationMessage,
    StepNotification,
    run_escalation,
    start_escalation,
    unrecorded_notifications,
)
from services.manager.core.flapping import FlappingSettings, flap_key, flapping_until
from services.manager.core.incident import (
    AlertBundle,
    Incident,
    IncidentAlert,
    IncidentNotification,
    IncidentNotificationKind,
    IncidentState,
    NotifiedReceiver,
    NotifyReason,
)
from services.manager.core.incident_changes import IncidentChange, IncidentReason
from services.manager.core.notification_entries import (
    ReceiverMessage,
    failed_entry,
    flapping_entry,
    notification_id_in,
    notified_entry,
    step_entry,
)
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.routing_tree import AlertRoute

# Where there is no routing tree.
FILE_RECEIVER = ""
FILE_ROUTE = AlertRoute(path="", receivers=(FILE_RECEIVER,))

_MAX_RECEIVERS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationContext:
    """What decisions about notifications read besides the incident."""

    flapping: FlappingSettings = field(default_factory=FlappingSettings)
    directory: OnCallDirectory = field(default_factory=OnCallDirectory)
    # The notifications that have reached none of their receivers, as was learned since the last plan.
    exhausted: frozenset[str] = frozenset()


def plan_notifications(incident: Incident, context: NotificationContext, *, now: datetime) -> IncidentChange:
    """Return an incident whose receivers know what they have to know now, and the notifications that make them."""
    plan = _Plan(with_audible(incident), context, now)
    plan.run()
    after, notifications = plan.result()
    if after == incident and not plan.entries:
        return IncidentChange(incident=incident, reason=IncidentReason.NOT_DUE)
    return IncidentChange(
        incident=after,
        reason=IncidentReason.NOTIFIED,
        history=tuple(plan.entries),
        notifications=tuple(notifications),
    )


class _Plan:
    """What is decided so far. Changed in place."""

    def __init__(self, incident: Incident, context: NotificationContext, now: datetime) -> None:
        self._incident = incident
        self._context = context
        self._now = now
        self._receivers = dict(incident.receivers)
        self._escalations = dict(incident.escalations)
        self._messages: dict[ReceiverMessage, list[str]] = {}
        # Until when a receiver waits.
        self._due: dict[str, datetime] = {}
        self._audible = [alert for alert in incident.alerts.values() if alert.audible_version > 0]
        self._live = incident.live_alerts
        self._about = subject_alert_of(incident)
        is_over = not incident.is_open
        self._flapping = {} if is_over else flapping_until(incident, context.flapping, now)
        self._new_flapping = self._flapping.keys() - incident.flapping
        self.entries = [flapping_entry(incident, key, context.flapping, now) for key in sorted(self._new_flapping)]
        # What the history does not name: of a step that is repeated without end.
        self._unrecorded = unrecorded_notifications(incident.escalations.values(), context.directory)
        failed = sorted(context.exhausted - self._unrecorded)
        self.entries += [failed_entry(incident, each, now) for each in failed]

    def run(self) -> None:
        """Decide for all receivers, in the order in which they are notified."""
        if not self._incident.merged_into:
            self._notify_routed()
        self._update_active()
        self._escalate()
        self._acknowledge()
        self._resolve()

    def result(self) -> tuple[Incident, list[IncidentNotification]]:
        """Return the incident afterwards, and the notifications."""
        records = [
            (message, receivers[first : first + _MAX_RECEIVERS])
            for message, receivers in self._messages.items()
            for first in range(0, len(receivers), _MAX_RECEIVERS)
        ]
        numbered = list(enumerate(records, self._incident.sequence + 1))
        for number, (message, _) in numbered:
            if message.step is not None:
                notification_id = notification_id_in(self._incident, message.kind, number)
                self._follow_step(message.step, notification_id)
                if not message.step.is_recorded:
                    self._unrecorded.add(notification_id)
        after = replaced(
            self._incident,
            receivers=self._receivers,
            flapping=frozenset(self._flapping),
            escalations=self._escalations,
            notify_time=min((*self._due.values(), *self._flapping.values(), *self._step_times()), default=None),
            sequence=self._incident.sequence + len(records),
        )
        notifications = [
            message.notification(after, chunk, sequence=number, now=self._now) for number, (message, chunk) in numbered
        ]
        recorded = (each for each in notifications if each.id not in self._unrecorded)
        self.entries += [notified_entry(each, self._now) for each in recorded]
        return after, notifications

    def _step_times(self) -> list[datetime]:
        """Return when steps of escalations begin; while no alert is live they wait."""
        due = (each.due_time for each in self._escalations.values()) if self._live else ()
        return [time for time in due if time is not None]

    def _follow_step(self, step: EscalationMessage, notification_id: str) -> None:
        """Remember a notification of a step, to learn whether it reaches anybody."""
        escalation = self._escalations[step.policy]
        followed = StepNotification(id=notification_id, person=step.person, rest=step.rest)
        notifications = (*escalation.notifications, followed)
        self._escalations[step.policy] = replace(escalation, notifications=notifications)

    def _notify_routed(self) -> None:
        """Notify those that do not know that the incident fires of alerts whose routes name them."""
        for name, news in self._news_of_inactive().items():
            known = self._receivers.get(name)
            is_sudden = [alert for alert in news if not self._is_known_flapping(alert)]
            interval = min(route.bundling_interval for alert in news for route in routes_to(name, alert))
            if known is not None and not is_sudden and not self._live:
                # It knows that this flaps.
                self._receivers[name] = replace(known, version=self._incident.version)
                continue
            if known is not None and not is_sudden and self._now < known.last_time + interval:
                self._due[name] = known.last_time + interval
                continue
            first = worst_alert(is_sudden or news)
            reason = NotifyReason.FLAPPING if flap_key(first) in self._new_flapping else NotifyReason.ROUTED
            comment = words_of_routes(first.routes)
            self._send(name, IncidentNotificationKind.FIRING, reason, comment, first, interval)
            if name == FILE_RECEIVER:
                self._ask_file(news)

    def _news_of_inactive(self) -> dict[str, list[IncidentAlert]]:
        news: dict[str, list[IncidentAlert]] = {}
        for alert in self._audible:
            for name in dict.fromkeys(name for route in alert.routes for name in route.receivers):
                known = self._receivers.get(name)
                if known is None or (not known.is_active and alert.audible_version > known.version):
                    news.setdefault(name, []).append(alert)
        return news

    def _ask_file(self, news: Iterable[IncidentAlert]) -> bool:
        """Notify of alerts that the file may route to other channels; return whether there are any."""
        first: dict[str, IncidentAlert] = {}
        for alert in news:
            first.setdefault(alert.file_route, alert)
        new = [first[each] for each in first.keys() - set(self._receivers[FILE_RECEIVER].file_routes)]
        for alert in sorted(new, key=lambda alert: (-alert.severity, alert.audible_version, alert.fire_time, alert.id)):
            comment = words_of_routes(alert.routes)
            self._send(
                FILE_RECEIVER, IncidentNotificationKind.UPDATED, NotifyReason.ROUTED_BY_FILE, comment, alert, None
            )
        return bool(new)

    def _update_active(self) -> None:
        """Send those that know the incident what is news to them; of the end they are notified otherwise."""
        if not self._live or not self._audible:
            return
        newest = max(max(alert.audible_version, alert.end_version) for alert in self._audible)
        severity = max(alert.severity for alert in self._live)
        for name, known in list(self._receivers.items()):
            is_news = newest > known.version or severity > known.severity or known.cause != self._incident.cause
            if not known.is_active or not is_news:
                continue
            news = [alert for alert in self._live if alert.audible_version > known.version]
            if name == FILE_RECEIVER and self._ask_file(news):
                continue
            due = self._next_update(known, is_new=bool(news))
            if severity > known.severity:
                worst = worst_alert(news or self._live)
                self._update(name, NotifyReason.SEVERITY_RAISED, f"severity {severity.name}", worst)
            elif any(flap_key(alert) in self._new_flapping for alert in news):
                self._update(name, NotifyReason.FLAPPING, "fires too often", self._about)
            elif self._now >= due:
                self._update(name, NotifyReason.BUNDLED, "what changed since the last message", self._about)
            else:
                self._due[name] = due

    def _next_update(self, known: NotifiedReceiver, *, is_new: bool) -> datetime:
        """Return when a receiver may be sent an update.

        Where alerts have ended and nothing else, the end of all may follow, which waits for nothing: so ends alone wait
        for a whole interval.
        """
        due = known.last_time + known.interval
        if is_new:
            return due
        since = known.ended_time or self._now
        self._receivers[known.name] = replace(known, ended_time=since)
        return max(due, since + known.interval)

    def _update(self, name: str, reason: NotifyReason, comment: str, about: IncidentAlert) -> None:
        self._send(name, IncidentNotificationKind.UPDATED, reason, comment, about, None)

    def _escalate(self) -> None:
        """Begin the steps that are due. What flaps does not begin again with the first one each time."""
        routes = [route for alert in self._live for route in alert.routes if route.policy]
        if not self._flapping:
            # It ends with the last alert that it is for; others of the incident may go on.
            named = {route.policy for route in routes}
            self._escalations = {name: each for name, each in self._escalations.items() if name in named}
        if not self._live:
            return
        is_acknowledged = self._incident.state is IncidentState.ACKNOWLEDGED
        if not is_acknowledged:
            for name in dict.fromkeys(route.policy for route in routes):
                if name not in self._escalations:
                    self._escalations[name] = start_escalation(name, self._context.directory, now=self._now)
        for name, escalation in list(self._escalations.items()):
            turn = run_escalation(
                escalation,
                self._context.directory,
                severity=max(alert.severity for alert in self._live),
                is_acknowledged=is_acknowledged,
                exhausted=self._context.exhausted,
                now=self._now,
            )
            self._escalations[name] = turn.escalation
            self.entries += [step_entry(self._incident, *entry, self._now) for entry in turn.entries]
            interval = min((route.bundling_interval for route in routes if route.policy == name), default=None)
            for message in turn.messages:
                self._send_step(message, interval)

    def _send_step(self, message: EscalationMessage, interval: timedelta | None) -> None:
        """Notify the receivers of a step of the whole incident, but for those that are notified anyway."""
        firing = IncidentNotificationKind.FIRING
        notified = {name for each, names in self._messages.items() if each.kind is firing for name in names}
        for name in message.receivers:
            if name not in notified:
                reason = NotifyReason.ESCALATED
                self._send(name, firing, reason, message.comment, self._about, interval, step=message)

    def _acknowledge(self) -> None:
        is_acknowledged = self._incident.state is IncidentState.ACKNOWLEDGED
        by = f"acknowledged by {self._incident.acknowledged_by}"
        for name, known in list(self._receivers.items()):
            if is_acknowledged and known.is_active and not known.is_acknowledged:
                kind = IncidentNotificationKind.ACKNOWLEDGED
                self._send(name, kind, NotifyReason.ACKNOWLEDGED, by, self._about, None)
            knows_it = known.is_active and is_acknowledged
            if self._receivers[name].is_acknowledged is not knows_it:
                self._receivers[name] = replace(self._receivers[name], is_acknowledged=knows_it)

    def _resolve(self) -> None:
        """Notify those that know the incident that no alert is live; where alerts flap, once in the interval."""
        if self._live:
            return
        into = self._incident.merged_into
        reason = NotifyReason.MERGED if into else NotifyReason.ENDED
        by = self._incident.resolved_by
        comment = f"merged into {into}" if into else f"resolved by {by}" if by else "all alerts have ended"
        for name, known in list(self._receivers.items()):
            if not known.is_active:
                continue
            due = known.last_time + known.interval
            if self._flapping and self._now < due:
                self._due[name] = due
                continue
            self._send(name, IncidentNotificationKind.RESOLVED, reason, comment, self._about, None)
            self._receivers[name] = replace(self._receivers[name], is_active=False, is_acknowledged=False)

    def _send(
        self,
        name: str,
        kind: IncidentNotificationKind,
        reason: NotifyReason,
        comment: str,
        about: IncidentAlert,
        interval: timedelta | None,
        *,
        step: EscalationMessage | None = None,
    ) -> None:
        """Notify a receiver: what it is notified of now is no news to it any more."""
        known = self._receivers.get(name)
        # A step is one message to all of its receivers, whatever each knows.
        version = 0 if known is None or step is not None else known.version
        fired = [alert for alert in self._audible if alert.audible_version > version]
        ended = [alert.id for alert in self._audible if alert.end_version > version]
        message = ReceiverMessage(
            kind=kind,
            reason=reason,
            comment=comment,
            alert_id=about.id,
            new_alerts=len(fired),
            ended_alerts=len(ended),
            bundle=AlertBundle(
                fired=tuple(alert.id for alert in fired if alert.end_version <= version), ended=tuple(ended)
            ),
            is_flapping=bool(self._flapping),
            is_by_file=name == FILE_RECEIVER,
            time_zone=self._context.directory.receiver_zones.get(name, ""),
            step=step,
        )
        self._messages.setdefault(message, []).append(name)
        self._due.pop(name, None)
        self._receivers[name] = self._notified(name, known, interval, about)

    def _notified(
        self, name: str, known: NotifiedReceiver | None, interval: timedelta | None, about: IncidentAlert
    ) -> NotifiedReceiver:
        severity = max((alert.severity for alert in self._live), default=about.severity)
        if known is not None and known.is_active:
            severity = max(severity, known.severity)
        routes = known.file_routes if known is not None else ()
        if name == FILE_RECEIVER and about.file_route not in routes:
            routes = (*routes, about.file_route)
        return NotifiedReceiver(
            name=name,
            first_time=self._now if known is None else known.first_time,
            last_time=self._now,
            version=self._incident.version,
            cause=self._incident.cause,
            severity=severity,
            interval=interval or (known.interval if known is not None else FILE_ROUTE.bundling_interval),
            is_active=True,
            is_acknowledged=known is not None and known.is_acknowledged,
            file_routes=routes,
        )

    def _is_known_flapping(self, alert: IncidentAlert) -> bool:
        key = flap_key(alert)
        return key in self._flapping and key not in self._new_flapping
