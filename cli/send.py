"""tocsin send: log files into Tocsin."""

import time
from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import DEFAULT_SERVER, Exit, Server, connected
from cli.lines.formats import FORMATS, LineFormat, custom
from cli.output import Form, Output, complain, console, plain, print_json, print_table
from cli.sending import Tally, send
from cli.source import Source, Times, read, service_of, timed
from services.chassis.clock import SystemClock

# Refused lines that a table lists; JSON lists them all.
LISTED = 20
# Events older than this are worth a word, since rules may have closed their windows.
_OLD = timedelta(hours=1)

_NAMES = ", ".join(kind.name for kind in FORMATS)


def send_file(
    file: Annotated[Path, typer.Argument(help="A log file; - is standard input.")],
    *,
    pattern: Annotated[
        str,
        typer.Option(
            help="A regular expression with named groups: message, level, time, service, status_code, "
            "response_time (ms), response_seconds, host, trace_id; others become attributes."
        ),
    ] = "",
    form: Annotated[str, typer.Option("--format", help=f"json or one of: {_NAMES}. Found out when absent.")] = "",
    service: Annotated[
        str, typer.Option(help="The service of lines that name none; the file's name when absent.")
    ] = "",
    times: Annotated[
        Times,
        typer.Option("--times", help="log: the times in the lines; arrival: now; shift: the last line is now."),
    ] = Times.LOG,
    timezone: Annotated[
        str, typer.Option(help="The zone of times that name none, such as Europe/Berlin or UTC.")
    ] = "UTC",
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send a log file: plain text of the usual formats, or JSON lines.

    Lines that do not fit the format continue the event before them. Ends with 0 when every event was accepted, 1 when
    some were refused, 3 when Tocsin could not be reached.
    """
    kind = _format(pattern, form)
    zone = _zone(timezone)
    now = SystemClock().now()
    try:
        source = Source(file)
    except OSError as error:
        complain(f"{file}: {error.strerror}")
        raise typer.Exit(Exit.USAGE) from None
    default_service = service or service_of(source.name)
    name, reads = read(source.lines(), kind=kind, as_json=form == "json", service=default_service, now=now, zone=zone)
    lines = timed(reads, times, now=now)
    started = time.monotonic()
    with connected(server) as channel, _progress(quiet=output is Form.JSON) as bar:
        task = bar.add_task(source.name, total=source.size, events=0)
        tally = send(
            channel, lines, progress=lambda done: bar.update(task, completed=source.bytes_read, events=done.accepted)
        )
    source.close()
    report(tally, name, source, time.monotonic() - started, output)
    if output is Form.TABLE:
        _say_if_old(tally.oldest, now)
    if tally.refused:
        raise typer.Exit(Exit.REFUSED)


def report(tally: Tally, name: str, source: Source, seconds: float, output: Form) -> None:
    """What became of the lines."""
    rate = tally.accepted / seconds if seconds else 0.0
    if output is Form.JSON:
        print_json(
            {
                "file": source.name,
                "format": name,
                "lines": source.lines_read,
                "accepted": tally.accepted,
                "refused": [asdict(refusal) for refusal in tally.refused],
                "byLevel": dict(tally.by_level),
                "eventsPerSecond": round(rate),
            }
        )
        return
    inside = tally.lines - tally.accepted - len(tally.refused)
    blank = source.lines_read - tally.lines
    console.print(
        f"{source.name}: {source.lines_read:,} lines read as {name}: {tally.accepted:,} events accepted, "
        f"{len(tally.refused):,} refused, {inside:,} continuation lines, {blank:,} blank; {rate:,.0f} events/s",
        markup=False,
        highlight=False,
    )
    print_table(["Level", "Events"], [[level, f"{count:,}"] for level, count in sorted(tally.by_level.items())])
    if tally.refused:
        shown = tally.refused[:LISTED]
        rows = [[str(refusal.line), plain(refusal.field), plain(refusal.reason)] for refusal in shown]
        print_table(["Line", "Field", "Expected"], rows, title=f"Refused ({len(shown)} of {len(tally.refused)})")


def _format(pattern: str, form: str) -> LineFormat | None:
    if pattern:
        try:
            return custom(pattern)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--pattern") from None
    if not form or form == "json":
        return None
    for kind in FORMATS:
        if kind.name == form:
            return kind
    raise typer.BadParameter(f"must be json or one of {_NAMES}", param_hint="--format")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        text = f"{name!r} is not known here; expected a name such as UTC or Europe/Berlin"
        raise typer.BadParameter(text, param_hint="--timezone") from None


def _say_if_old(oldest: int | None, now: datetime) -> None:
    if oldest is not None and now.timestamp() - oldest > _OLD.total_seconds():
        console.print(
            "These are old events: rules that have seen newer ones count them as late. "
            "--times arrival or --times shift sends them as new.",
            markup=False,
        )


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        console=console,
        disable=quiet,
        transient=True,
    )
