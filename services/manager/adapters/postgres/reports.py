"""Count alerts, incidents and notifications for reports: one statement each, which reads its rows once."""

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import asyncpg
from asyncpg import Record

from services.chassis.postgres import Database
from services.chassis.tenants import current_tenant
from services.domain.severity import Severity
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
from services.manager.ports.readers import ReportTimeoutError

# ruff: noqa: S608  (made of our own column names)
_LIMIT = timedelta(seconds=8)
# Of one instance at a time: reports leave connections to what cannot wait.
_MAX_REPORTS = 2

# Each section of a report groups the same rows by other keys. A row of the answer has its section's name, the values of
# its keys, and these figures.
_FIGURES = """
count(*) AS count,
count(*) FILTER (WHERE is_acknowledged) AS acknowledged,
count(*) FILTER (WHERE is_resolved) AS resolved,
count(*) FILTER (WHERE is_unattended) AS unattended,
percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY acknowledge_seconds) AS to_acknowledge,
percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY resolve_seconds) AS to_resolve
"""
_UNATTENDED = "count(*) FILTER (WHERE is_unattended)"
_C = 'COLLATE "C"'
_TOP = f"ORDER BY count(*) DESC, keys LIMIT {MAX_REPORT_ROWS}"


def _section(name: str, keys: str, rest: str, *, source: str, extra: str = "") -> str:
    """Return a SELECT of one section: the rows of `source`, grouped and ordered by `rest`."""
    selected = f"'{name}' AS section, ARRAY[{keys}]::text[] {_C} AS keys, {_FIGURES}{extra}"
    return f"(SELECT {selected} FROM {source} {rest})"


# The one of the newest alert.
_NEWEST_NAME = "(array_agg(rule_name ORDER BY fire_time DESC))[1]"
_NEWEST_SERVICE = "(array_agg(service ORDER BY fire_time DESC))[1]"
_ALERT_SECTIONS = " UNION ALL ".join(
    _section(name, keys, rest, source="fired")
    for name, keys, rest in (
        ("TOTAL", "", ""),
        ("SEVERITY", "severity", "GROUP BY severity"),
        ("DAY", "day", "GROUP BY day"),
        ("RULE", f"rule_id, {_NEWEST_NAME}", f"GROUP BY rule_id {_TOP}"),
        ("SERVICE", "service", f"GROUP BY service {_TOP}"),
        (
            "NOISY",
            f"rule_id, {_NEWEST_NAME}",
            f"GROUP BY rule_id HAVING {_UNATTENDED} > 0 {_TOP.replace('count(*)', _UNATTENDED)}",
        ),
        (
            "FLAPPING",
            f"rule_id, {_NEWEST_NAME}, resource, {_NEWEST_SERVICE}",
            f"GROUP BY open_key, rule_id, resource HAVING count(*) >= {MIN_FLAPPING_ALERTS} {_TOP}",
        ),
    )
)
# When somebody acknowledged an incident first, also if that was taken back or has run out since.
_ACKNOWLEDGED = """least(acknowledge_time, (
        SELECT min(entry.create_time) FROM incident_history AS entry
        WHERE entry.incident_id = incidents.id AND entry.kind = 'ACKNOWLEDGED'
    ))"""
_COUNT_ALERTS = f"""
WITH changed AS (
    SELECT id, resolved_by, assignee, {_ACKNOWLEDGED} AS acknowledge_time
    FROM incidents WHERE tenant = $1 AND update_time >= $2
), taken AS (
    -- The alerts of whose incident somebody has taken care.
    SELECT alert_id, min(acknowledge_time) AS acknowledge_time
    FROM changed JOIN incident_alerts ON incident_id = changed.id
    WHERE acknowledge_time IS NOT NULL OR resolved_by <> '' OR assignee <> ''
    GROUP BY alert_id
), fired AS MATERIALIZED (
    SELECT
        rule_id, rule_name, resource, open_key, severity, fire_time,
        coalesce(labels ->> 'service', '') AS service,
        width_bucket(fire_time, $4::timestamptz[]) AS day,
        alerts.acknowledge_time IS NOT NULL OR taken.acknowledge_time IS NOT NULL AS is_acknowledged,
        state = 'RESOLVED' AS is_resolved,
        state = 'RESOLVED' AND resolved_by = '' AND alerts.acknowledge_time IS NULL AND alert_id IS NULL
            AS is_unattended,
        CASE WHEN least(alerts.acknowledge_time, taken.acknowledge_time) >= fire_time THEN
            extract(epoch FROM least(alerts.acknowledge_time, taken.acknowledge_time) - fire_time)::float8
        END AS acknowledge_seconds,
        extract(epoch FROM greatest(resolve_time, fire_time) - fire_time)::float8
            * CASE WHEN resolve_time IS NOT NULL THEN 1 END AS resolve_seconds
    FROM alerts LEFT JOIN taken ON alert_id = alerts.id
    WHERE alerts.tenant = $1 AND fire_time >= $2 AND fire_time < $3 AND superseded_by = ''
)
{_ALERT_SECTIONS}
"""

