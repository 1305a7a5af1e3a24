"""What the demo shows."""

from collections import Counter
from collections.abc import Iterable, Sequence

from cli.demo.scenario import seconds_between, told
from cli.demo.steps import FileSent, Seen
from cli.output import SEVERITY_STYLE, complain, console, print_table, styled


def show_alerts(seen: Seen) -> None:
    """A row for each alert: what fired, how fast, who was told, and its evidence."""
    rows = []
    for alert in sorted(seen.alerts, key=lambda one: one["fireTime"]):
        deliveries = told(alert, seen.deliveries)
        last = alert["window"]["lastEventTime"]
        delays = [seconds_between(last, one["time"]) for one in deliveries]
        rows.append(
            [
                alert["ruleName"],
                styled(alert["severity"], SEVERITY_STYLE),
                alert["resource"],
                alert["window"]["count"],
                _milliseconds(seconds_between(last, alert["fireTime"])),
                _milliseconds(max(delays)) if delays else "-",
                ", ".join(sorted(one["channel"] for one in deliveries)),
                alert["samples"][0]["message"] if alert["samples"] else "-",
            ]
        )
    print_table(
        ["Alert", "Severity", "Resource", "Count", "To firing", "To delivery", "Channels", "Sample line"],
        rows,
        title="Alerts (times from the deciding event)",
    )


def show_complaints(complaints: Iterable[str]) -> None:
    """What is not as expected."""
    for complaint in complaints:
        complain(complaint)


def show_files(files: Sequence[FileSent], fired: Counter[tuple[str, str]]) -> None:
    """What was sent from files, by level, what was refused and why, and how often which rules fired on it."""
    levels = sorted({level for sent in files for level in sent.tally.by_level})
    print_table(
        ["File", "Format", "Lines", "Events", *levels, "Continuations", "Blank", "Refused"],
        [_file_row(sent, levels) for sent in files],
        title="Real logs, through tocsin send",
    )
    refused = [(sent.name, refusal) for sent in files for refusal in sent.tally.refused]
    if refused:
        print_table(
            ["File", "Line", "Field", "Expected"],
            [[name, str(one.line), one.field, one.reason] for name, one in refused[:20]],
            title=f"Refused ({min(20, len(refused))} of {len(refused)})",
        )
    if fired:
        rows = [[rule, resource, str(count)] for (rule, resource), count in sorted(fired.items())]
        print_table(["Rule", "Resource", "Alerts"], rows, title="Rules that fired on them")
    else:
        console.print("No rule fired on them.")


def is_accounted_for(sent: FileSent) -> bool:
    """Whether every line is an event, a part of one, blank or refused."""
    return sent.tally.lines + sent.blank == sent.lines


def _file_row(sent: FileSent, levels: Sequence[str]) -> list[str]:
    tally = sent.tally
    inside = tally.lines - tally.accepted - len(tally.refused)
    return [
        sent.name,
        sent.form,
        f"{sent.lines:,}",
        f"{tally.accepted:,}",
        *(f"{tally.by_level[level]:,}" for level in levels),
        f"{inside:,}",
        f"{sent.blank:,}",
        f"{len(tally.refused):,}",
    ]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
