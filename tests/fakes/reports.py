"""Reports of the store in memory."""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertHistoryKind
from services.manager.core.alert_lifecycle import AlertState
from services.manager.core.incident import Incident, IncidentHistoryKind, IncidentState
from services.manager.core.reports import (
    MAX_REPORT_ROWS,
    MIN_FLAPPING_ALERTS,
    AlertReport,
    CauseFigures,
    DeliveryFigures,
    FlappingFigures,
    IncidentReport,
    NotificationReport,
    ReportFigures,
    ReportPeriod,
    RuleFigures,
    TimeSpread,
)
from tests.fakes.manager import MemoryStore

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What an alert or an incident adds to figures."""

    severity: Severity
    day: date
    is_acknowledged: bool
    is_resolved: bool
    is_unattended: bool
    to_acknowledge: timedelta | None
    to_resolve: timedelta | None
    subject: Any


class MemoryReportReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def alerts(self, period: ReportPeriod) -> AlertReport:
        incidents = [
            replace(incident, acknowledge_time=self._first_acknowledged(incident))
            for incident, _ in self._store.tables.incidents.incidents.values()
        ]
        rows = [
            _counted_alert(alert, [each for each in incidents if alert.id in each.alerts], period)
            for alert in self._store.tables.alerts.values()
            if period.start <= alert.fire_time < period.end and not alert.superseded_by
        ]
        by_rule = _groups(rows, lambda row: row.subject.subject.rule_id)
        noisy = [(key, found) for key, found in by_rule if _figures(found).unattended]
        noisy.sort(key=lambda item: (-_figures(item[1]).unattended, item[0]))
        by_key = _groups(rows, lambda row: (row.subject.subject.rule_id, row.subject.subject.resource))
        return AlertReport(
            total=_figures(rows),
            severities={key: _figures(found) for key, found in _groups(rows, lambda row: row.severity)},
            days={key: _figures(found) for key, found in _groups(rows, lambda row: row.day)},
            rules=[_rule(found) for _, found in by_rule[:MAX_REPORT_ROWS]],
            services=[
                (key, _figures(found))
                for key, found in _groups(rows, lambda row: row.subject.service)[:MAX_REPORT_ROWS]
            ],
            noisiest_rules=[_rule(found) for _, found in noisy[:MAX_REPORT_ROWS]],
            flapping=[_flapping(found) for _, found in by_key if len(found) >= MIN_FLAPPING_ALERTS][:MAX_REPORT_ROWS],
        )

    async def incidents(self, period: ReportPeriod) -> IncidentReport:
        rows = [
            _counted_incident(replace(incident, acknowledge_time=self._first_acknowledged(incident)), period)
            for incident, _ in self._store.tables.incidents.incidents.values()
            if period.start <= incident.create_time < period.end and not incident.merged_into
        ]
        causes = _groups(rows, lambda row: (_cause(row).rule_name, _cause(row).service))
        return IncidentReport(
            total=_figures(rows),
            severities={key: _figures(found) for key, found in _groups(rows, lambda row: row.severity)},
            days={key: _figures(found) for key, found in _groups(rows, lambda row: row.day)},
            causes=[
                CauseFigures(
                    rule_name=key[0],
                    service=key[1],
                    figures=_figures(found),
                    alerts=sum(len(row.subject.alerts) for row in found),
                )
                for key, found in causes[:MAX_REPORT_ROWS]
            ],
        )

    def _first_acknowledged(self, incident: Incident) -> datetime | None:
        """Return when somebody acknowledged it first, also if that was taken back or has run out since."""
        times = [
            entry.create_time
            for entry in self._store.tables.incidents.history.values()
            if entry.incident_id == incident.id and entry.kind is IncidentHistoryKind.ACKNOWLEDGED
        ]
        return min((*times, *([incident.acknowledge_time] if incident.acknowledge_time else [])), default=None)

    async def notifications(self, period: ReportPeriod) -> NotificationReport:
        kinds = (AlertHistoryKind.NOTIFIED, AlertHistoryKind.NOTIFICATION_FAILED)
        entries = [
            entry
            for entry in self._store.tables.history.values()
            if entry.kind in kinds and period.start <= entry.create_time < period.end
        ]
        # Each once, also where it tells of several alerts.
        rows = {(each.kind, each.channel, each.create_time, each.notification_id or each.id): each for each in entries}

        def counted(found: Iterable[Any]) -> DeliveryFigures:
            delivered = [entry.kind is AlertHistoryKind.NOTIFIED for entry in found]
            return DeliveryFigures(delivered=sum(delivered), failed=len(delivered) - sum(delivered))

        return NotificationReport(
            total=counted(rows.values()),
            channels=[(key, counted(found)) for key, found in _groups(rows.values(), lambda entry: entry.channel)],
            days={
                key: counted(found)
                for key, found in _groups(rows.values(), lambda entry: _day(entry.create_time, period))
            },
        )


def _groups(rows: Iterable[_T], key_of: Callable[[_T], _K]) -> list[tuple[_K, list[_T]]]:
    """Return the rows by a key, the largest groups first, then in the order of their keys."""
    found: dict[_K, list[_T]] = {}
    for row in rows:
        found.setdefault(key_of(row), []).append(row)
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def _figures(rows: Sequence[_Counted]) -> ReportFigures:
    return ReportFigures(
        count=len(rows),
        acknowledged=sum(row.is_acknowledged for row in rows),
        resolved=sum(row.is_resolved for row in rows),
        unattended=sum(row.is_unattended for row in rows),
        time_to_acknowledge=_spread([row.to_acknowledge for row in rows if row.to_acknowledge is not None]),
        time_to_resolve=_spread([row.to_resolve for row in rows if row.to_resolve is not None]),
    )


def _spread(times: Sequence[timedelta]) -> TimeSpread | None:
    return TimeSpread(median=_percentile(times, 0.5), p90=_percentile(times, 0.9)) if times else None


def _percentile(times: Sequence[timedelta], share: float) -> timedelta:
    """Return a percentile, in between two neighbours where it lies between them, to the millisecond."""
    ordered = sorted(time.total_seconds() for time in times)
    place = share * (len(ordered) - 1)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return timedelta(milliseconds=round((low + (high - low) * (place - int(place))) * 1000))


def _counted_alert(alert: Alert, incidents: Sequence[Incident], period: ReportPeriod) -> _Counted:
    times = [each.acknowledge_time for each in incidents if each.acknowledge_time]
    acknowledged = min([*times, *([alert.acknowledge_time] if alert.acknowledge_time else [])], default=None)
    is_taken = any(each.acknowledge_time or each.resolved_by or each.assignee for each in incidents)
    is_resolved = alert.status.state is AlertState.RESOLVED
    return _Counted(
        severity=alert.subject.severity,
        day=_day(alert.fire_time, period),
        is_acknowledged=acknowledged is not None,
        is_resolved=is_resolved,
        is_unattended=is_resolved and not alert.resolved_by and alert.acknowledge_time is None and not is_taken,
        to_acknowledge=acknowledged - alert.fire_time if acknowledged and acknowledged >= alert.fire_time else None,
        to_resolve=max(alert.resolve_time - alert.fire_time, timedelta()) if alert.resolve_time else None,
        subject=alert,
    )


def _counted_incident(incident: Incident, period: ReportPeriod) -> _Counted:
    acknowledged, resolved = incident.acknowledge_time, incident.resolve_time
    is_resolved = incident.state is IncidentState.RESOLVED
    return _Counted(
        severity=incident.severity,
        day=_day(incident.create_time, period),
        is_acknowledged=acknowledged is not None,
        is_resolved=is_resolved,
        is_unattended=is_resolved and not (incident.resolved_by or acknowledged or incident.assignee),
        to_acknowledge=acknowledged - incident.create_time if acknowledged else None,
        to_resolve=resolved - incident.create_time if resolved else None,
        subject=incident,
    )


def _cause(row: _Counted) -> Any:
    return row.subject.alerts[row.subject.cause]


def _day(time: datetime, period: ReportPeriod) -> date:
    return period.dates[bisect_right(period.borders, time) - 1]


def _newest(rows: Sequence[_Counted]) -> Alert:
    newest: Alert = max((row.subject for row in rows), key=lambda alert: alert.fire_time)
    return newest


def _rule(rows: Sequence[_Counted]) -> RuleFigures:
    subject = _newest(rows).subject
    return RuleFigures(rule_id=subject.rule_id, rule_name=subject.rule_name, figures=_figures(rows))


def _flapping(rows: Sequence[_Counted]) -> FlappingFigures:
    newest = _newest(rows)
    return FlappingFigures(
        rule_id=newest.subject.rule_id,
        rule_name=newest.subject.rule_name,
        resource=newest.subject.resource,
        service=newest.service,
        figures=_figures(rows),
    )