_INCIDENT_SECTIONS = " UNION ALL ".join(
    _section(name, keys, rest, source="opened", extra=", sum(alert_count) AS alerts")
    for name, keys, rest in (
        ("TOTAL", "", ""),
        ("SEVERITY", "severity", "GROUP BY severity"),
        ("DAY", "day", "GROUP BY day"),
        ("CAUSE", "rule_name, service", f"GROUP BY rule_name, service {_TOP}"),
    )
)
_COUNT_INCIDENTS = f"""
WITH recent AS MATERIALIZED (
    SELECT
        id, severity, cause, create_time, resolve_time, state, resolved_by, assignee, alert_count,
        {_ACKNOWLEDGED} AS acknowledge_time
    FROM incidents
    WHERE tenant = $1 AND create_time >= $2 AND create_time < $3 AND merged_into = ''
), opened AS MATERIALIZED (
    SELECT
        recent.severity, alert_count,
        coalesce(rule_name, '') AS rule_name,
        coalesce(service, '') AS service,
        width_bucket(create_time, $4::timestamptz[]) AS day,
        acknowledge_time IS NOT NULL AS is_acknowledged,
        state = 'RESOLVED' AS is_resolved,
        state = 'RESOLVED' AND resolved_by = '' AND acknowledge_time IS NULL AND assignee = '' AS is_unattended,
        extract(epoch FROM acknowledge_time - create_time)::float8 AS acknowledge_seconds,
        extract(epoch FROM resolve_time - create_time)::float8 AS resolve_seconds
    FROM recent LEFT JOIN incident_alerts ON incident_id = recent.id AND alert_id = cause
)
{_INCIDENT_SECTIONS}
"""

_DELIVERIES = """
count(*) FILTER (WHERE kind = 'NOTIFIED') AS delivered,
count(*) FILTER (WHERE kind = 'NOTIFICATION_FAILED') AS failed
"""
# One that tells of several alerts stands in the history of each. Entries of former releases do not name it.
_COUNT_DELIVERIES = f"""
WITH tried AS MATERIALIZED (
    SELECT DISTINCT ON (kind, channel, create_time, coalesce(nullif(notification_id, ''), id))
        kind, channel, width_bucket(create_time, $3::timestamptz[]) AS day
    FROM alert_history
    WHERE tenant = current_tenant() AND kind IN ('NOTIFIED', 'NOTIFICATION_FAILED')
        AND create_time >= $1 AND create_time < $2
)
(SELECT 'TOTAL' AS section, ARRAY[]::text[] AS keys, {_DELIVERIES} FROM tried)
UNION ALL (SELECT 'DAY' AS section, ARRAY[day]::text[] AS keys, {_DELIVERIES} FROM tried GROUP BY day)
UNION ALL (
    SELECT 'CHANNEL' AS section, ARRAY[channel] COLLATE "C" AS keys, {_DELIVERIES} FROM tried GROUP BY channel
    {_TOP}
)
"""


