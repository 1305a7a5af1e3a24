"""Reports: which days they are about, and what is counted of these.

A report is about the last days by the calendar of a time zone, the last one of which is today, so far. The store counts
alerts, incidents and deliveries between instants; the borders of the days are decided here, so that days on which the
clock changes have 23 or 25 hours. The store returns counts of what there is; here each day has its row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from services.domain.severity import Severity

DEFAULT_REPORT_DAYS = 7
MAX_REPORT_DAYS = 92
# Of each list that could be long.
MAX_REPORT_ROWS = 20
# A rule that has fired so often for one resource, and ended each time but perhaps the last, flaps.
MIN_FLAPPING_ALERTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPeriod:
    """The days of a report."""

    zone: ZoneInfo
    # In UTC.
    end: datetime
    dates: tuple[date, ...]
    # When each of the days begins, in UTC.
    borders: tuple[datetime, ...]

    @classmethod
    def of(cls, days: int, zone: ZoneInfo, *, now: datetime) -> Self:
        """Return the last days, of which today is one."""
        today = now.astimezone(zone).date()
        dates = tuple(today - timedelta(days=before) for before in range(days - 1, -1, -1))
        borders = tuple(datetime.combine(day, time(), zone).astimezone(UTC) for day in dates)
        return cls(zone=zone, end=now, dates=dates, borders=borders)

    @property
    def start(self) -> datetime:
        """Return the beginning of the first day."""
        return self.borders[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpread:
    """What times have in common: half of them, and nine in ten, are at most as long."""

    median: timedelta
    p90: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigures:
    """Some alerts or incidents, counted. `unattended` ended by themselves, and nobody has taken them."""

    count: int = 0
    acknowledged: int = 0
    resolved: int = 0
    unattended: int = 0
    time_to_acknowledge: TimeSpread | None = None
    time_to_resolve: TimeSpread | None = None

    @property
    def acknowledged_share(self) -> float:
        """Return the share of those that somebody acknowledged; 0 where there is none."""
        return self.acknowledged / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFigures:
    """The alerts of one rule; its name is that of the newest."""

    rule_id: str
    rule_name: str
    figures: ReportFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class FlappingFigures:
    """The alerts of one rule and resource, which fire and end often."""

    rule_id: str
    rule_name: str
    resource: str
    service: str
    figures: ReportFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseFigures:
    """The incidents of one probable cause, and how many alerts they have."""

    rule_name: str
    service: str
    figures: ReportFigures
    alerts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReport:
    """What fired. Days and severities without alerts may be missing."""

    total: ReportFigures
    severities: Mapping[Severity, ReportFigures]
    days: Mapping[date, ReportFigures]
    rules: Sequence[RuleFigures]
    services: Sequence[tuple[str, ReportFigures]]
    noisiest_rules: Sequence[RuleFigures]
    flapping: Sequence[FlappingFigures]

    def whole(self, period: ReportPeriod) -> Self:
        """Return the report with each day of its period, and the severities from the highest."""
        days = {day: self.days.get(day, ReportFigures()) for day in period.dates}
        return replace(self, days=days, severities=_highest_first(self.severities))


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentReport:
    """What was opened. Days and severities without incidents may be missing."""

    total: ReportFigures
    severities: Mapping[Severity, ReportFigures]
    days: Mapping[date, ReportFigures]
    causes: Sequence[CauseFigures]

    def whole(self, period: ReportPeriod) -> Self:
        """Return the report with each day of its period, and the severities from the highest."""
        days = {day: self.days.get(day, ReportFigures()) for day in period.dates}
        return replace(self, days=days, severities=_highest_first(self.severities))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFigures:
    """What became of some notifications."""

    delivered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationReport:
    """What was delivered and failed. Days without notifications may be missing."""

    total: DeliveryFigures
    channels: Sequence[tuple[str, DeliveryFigures]]
    days: Mapping[date, DeliveryFigures]

    def whole(self, period: ReportPeriod) -> Self:
        """Return the report with each day of its period."""
        return replace(self, days={day: self.days.get(day, DeliveryFigures()) for day in period.dates})


def _highest_first(severities: Mapping[Severity, ReportFigures]) -> dict[Severity, ReportFigures]:
    return {severity: severities[severity] for severity in sorted(severities, reverse=True)}
