"""Reports: the days that they are about, and the service on a store in memory."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import InvalidRequest
from services.domain.severity import Severity
from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.reports import (
    MAX_REPORT_DAYS,
    AlertReport,
    DeliveryFigures,
    IncidentReport,
    NotificationReport,
    ReportFigures,
    ReportPeriod,
)
from services.manager.ports.readers import ReportTimeoutError
from services.manager.rpc.failures import ReportTimedOut
from services.manager.rpc.reports import ReportRpc
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.reports import MemoryReportReader
from tests.fakes.transitions import a_subject, a_transition
from tocsin.reports.v1 import report_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 10, 26, 23, 30, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia"]
TWO_DAYS = ReportPeriod.of(2, BERLIN, now=NOW)
MINUTE = timedelta(minutes=1)


def test_days_are_those_of_the_zone_and_have_as_many_hours_as_there() -> None:
    assert ReportPeriod.of(1, ZoneInfo("UTC"), now=NOW).dates == (date(2026, 10, 26),)
    period = ReportPeriod.of(3, BERLIN, now=NOW)
    assert period.dates == (date(2026, 10, 25), date(2026, 10, 26), date(2026, 10, 27))
    assert period.start == datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert [after - before for before, after in zip(period.borders, period.borders[1:], strict=False)] == [
        timedelta(hours=25),
        timedelta(hours=24),
    ]


@given(
    st.integers(1, MAX_REPORT_DAYS),
    st.sampled_from(ZONES),
    st.integers(0, 100 * 365 * 24 * 60).map(lambda minutes: datetime(2000, 1, 1, tzinfo=UTC) + minutes * MINUTE),
)
def test_the_days_follow_each_other_up_to_now(days: int, zone: str, now: datetime) -> None:
    period = ReportPeriod.of(days, ZoneInfo(zone), now=now)
    assert len(period.dates) == len(period.borders) == days
    assert list(period.borders) == sorted(period.borders)
    assert period.start <= period.borders[-1] <= now < period.borders[-1] + timedelta(hours=26)


def test_each_day_has_a_row_and_the_highest_severity_comes_first() -> None:
    some = ReportFigures(count=4, acknowledged=1)
    assert some.acknowledged_share == 0.25
    assert ReportFigures().acknowledged_share == 0
    days = {date(2026, 10, 27): some}
    expected = {date(2026, 10, 26): ReportFigures(), date(2026, 10, 27): some}
    severities = {Severity.LOW: some, Severity.CRITICAL: some}
    alerts = AlertReport(
        total=some, severities=severities, days=days, rules=[], services=[], noisiest_rules=[], flapping=[]
    ).whole(TWO_DAYS)
    assert list(alerts.days.items()) == list(expected.items())
    assert list(alerts.severities) == [Severity.CRITICAL, Severity.LOW]
    incidents = IncidentReport(total=some, severities=severities, days=days, causes=[]).whole(TWO_DAYS)
    assert list(incidents.days.items()) == list(expected.items())
    assert list(incidents.severities) == [Severity.CRITICAL, Severity.LOW]
    deliveries = NotificationReport(total=DeliveryFigures(), channels=[], days={}).whole(TWO_DAYS)
    assert list(deliveries.days) == list(TWO_DAYS.dates)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def reports(store: MemoryStore) -> ReportRpc:
    return ReportRpc(MemoryReportReader(store), FakeClock(NOW))


def put_alert(store: MemoryStore) -> str:
    status = AlertStatus(state=AlertState.RESOLVED, last_firing=a_transition().evaluation)
    alert = open_alert(a_subject("x" * 300), "t", status, now=NOW).alert
    alert = replace(alert, fire_time=NOW - 10 * MINUTE, resolve_time=NOW)
    store.tables.alerts[alert.id] = alert
    return alert.id


async def test_a_report_of_alerts(store: MemoryStore, reports: ReportRpc) -> None:
    put_alert(store)
    report = await reports.GetAlertReport(pb.GetAlertReportRequest(days=2, time_zone="Europe/Berlin"), None)
    assert report.period.start_time.ToDatetime(UTC) == datetime(2026, 10, 25, 23, tzinfo=UTC)
    assert (report.period.end_time.ToDatetime(UTC), report.period.time_zone) == (NOW, "Europe/Berlin")
    assert (report.total.count, report.total.unattended_count, report.total.acknowledged_share) == (1, 1, 0)
    assert not report.total.HasField("time_to_acknowledge")
    assert report.total.time_to_resolve.median.seconds == 600
    assert [(row.date, row.figures.count) for row in report.days] == [("2026-10-26", 0), ("2026-10-27", 1)]
    assert [row.severity for row in report.severities] == [AlertRule.HIGH]
    assert [row.rule_id for row in report.noisiest_rules] == ["rule-1"]


async def test_without_days_and_zone_it_is_about_seven_days_of_utc(reports: ReportRpc) -> None:
    assert len((await reports.GetAlertReport(pb.GetAlertReportRequest(), None)).days) == 7
    incidents = await reports.GetIncidentReport(pb.GetIncidentReportRequest(), None)
    assert (len(incidents.days), incidents.period.time_zone, len(incidents.causes)) == (7, "UTC", 0)


async def test_a_report_of_notifications(store: MemoryStore, reports: ReportRpc) -> None:
    alert_id = put_alert(store)
    for n, kind in enumerate((AlertHistoryKind.NOTIFIED, AlertHistoryKind.NOTIFICATION_FAILED)):
        entry = AlertHistoryEntry(id=str(n), alert_id=alert_id, kind=kind, create_time=NOW - MINUTE, channel="slack")
        store.tables.history[entry.id] = entry
    report = await reports.GetNotificationReport(pb.GetNotificationReportRequest(days=1), None)
    assert (report.total.delivered_count, report.total.failed_count) == (1, 1)
    assert [(row.channel, row.figures.failed_count) for row in report.channels] == [("slack", 1)]
    assert [(row.date, row.figures.delivered_count) for row in report.days] == [("2026-10-26", 1)]


async def test_a_wrong_request_is_refused_with_each_field(reports: ReportRpc) -> None:
    for days, zone in ((93, "Mars/Base"), (-1, "../etc/passwd"), (93, "/etc/passwd")):
        with pytest.raises(InvalidRequest) as refused:
            await reports.GetIncidentReport(pb.GetIncidentReportRequest(days=days, time_zone=zone), None)
        assert [violation.field for violation in refused.value.violations] == ["days", "timeZone"]
    with pytest.raises(InvalidRequest):
        await reports.GetAlertReport(pb.GetAlertReportRequest(time_zone="UTC\0"), None)


async def test_a_report_that_takes_too_long_is_a_failure(store: MemoryStore) -> None:
    class SlowReader(MemoryReportReader):
        async def alerts(self, period: ReportPeriod) -> AlertReport:  # noqa: ARG002  (the port's)
            raise ReportTimeoutError

    with pytest.raises(ReportTimedOut):
        await ReportRpc(SlowReader(store), FakeClock(NOW)).GetAlertReport(pb.GetAlertReportRequest(), None)
