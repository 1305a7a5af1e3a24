"""What the demo prints."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from cli.demo.incident_act import ActResult
from cli.demo.scenario import deliveries_of, seconds_between
from cli.demo.steps import DemoResult, SentFile
from cli.output import SEVERITY_STYLE, format_styled, print_table, stdout
from services.chassis.printable import printable

_MAX_REFUSED = 20


def print_demo_alerts(result: DemoResult) -> None:
    """Print a row for each alert: what fired, how fast, which channels were notified, and a sample."""
    rows = []
    for alert in sorted(result.alerts, key=lambda alert: alert["fireTime"]):
        deliveries = deliveries_of(alert, result.deliveries)
        last_event = alert["window"]["lastEventTime"]
        delays = [seconds_between(last_event, delivery["time"]) for delivery in deliveries]
        rows.append(
            [
                alert["ruleName"],
                format_styled(alert["severity"], SEVERITY_STYLE),
                alert["resource"],
                alert["window"]["count"],
                _format_milliseconds(seconds_between(last_event, alert["fireTime"])),
                _format_milliseconds(max(delays)) if delays else "-",
                ", ".join(sorted(delivery["channel"] for delivery in deliveries)),
                alert["samples"][0]["message"] if alert["samples"] else "-",
            ]
        )
    print_table(
        ["Alert", "Severity", "Resource", "Count", "To firing", "To delivery", "Channels", "Sample line"],
        rows,
        title="Alerts (times from the deciding event)",
    )


def print_incident_act(result: ActResult) -> None:
    """Print the incident's title, and a row for everything that happened to it and every delivery, by time."""
    stdout.print(f"Incident: {printable(result.incident['title'])}", markup=False)
    happened = [
        (entry["createTime"], entry["kind"], entry.get("actor", ""), entry.get("comment", ""))
        for entry in result.history
    ]
    delivered = [(one["time"], "delivered", one["channel"], one["kind"]) for one in result.deliveries]
    rows = sorted([*happened, *delivered], key=lambda row: datetime.fromisoformat(row[0]))
    first = rows[0][0]
    print_table(
        ["After", "What", "Who", "Details"],
        [[f"{seconds_between(first, time):.2f} s", what, who, details] for time, what, who, details in rows],
        title="Timeline of the incident",
        cut=["Details"],
    )


def print_files(files: Sequence[SentFile], alerts: Counter[tuple[str, str]]) -> None:
    """Print what was sent from files, by level, what was refused and why, and the alerts that fired on it."""
    levels = sorted({level for file in files for level in file.summary.by_level})
    print_table(
        ["File", "Format", "Lines", "Events", *levels, "Continuations", "Blank", "Refused"],
        [_file_row(file, levels) for file in files],
        title="Real logs, through tocsin send",
    )
    refused = [(file.name, line) for file in files for line in file.summary.refused]
    if refused:
        print_table(
            ["File", "Line", "Field", "Expected"],
            [[name, str(line.line), line.field, line.reason] for name, line in refused[:_MAX_REFUSED]],
            title=f"Refused ({min(_MAX_REFUSED, len(refused))} of {len(refused)})",
        )
    if alerts:
        rows = [[rule, resource, str(count)] for (rule, resource), count in sorted(alerts.items())]
        print_table(["Rule", "Resource", "Alerts"], rows, title="Rules that fired on them")
    else:
        stdout.print("No rule fired on them.")


def has_every_line(file: SentFile) -> bool:
    """Return whether every line is an event, a part of one, blank or refused."""
    return file.summary.lines + file.blank == file.lines


def _file_row(file: SentFile, levels: Sequence[str]) -> list[str]:
    summary = file.summary
    continuations = summary.lines - summary.accepted - len(summary.refused)
    return [
        file.name,
        file.format_name,
        f"{file.lines:,}",
        f"{summary.accepted:,}",
        *(f"{summary.by_level[level]:,}" for level in levels),
        f"{continuations:,}",
        f"{file.blank:,}",
        f"{len(summary.refused):,}",
    ]


def _format_milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