class PostgresReportReader:
    """Tables alerts, alert_history and incidents; a report may take as long as `limit`."""

    def __init__(self, database: Database, *, limit: timedelta = _LIMIT) -> None:
        self._database = database
        self._limit = limit
        self._turn = asyncio.Semaphore(_MAX_REPORTS)

    async def alerts(self, period: ReportPeriod) -> AlertReport:
        counted = await self._count(_COUNT_ALERTS, current_tenant(), period.start, period.end, period.borders)
        rows = _Sections(counted, period)
        return AlertReport(
            total=rows.total,
            severities=rows.severities,
            days=rows.days,
            rules=[_rule_of(row) for row in rows.of("RULE")],
            services=[(row["keys"][0], _figures_of(row)) for row in rows.of("SERVICE")],
            noisiest_rules=[_rule_of(row) for row in rows.of("NOISY")],
            flapping=[_flapping_of(row) for row in rows.of("FLAPPING")],
        )

    async def incidents(self, period: ReportPeriod) -> IncidentReport:
        counted = await self._count(_COUNT_INCIDENTS, current_tenant(), period.start, period.end, period.borders)
        rows = _Sections(counted, period)
        return IncidentReport(
            total=rows.total,
            severities=rows.severities,
            days=rows.days,
            causes=[_cause_of(row) for row in rows.of("CAUSE")],
        )

    async def notifications(self, period: ReportPeriod) -> NotificationReport:
        rows = await self._count(_COUNT_DELIVERIES, period.start, period.end, period.borders)
        return NotificationReport(
            total=next(_deliveries_of(row) for row in rows if row["section"] == "TOTAL"),
            channels=[(row["keys"][0], _deliveries_of(row)) for row in rows if row["section"] == "CHANNEL"],
            days={_day_of(row, period): _deliveries_of(row) for row in rows if row["section"] == "DAY"},
        )

    async def _count(self, statement: str, *arguments: Any) -> Sequence[Record]:
        """Run a statement that may take longer than others, once: it would not be faster when it is repeated."""
        async with self._turn, self._database.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(f"SET LOCAL statement_timeout = {self._limit // timedelta(milliseconds=1)}")
            try:
                return await connection.fetch(statement, *arguments)
            except asyncpg.QueryCanceledError as error:
                raise ReportTimeoutError from error


class _Sections:
    """The rows of a report by their sections."""

    def __init__(self, rows: Sequence[Record], period: ReportPeriod) -> None:
        self._rows = rows
        self._period = period

    def of(self, section: str) -> list[Record]:
        return [row for row in self._rows if row["section"] == section]

    @property
    def total(self) -> ReportFigures:
        return _figures_of(self.of("TOTAL")[0])

    @property
    def severities(self) -> dict[Severity, ReportFigures]:
        return {Severity[row["keys"][0]]: _figures_of(row) for row in self.of("SEVERITY")}

    @property
    def days(self) -> dict[date, ReportFigures]:
        return {_day_of(row, self._period): _figures_of(row) for row in self.of("DAY")}


def _day_of(row: Record, period: ReportPeriod) -> date:
    # The first bucket has the number 1.
    return period.dates[int(row["keys"][0]) - 1]


def _figures_of(row: Record) -> ReportFigures:
    return ReportFigures(
        count=row["count"],
        acknowledged=row["acknowledged"],
        resolved=row["resolved"],
        unattended=row["unattended"],
        time_to_acknowledge=_spread_of(row["to_acknowledge"]),
        time_to_resolve=_spread_of(row["to_resolve"]),
    )


def _spread_of(seconds: Sequence[float] | None) -> TimeSpread | None:
    if seconds is None:
        return None
    median, p90 = (timedelta(milliseconds=round(each * 1000)) for each in seconds)
    return TimeSpread(median=median, p90=p90)


def _rule_of(row: Record) -> RuleFigures:
    rule_id, rule_name = row["keys"]
    return RuleFigures(rule_id=rule_id, rule_name=rule_name, figures=_figures_of(row))


def _flapping_of(row: Record) -> FlappingFigures:
    rule_id, rule_name, resource, service = row["keys"]
    return FlappingFigures(
        rule_id=rule_id, rule_name=rule_name, resource=resource, service=service, figures=_figures_of(row)
    )


def _cause_of(row: Record) -> CauseFigures:
    rule_name, service = row["keys"]
    return CauseFigures(rule_name=rule_name, service=service, figures=_figures_of(row), alerts=int(row["alerts"]))


def _deliveries_of(row: Record) -> DeliveryFigures:
    return DeliveryFigures(delivered=row["delivered"], failed=row["failed"])
