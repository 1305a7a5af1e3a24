"""tocsin report: what happened in the last days, as tables with bars."""

from collections.abc import Iterable, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from rich.text import Text

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, open_channel
from cli.output import (
    SEVERITY_STYLE,
    OutputFormat,
    OutputOption,
    format_styled,
    format_timestamp,
    json_of,
    print_data,
    print_table,
    stdout,
)
from services.contract.timestamps import timedelta_of
from tocsin.reports.v1 import report_service_pb2 as service
from tocsin.reports.v1.report_pb2 import DeliveryFigures, ReportFigures, ReportPeriod, TimeSpread
from tocsin.reports.v1.report_service_pb2_grpc import ReportServiceStub
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_BAR_WIDTH = 16
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

_Cell = str | Text
# The cells that name a row, and what is counted in it.
_Row = tuple[Sequence[_Cell], ReportFigures]


class SectionChoice(StrEnum):
    """The reports that there are."""

    ALERTS = "alerts"
    INCIDENTS = "incidents"
    NOTIFICATIONS = "notifications"


def print_reports(
    sections: Annotated[
        list[SectionChoice] | None, typer.Argument(help="What to report; everything if none is named.")
    ] = None,
    *,
    days: Annotated[int, typer.Option("--days", "-d", min=1, max=92, help="How many days; today is the last one.")] = 7,
    zone: Annotated[str, typer.Option("--zone", help="The zone whose days are meant, such as Europe/Berlin.")] = "UTC",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Report what happened in the last days: alerts, incidents, and who was notified."""
    wanted = set(sections or SectionChoice)
    with open_channel(server, output) as channel:
        stub = ReportServiceStub(channel)
        alerts = incidents = notifications = None
        if SectionChoice.ALERTS in wanted:
            request = service.GetAlertReportRequest(days=days, time_zone=zone)
            alerts = stub.GetAlertReport(request, timeout=RPC_TIMEOUT_S)
        if SectionChoice.INCIDENTS in wanted:
            opened = service.GetIncidentReportRequest(days=days, time_zone=zone)
            incidents = stub.GetIncidentReport(opened, timeout=RPC_TIMEOUT_S)
        if SectionChoice.NOTIFICATIONS in wanted:
            tried = service.GetNotificationReportRequest(days=days, time_zone=zone)
            notifications = stub.GetNotificationReport(tried, timeout=RPC_TIMEOUT_S)
    reports = (("alerts", alerts), ("incidents", incidents), ("notifications", notifications))
    if output.is_data:
        print_data({name: json_of(report) for name, report in reports if report is not None}, output)
        return
    is_wide = output is OutputFormat.WIDE
    _print_period(next(report.period for _, report in reports if report is not None))
    if alerts is not None:
        _print_alert_report(alerts, wide=is_wide)
    if incidents is not None:
        _print_incident_report(incidents, wide=is_wide)
    if notifications is not None:
        _print_notification_report(notifications, wide=is_wide)


def _print_period(period: ReportPeriod) -> None:
    begin, end = format_timestamp(period.start_time), format_timestamp(period.end_time)
    stdout.print(f"From {begin} to {end} UTC; days of {period.time_zone}.")


def _print_alert_report(report: service.GetAlertReportResponse, *, wide: bool) -> None:
    _print_figures("Alerts", [""], [(["all"], report.total)], wide=wide)
    if not report.total.count:
        return
    _print_figures("Alerts by day", ["Day"], ((_day(row.date), row.figures) for row in report.days), wide=wide)
    severities = (([_severity(row.severity)], row.figures) for row in report.severities)
    _print_figures("Alerts by severity", ["Severity"], severities, wide=wide)
    rules = (([row.rule_name], row.figures) for row in report.rules)
    _print_figures("Rules with the most alerts", ["Rule"], rules, wide=wide)
    services = (([row.service or "-"], row.figures) for row in report.services)
    _print_figures("Services with the most alerts", ["Service"], services, wide=wide)
    noisiest = [([row.rule_name], row.figures) for row in report.noisiest_rules]
    if noisiest:
        title = "Noisiest rules: alerts that ended by themselves, and nobody took care of them"
        _print_figures(title, ["Rule"], noisiest, wide=wide, is_unattended=True)
    flapping = [([row.rule_name, row.resource], row.figures) for row in report.flapping]
    if flapping:
        _print_figures("Flapping: fired often for one resource", ["Rule", "Resource"], flapping, wide=wide)


def _print_incident_report(report: service.GetIncidentReportResponse, *, wide: bool) -> None:
    _print_figures("Incidents", [""], [(["all"], report.total)], wide=wide)
    if not report.total.count:
        return
    _print_figures("Incidents by day", ["Day"], ((_day(row.date), row.figures) for row in report.days), wide=wide)
    severities = (([_severity(row.severity)], row.figures) for row in report.severities)
    _print_figures("Incidents by severity", ["Severity"], severities, wide=wide)
    causes = (([row.rule_name, row.service or "-", str(row.alert_count)], row.figures) for row in report.causes)
    _print_figures("Incidents by probable cause", ["Rule", "Service", "Alerts"], causes, wide=wide)


def _print_figures(
    title: str, names: Sequence[str], rows: Iterable[_Row], *, wide: bool, is_unattended: bool = False
) -> None:
    """Print a table of figures; its bars show the count, or how many were unattended."""
    found = list(rows)
    counts = [figures.unattended_count if is_unattended else figures.count for _, figures in found]
    bars = _bars(counts) if len(found) > 1 else [""] * len(found)
    _print_title(title)
    print_table(
        [*names, "Count", "", "Acknowledged", "Unattended", "To acknowledge", "To resolve"],
        [
            [
                *cells,
                str(figures.count),
                bar,
                f"{figures.acknowledged_count} ({figures.acknowledged_share:.0%})" if figures.count else "-",
                str(figures.unattended_count) if figures.count else "-",
                _format_spread(figures, "time_to_acknowledge"),
                _format_spread(figures, "time_to_resolve"),
            ]
            for (cells, figures), bar in zip(found, bars, strict=True)
        ],
        cut={"Rule", "Resource", "Service"} & set(names),
        wide=wide,
    )


def _print_notification_report(report: service.GetNotificationReportResponse, *, wide: bool) -> None:
    total = report.total
    _print_deliveries("Notifications", "", [("all", total)], wide=wide)
    if total.delivered_count + total.failed_count:
        channels = [(row.channel, row.figures) for row in report.channels]
        _print_deliveries("Notifications by channel", "Channel", channels, wide=wide)
        days = [(_day(row.date)[0], row.figures) for row in report.days]
        _print_deliveries("Notifications by day", "Day", days, wide=wide)


def _print_deliveries(title: str, name: str, rows: Sequence[tuple[str, DeliveryFigures]], *, wide: bool) -> None:
    counts = [figures.delivered_count + figures.failed_count for _, figures in rows]
    bars = _bars(counts) if len(rows) > 1 else [""] * len(rows)
    _print_title(title)
    print_table(
        [name, "Delivered", "Failed", ""],
        [
            [label, str(figures.delivered_count), str(figures.failed_count), bar]
            for (label, figures), bar in zip(rows, bars, strict=True)
        ],
        cut={name},
        wide=wide,
    )


def _print_title(title: str) -> None:
    stdout.print()
    stdout.print(title, style="italic")


def _bars(counts: Sequence[int]) -> list[str]:
    """Return a bar for each count, as long as its share of the highest; one that is not 0 is at least a character."""
    highest = max(counts, default=0)
    # A terminal without Unicode has no blocks.
    block = "\N{FULL BLOCK}" if stdout.encoding.startswith("utf") else "#"
    return [block * max(round(_BAR_WIDTH * count / highest), 1) if count else "" for count in counts]


def _day(text: str) -> list[str]:
    """Return a day with its weekday."""
    return [f"{date.fromisoformat(text):%a %Y-%m-%d}"]


def _severity(value: int) -> Text:
    return format_styled(AlertRule.Severity.Name(AlertRule.Severity.ValueType(value)), SEVERITY_STYLE)


def _format_spread(figures: ReportFigures, field: str) -> str:
    if not figures.HasField(field):  # type: ignore[arg-type]  # one of the two fields
        return "-"
    spread: TimeSpread = getattr(figures, field)
    return f"{format_span(spread.median)}, p90 {format_span(spread.p90)}"


def format_span(duration: Duration) -> str:
    """Format a time span by its two largest units: 12s, 2m 30s, 1h 5m, 3d 4h."""
    seconds = round(timedelta_of(duration).total_seconds())
    for size, unit, small_size, small_unit in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "m"),
        (_MINUTE, "m", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // small_size
            return f"{seconds // size}{unit}" + (f" {rest}{small_unit}" if rest else "")
    return f"{seconds}s"
