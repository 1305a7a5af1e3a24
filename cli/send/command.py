"""tocsin send: log files into Tocsin."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import DEFAULT_SERVER, Exit, Server, connected
from cli.interrupts import interruptible
from cli.output import Form, Output, ask, complain, console
from cli.parsing.format_types import LineFormat
from cli.parsing.formats import FORMATS, custom
from cli.send.log_file import Chosen, Source, Times, timed
from cli.send.report import explain, report, say_if_old, warn
from cli.send.sender import Span, Tally, send
from services.chassis.clock import SystemClock

# What a shell says of a program that Ctrl-C ended.
INTERRUPTED = 130

_NAMES = ", ".join(kind.name for kind in FORMATS)


def send_file(
    file: Annotated[Path, typer.Argument(help="A log file; - is standard input.")],
    *,
    pattern: Annotated[
        str,
        typer.Option(
            help="A regular expression, searched for anywhere in a line (^ and $ tie it to the ends), with named "
            "groups: message, level, time, service, status_code, response_time (ms), response_seconds, host, "
            "trace_id; others become attributes. Lines without it continue the event before them."
        ),
    ] = "",
    form: Annotated[str, typer.Option("--format", help=f"One of: {_NAMES}. Found out when absent.")] = "",
    service: Annotated[
        str, typer.Option(help="The service of lines that name none; the file's name when absent.")
    ] = "",
    times: Annotated[
        Times | None,
        typer.Option(
            "--times",
            help="log: the times in the lines, which is so when absent; arrival: now; shift: all times are moved by "
            "the same amount, so that the last line is now.",
        ),
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="The zone of times that name none, such as Europe/Berlin or UTC.")
    ] = "UTC",
    is_explained: Annotated[
        bool,
        typer.Option("--explain", help="Show what is recognised and the fields of the first events; send nothing."),
    ] = False,
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send a log file, gzip or not: text of the usual formats, or JSON lines.

    A line that says no time or level of its own continues the event before it. What standard input brings is sent
    within two seconds; Ctrl-C sends what was read. Ends with 0 when every event was accepted, 1 when some were
    refused, 2 when the file cannot be read, 3 when Tocsin could not be reached, 130 after Ctrl-C.
    """
    clock = SystemClock()
    chosen = Chosen(kind=_format(pattern, form), service=service, clock=clock, zone=_zone(timezone))
    is_old = times is None and not is_explained and chosen.is_old(file)
    times = times or (_old_times(file.name, output) if is_old else Times.LOG)
    with interruptible() as is_stopped, _opened(file, is_stopped) as source:
        if is_explained:
            reader, first = chosen.first(source)
            explain(reader, source, first, output)
            return
        reader, reads = chosen.read(source)
        tally = Tally()
        with connected(server, output) as channel, _reporting(tally, reader.name, source, output, times):
            with _progress(quiet=output is Form.JSON) as bar:
                task = bar.add_task(source.name, total=source.size, events=0)
                send(
                    channel,
                    timed(reads, times, now=clock.now()),
                    progress=lambda done: bar.update(task, completed=source.bytes_read, events=done.accepted),
                    tally=tally,
                )
            if is_stopped() and not source.is_whole and not source.is_stdin:
                tally.unsent.append(Span(first=source.lines_read + 1, last=None))
        if output is Form.TABLE and not is_old:
            say_if_old(tally.oldest, clock.now())
        _exit(tally, source, "--pattern" if pattern else f"--format {form}" if form else "", is_stopped())


def _old_times(name: str, output: Form) -> Times:
    """Ask, where somebody can answer, what is to become of a file of old events; else say what can."""
    complain(
        f"{name}: all lines are old: rules count them as late, and no alert is made. --times shift moves all times by "
        "the same amount, so that the last line is now; --times log says that this is meant."
    )
    is_wanted = output is Form.TABLE and ask("Send them with --times shift?")
    return Times.SHIFT if is_wanted else Times.LOG


@contextmanager
def _opened(file: Path, is_stopped: Callable[[], bool]) -> Iterator[Source]:
    try:
        with closing(Source(file, is_stopped=is_stopped)) as source:
            yield source
    except OSError as error:
        complain(f"{file}: {error.strerror}")
        raise typer.Exit(Exit.USAGE) from None


@contextmanager
def _reporting(tally: Tally, name: str, source: Source, output: Form, times: Times) -> Iterator[None]:
    """Say what became of the lines, also when sending ends early."""
    started = time.monotonic()
    try:
        yield
    finally:
        report(tally, name, source, time.monotonic() - started, output)
        warn(tally, source.name, times)


def _exit(tally: Tally, source: Source, asked_for: str, is_stopped: bool) -> None:  # noqa: FBT001
    """End the command with the code that fits."""
    if source.error is not None:
        complain(f"{source.name}: cannot be read beyond line {source.lines_read}: {source.error.strerror}")
    if asked_for and tally.refused and not tally.accepted and all(one.field == "line" for one in tally.refused):
        complain(f"{source.name}: {asked_for} fits no line")
    if is_stopped:
        raise typer.Exit(INTERRUPTED)
    if source.error is not None:
        raise typer.Exit(Exit.USAGE)
    if tally.refused:
        raise typer.Exit(Exit.REFUSED)


def _format(pattern: str, form: str) -> LineFormat | None:
    if pattern:
        try:
            return custom(pattern)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--pattern") from None
    if not form:
        return None
    for kind in FORMATS:
        if kind.name == form:
            return kind
    raise typer.BadParameter(f"must be one of {_NAMES}", param_hint="--format")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        text = f"{name!r} is not known here; expected a name such as UTC or Europe/Berlin"
        raise typer.BadParameter(text, param_hint="--timezone") from None


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        console=console,
        disable=quiet,
        transient=True,
    )
