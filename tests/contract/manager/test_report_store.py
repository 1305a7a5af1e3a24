"""What the manager relies on from the store when it reports, in memory and in PostgreSQL alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.domain.severity import Severity
from services.manager.adapters.postgres.reports import PostgresReportReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert, AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_changes import AlertChange
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.incident import Incident, IncidentAlert, IncidentState
from services.manager.core.incident_changes import (
    IncidentChange,
    IncidentReason,
    acknowledge,
    expire_acknowledgement,
    unacknowledge,
)
from services.manager.core.reports import MAX_REPORT_ROWS, ReportFigures, ReportPeriod, TimeSpread
from services.manager.ports.readers import ReportReader, ReportTimeoutError
from services.manager.ports.tables import Store
from tests.fakes.manager import MemoryStore
from tests.fakes.reports import MemoryReportReader
from tests.fakes.transitions import a_subject, a_transition

BERLIN = ZoneInfo("Europe/Berlin")
# Two days after the clock went back in Berlin.
NOW = datetime(2026, 10, 27, 11, 0, tzinfo=UTC)
PERIOD = ReportPeriod.of(5, BERLIN, now=NOW)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SEVERITIES = list(Severity)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    reports: ReportReader


def an_alert(n: int, *, rule: str = "rule", resource: str = "shop", fired: datetime | None = None) -> Alert:
    fired = fired or NOW - HOUR - n * MINUTE
    subject = a_subject(resource, rule_id=rule, severity=SEVERITIES[n % 4])
    subject = replace(subject, rule_name=f"{rule} \N{SNOWMAN} {n % 3}", open_key=f"{rule}|{resource}")
    return Alert(
        id=f"alert-{n}",
        subject=subject,
        status=AlertStatus(state=AlertState.FIRING, last_firing=a_transition().evaluation),
        fire_time=fired,
        update_time=fired,
    )


def acknowledged(alert: Alert, after: timedelta) -> Alert:
    state = replace(alert.status, state=AlertState.ACKNOWLEDGED)
    return replace(alert, status=state, acknowledge_time=alert.fire_time + after, acknowledged_by="ann")


def resolved(alert: Alert, after: timedelta, by: str = "") -> Alert:
    state = replace(alert.status, state=AlertState.RESOLVED)
    return replace(alert, status=state, resolve_time=alert.fire_time + after, resolved_by=by)


def an_incident(n: int, alerts: list[Alert], *, opened: datetime = NOW - HOUR) -> Incident:
    members = [
        IncidentAlert(
            id=alert.id,
            rule_name=alert.subject.rule_name,
            service=alert.service,
            resource=alert.subject.resource,
            severity=alert.subject.severity,
            labels={},
            fire_time=alert.fire_time,
            is_open=alert.is_open,
        )
        for alert in alerts
    ]
    return Incident(
        id=f"incident-{n}",
        state=IncidentState.OPEN,
        alerts={member.id: member for member in members},
        create_time=opened,
        update_time=opened,
        cause=members[0].id,
    )


async def put(stored: Stored, *alerts: Alert, incidents: tuple[Incident, ...] = ()) -> None:
    async with stored.store.transaction() as transaction:
        await transaction.alerts.save([(AlertChange(alert=alert), []) for alert in alerts])
        revision = await transaction.incidents.lock()
        await transaction.incidents.save(
            [IncidentChange(incident=each, reason=IncidentReason.OPENED) for each in incidents], revision, before={}
        )


class ReportContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_alerts_are_counted_and_their_times_are_spread(self, stored: Stored) -> None:
        taken = an_alert(4, rule="taken")
        await put(
            stored,
            *(resolved(acknowledged(an_alert(n), (n + 1) * MINUTE), (n + 1) * HOUR) for n in range(3)),
            resolved(an_alert(3, rule="noisy"), HOUR),
            resolved(taken, HOUR),
            resolved(an_alert(5, rule="by hand"), HOUR, "ann"),
            replace(resolved(an_alert(6, rule="superseded"), HOUR), superseded_by="alert-5"),
            an_alert(7, rule="before", fired=PERIOD.start - MINUTE),
            an_alert(8, rule="after", fired=NOW),
            an_alert(9, rule="open", fired=PERIOD.start),
            incidents=(
                replace(an_incident(1, [taken]), acknowledge_time=taken.fire_time + 4 * MINUTE, update_time=NOW),
            ),
        )
        report = await stored.reports.alerts(PERIOD)
        assert report.total == ReportFigures(
            count=7,
            acknowledged=4,
            resolved=6,
            unattended=1,
            time_to_acknowledge=TimeSpread(median=timedelta(minutes=2.5), p90=timedelta(minutes=3.7)),
            time_to_resolve=TimeSpread(median=HOUR, p90=2.5 * HOUR),
        )
        assert report.total.acknowledged_share == 4 / 7
        assert [(each.rule_id, each.rule_name, each.figures.count) for each in report.rules[:2]] == [
            ("rule", "rule \N{SNOWMAN} 0", 3),
            ("by hand", "by hand \N{SNOWMAN} 2", 1),
        ]
        assert [each.rule_id for each in report.noisiest_rules] == ["noisy"]
        assert [(each.rule_id, each.resource, each.service) for each in report.flapping] == [("rule", "shop", "shop")]
        assert report.days == {PERIOD.dates[0]: ReportFigures(count=1), PERIOD.dates[-1]: report.days[PERIOD.dates[-1]]}

    async def test_nothing_is_a_report_too(self, stored: Stored) -> None:
        alerts = await stored.reports.alerts(PERIOD)
        assert (alerts.total, alerts.days, alerts.rules) == (ReportFigures(), {}, [])
        assert (await stored.reports.incidents(PERIOD)).total == ReportFigures()
        assert (await stored.reports.notifications(PERIOD)).total.delivered == 0

    async def test_days_are_those_of_the_zone_when_its_clock_changes(self, stored: Stored) -> None:
        borders = [datetime(2026, 10, day, tzinfo=BERLIN).astimezone(UTC) for day in (25, 26)]
        assert borders[1] - borders[0] == 25 * HOUR
        fired = [borders[0] - MINUTE, borders[0], borders[1] - MINUTE, borders[1]]
        await put(stored, *(an_alert(n, rule=f"r{n}", fired=time) for n, time in enumerate(fired)))
        report = await stored.reports.alerts(PERIOD)
        assert {day.day: figures.count for day, figures in report.days.items()} == {24: 1, 25: 2, 26: 1}

    async def test_an_alert_that_fired_after_the_acknowledgement_has_no_time_to_it(self, stored: Stored) -> None:
        late = an_alert(1)
        incident = replace(an_incident(1, [late]), acknowledge_time=late.fire_time - MINUTE, update_time=NOW)
        await put(stored, late, incidents=(incident,))
        total = (await stored.reports.alerts(PERIOD)).total
        assert (total.acknowledged, total.time_to_acknowledge) == (1, None)

    async def test_an_acknowledgement_that_was_taken_back_or_has_run_out_counts(self, stored: Stored) -> None:
        alerts = [resolved(an_alert(n, rule=f"r{n}"), HOUR) for n in range(2)]
        await put(stored, *alerts, incidents=(an_incident(0, alerts),))
        at = NOW - HOUR + 10 * MINUTE
        first = acknowledge(an_incident(0, alerts), actor="ann", comment="", until=at + MINUTE, now=at)
        over = expire_acknowledgement(first.incident, now=at + MINUTE)
        again = acknowledge(over.incident, actor="ann", comment="", until=None, now=at + 5 * MINUTE)
        back = unacknowledge(again.incident, actor="ben", comment="", now=at + 6 * MINUTE)
        async with stored.store.transaction() as transaction:
            for change in (first, over, again, back):
                revision = await transaction.incidents.lock()
                await transaction.incidents.save([change], revision, before={})
        incidents = (await stored.reports.incidents(PERIOD)).total
        assert (incidents.acknowledged, incidents.unattended) == (1, 0)
        assert incidents.time_to_acknowledge == TimeSpread(median=10 * MINUTE, p90=10 * MINUTE)
        fired = (await stored.reports.alerts(PERIOD)).total
        assert (fired.acknowledged, fired.unattended) == (2, 0)

    async def test_incidents_are_counted_by_their_causes(self, stored: Stored) -> None:
        alerts = [an_alert(n, resource="ab"[n % 2], rule=f"r{n % 2}") for n in range(6)]
        alerts = [resolved(alert, HOUR) for alert in alerts]
        opened = [replace(an_incident(n, alerts[n:]), state=IncidentState.RESOLVED, resolve_time=NOW) for n in range(6)]
        opened[1] = replace(opened[1], acknowledge_time=NOW - 30 * MINUTE)
        opened[2] = replace(opened[2], resolved_by="ann")
        opened[3] = replace(opened[3], assignee="ann")
        opened[4] = replace(opened[4], merged_into="incident-1")
        opened[5] = replace(opened[5], create_time=PERIOD.start - MINUTE)
        await put(stored, *alerts, incidents=tuple(opened))
        report = await stored.reports.incidents(PERIOD)
        assert report.total == ReportFigures(
            count=4,
            acknowledged=1,
            resolved=4,
            unattended=1,
            time_to_acknowledge=TimeSpread(median=30 * MINUTE, p90=30 * MINUTE),
            time_to_resolve=TimeSpread(median=HOUR, p90=HOUR),
        )
        assert [(each.service, each.figures.count, each.alerts) for each in report.causes] == [
            ("a", 1, 6),
            ("a", 1, 4),
            ("b", 1, 3),
            ("b", 1, 5),
        ]
        assert sum(figures.count for figures in report.severities.values()) == 4

    async def test_notifications_are_counted_by_channel_and_outcome(self, stored: Stored) -> None:
        await put(stored, an_alert(1))
        kinds = [AlertHistoryKind.NOTIFIED, AlertHistoryKind.NOTIFIED, AlertHistoryKind.NOTIFICATION_FAILED]
        entries = [
            AlertHistoryEntry(
                id=f"entry-{n}",
                alert_id="alert-1",
                kind=[*kinds, AlertHistoryKind.REPEATED][n % 4],
                create_time=NOW - n * HOUR,
                channel="pagerduty" if n < 5 else "slack",
            )
            for n in range(24)
        ]
        async with stored.store.transaction() as transaction:
            await transaction.alerts.insert_history(entries)
        report = await stored.reports.notifications(PERIOD)
        # The one at this moment is of the next report.
        assert (report.total.delivered, report.total.failed) == (11, 6)
        assert [(name, each.delivered, each.failed) for name, each in report.channels] == [
            ("slack", 9, 5),
            ("pagerduty", 2, 1),
        ]
        assert sum(each.delivered for each in report.days.values()) == 11

    async def test_a_notification_of_several_alerts_is_counted_once_for_each_channel(self, stored: Stored) -> None:
        await put(stored, an_alert(1), an_alert(2, resource="mail"))
        entries = [
            AlertHistoryEntry(
                id=f"{channel} {alert_id} {at}",
                alert_id=alert_id,
                kind=AlertHistoryKind.NOTIFICATION_FAILED,
                create_time=at,
                channel=channel,
                notification_id="n",
            )
            for channel in ("slack", "email")
            for alert_id in ("alert-1", "alert-2")
            for at in (NOW - HOUR, NOW - MINUTE)
        ]
        async with stored.store.transaction() as transaction:
            await transaction.alerts.insert_history(entries)
        report = await stored.reports.notifications(PERIOD)
        assert [(name, each.failed) for name, each in report.channels] == [("email", 2), ("slack", 2)]
        assert report.total.failed == 4

    async def test_lists_are_bounded_and_agree_with_the_values(self, stored: Stored) -> None:
        """So many that each list is cut, in an order that ties do not change."""
        alerts = []
        for n in range(400):
            fired = NOW - (n * 17 % 7000 + 1) * MINUTE
            alert = an_alert(n, rule=f"rule-{n * n % 41}", resource=f"resource-{n % 53}", fired=fired)
            if n % 5 < 2:
                alert = acknowledged(alert, (n % 7) * MINUTE)
            alerts.append(resolved(alert, (n % 11) * MINUTE, "ann" if n % 13 == 0 else ""))
        incidents = tuple(
            replace(an_incident(n, alerts[n * 4 : n * 4 + 3]), acknowledge_time=NOW - n * MINUTE if n % 3 else None)
            for n in range(100)
        )
        await put(stored, *alerts, incidents=incidents)
        expected_of = MemoryStore()
        await put(Stored(expected_of, stored.reports), *alerts, incidents=incidents)
        expected = MemoryReportReader(expected_of)
        found = await stored.reports.alerts(PERIOD)
        assert found == await expected.alerts(PERIOD)
        assert len(found.rules) == len(found.services) == len(found.noisiest_rules) == MAX_REPORT_ROWS
        assert await stored.reports.incidents(PERIOD) == await expected.incidents(PERIOD)


class TestMemoryReports(ReportContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryReportReader(store))


@pytest.mark.integration
class TestPostgresReports(ReportContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresReportReader(opened))

    async def test_a_report_that_takes_too_long_is_given_up(self, database: str) -> None:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            async with opened.connection() as blocking, blocking.transaction():
                await blocking.execute("LOCK TABLE alerts")
                reports = PostgresReportReader(opened, limit=timedelta(milliseconds=50))
                with pytest.raises(ReportTimeoutError):
                    await reports.alerts(PERIOD)
            assert (await PostgresReportReader(opened).alerts(PERIOD)).total.count == 0
