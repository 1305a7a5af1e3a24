"""ReportService: what happened in some days, counted."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.contract.timestamps import duration_of, timestamp_of
from services.domain.severity import Severity
from services.domain.time_zones import time_zone
from services.manager.core.reports import (
    DEFAULT_REPORT_DAYS,
    MAX_REPORT_DAYS,
    DeliveryFigures,
    ReportFigures,
    ReportPeriod,
    RuleFigures,
    TimeSpread,
)
from services.manager.ports.readers import ReportReader, ReportTimeoutError
from services.manager.rpc.failures import ReportTimedOut
from services.manager.rpc.requests import check_fields, refuse_if_any
from tocsin.reports.v1 import report_pb2 as messages
from tocsin.reports.v1 import report_service_pb2 as pb
from tocsin.reports.v1.report_service_pb2_grpc import ReportServiceServicer, add_ReportServiceServicer_to_server
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_Request = pb.GetAlertReportRequest | pb.GetIncidentReportRequest | pb.GetNotificationReportRequest
_Report = TypeVar("_Report")


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class ReportRpc(ReportServiceServicer):
    """Serves reports."""

    def __init__(self, reader: ReportReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["ReportService"].full_name,
            lambda server: add_ReportServiceServicer_to_server(self, server),
        )

    async def GetAlertReport(self, request: pb.GetAlertReportRequest, _context: Any) -> pb.GetAlertReportResponse:
        period = self._period(request)
        report = (await _counted(self._reader.alerts, period)).whole(period)
        return pb.GetAlertReportResponse(
            period=_period_message(period),
            total=_figures_message(report.total),
            severities=_severity_messages(report.severities),
            days=_day_messages(report.days),
            rules=map(_rule_message, report.rules),
            services=(
                messages.ServiceFigures(service=service, figures=_figures_message(figures))
                for service, figures in report.services
            ),
            noisiest_rules=map(_rule_message, report.noisiest_rules),
            flapping=(
                messages.FlappingFigures(
                    rule_id=each.rule_id,
                    rule_name=each.rule_name,
                    resource=each.resource,
                    service=each.service,
                    figures=_figures_message(each.figures),
                )
                for each in report.flapping
            ),
        )

    async def GetIncidentReport(
        self, request: pb.GetIncidentReportRequest, _context: Any
    ) -> pb.GetIncidentReportResponse:
        period = self._period(request)
        report = (await _counted(self._reader.incidents, period)).whole(period)
        return pb.GetIncidentReportResponse(
            period=_period_message(period),
            total=_figures_message(report.total),
            severities=_severity_messages(report.severities),
            days=_day_messages(report.days),
            causes=(
                messages.CauseFigures(
                    rule_name=each.rule_name,
                    service=each.service,
                    figures=_figures_message(each.figures),
                    alert_count=each.alerts,
                )
                for each in report.causes
            ),
        )

    async def GetNotificationReport(
        self, request: pb.GetNotificationReportRequest, _context: Any
    ) -> pb.GetNotificationReportResponse:
        period = self._period(request)
        report = (await _counted(self._reader.notifications, period)).whole(period)
        return pb.GetNotificationReportResponse(
            period=_period_message(period),
            total=_deliveries_message(report.total),
            channels=(
                messages.ChannelFigures(channel=channel, figures=_deliveries_message(figures))
                for channel, figures in report.channels
            ),
            days=(
                messages.DeliveryDay(date=day.isoformat(), figures=_deliveries_message(figures))
                for day, figures in report.days.items()
            ),
        )

    def _period(self, request: _Request) -> ReportPeriod:
        """Return the days that are asked for; InvalidRequest names each field that is not allowed."""
        check_fields(request)
        problems = []
        days = request.days or DEFAULT_REPORT_DAYS
        if not 1 <= days <= MAX_REPORT_DAYS:
            problems.append(Violation("days", f"is {days}, expected 1 to {MAX_REPORT_DAYS}"))
        zone = time_zone(request.time_zone or "UTC")
        if zone is None:
            expected = "expected a zone such as Europe/Berlin"
            problems.append(Violation("timeZone", f'found "{request.time_zone}", {expected}'))
        refuse_if_any(*problems)
        return ReportPeriod.of(days, zone or ZoneInfo("UTC"), now=self._clock.now())


async def _counted(count: Callable[[ReportPeriod], Awaitable[_Report]], period: ReportPeriod) -> _Report:
    try:
        return await count(period)
    except ReportTimeoutError:
        raise ReportTimedOut("the report takes too long; ask for fewer days") from None


def _period_message(period: ReportPeriod) -> messages.ReportPeriod:
    return messages.ReportPeriod(
        start_time=timestamp_of(period.start), end_time=timestamp_of(period.end), time_zone=period.zone.key
    )


def _figures_message(figures: ReportFigures) -> messages.ReportFigures:
    return messages.ReportFigures(
        count=figures.count,
        acknowledged_count=figures.acknowledged,
        acknowledged_share=round(figures.acknowledged_share, 4),
        resolved_count=figures.resolved,
        unattended_count=figures.unattended,
        time_to_acknowledge=_spread_message(figures.time_to_acknowledge),
        time_to_resolve=_spread_message(figures.time_to_resolve),
    )


def _spread_message(spread: TimeSpread | None) -> messages.TimeSpread | None:
    if spread is None:
        return None
    return messages.TimeSpread(median=duration_of(spread.median), p90=duration_of(spread.p90))


def _severity_messages(severities: Mapping[Severity, ReportFigures]) -> Iterable[messages.SeverityFigures]:
    for severity, figures in severities.items():
        value = AlertRule.Severity.ValueType(severity)
        yield messages.SeverityFigures(severity=value, figures=_figures_message(figures))


def _day_messages(days: Mapping[date, ReportFigures]) -> Iterable[messages.DayFigures]:
    for day, figures in days.items():
        yield messages.DayFigures(date=day.isoformat(), figures=_figures_message(figures))


def _rule_message(each: RuleFigures) -> messages.RuleFigures:
    return messages.RuleFigures(rule_id=each.rule_id, rule_name=each.rule_name, figures=_figures_message(each.figures))


def _deliveries_message(figures: DeliveryFigures) -> messages.DeliveryFigures:
    return messages.DeliveryFigures(delivered_count=figures.delivered, failed_count=figures.failed)
