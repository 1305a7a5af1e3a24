"""tocsin send: log files into Tocsin."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from types import FrameType
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import grpc
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import DEFAULT_SERVER, ExitCode, ServerOption, open_channel
from cli.output import OutputFormat, OutputOption, confirm, print_to_stderr, stdout
from cli.parsing.format_types import LineFormat
from cli.parsing.formats import FORMATS, custom_format
from cli.send.dry_run import count_items, print_dry_run, print_explanation
from cli.send.events import OutgoingEvent, ParseOptions, RefusedLine, TimeMode, events_to_send
from cli.send.field_counts import FieldCounts
from cli.send.lateness import OpenWindows, fetch_open_windows
from cli.send.log_file import LogFile
from cli.send.report import print_notes, print_report
from cli.send.sender import LineRange, SendSummary, send_events
from services.chassis.clock import SystemClock

# What a shell reports for a program that Ctrl-C ended.
INTERRUPTED = 130

_FORMAT_NAMES = ", ".join(line_format.name for line_format in FORMATS)


def send(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Log files; - is standard input.")],
    *,
    pattern: Annotated[
        str,
        typer.Option(
            help="A regular expression, searched for anywhere in a line (^ and $ tie it to the ends), with named "
            "groups: message, level, time, service, status_code, response_time (ms), response_seconds, host, "
            "trace_id; others become attributes. Lines that do not match continue the event before them."
        ),
    ] = "",
    format_name: Annotated[
        str, typer.Option("--format", help=f"One of: {_FORMAT_NAMES}. Without it the format is detected.")
    ] = "",
    service: Annotated[
        str, typer.Option(help="The service of lines that name none. Without it: the name of the file.")
    ] = "",
    times: Annotated[
        TimeMode | None,
        typer.Option(
            "--times",
            help="log: the times in the lines (the default); arrival: now; shift: all times are moved by the same "
            "amount, so that the last line is now.",
        ),
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="The zone of times that name none, such as Europe/Berlin or UTC.")
    ] = "UTC",
    is_dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Send nothing: show how many events the file has, and what becomes of each field."
        ),
    ] = False,
    is_explained: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Send nothing: show the detected format, and the first events with their fields; with --dry-run also "
            "the sums over the whole file.",
        ),
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Send log files, gzip or not: text in the usual formats, or JSON lines.

    A line without a time or level of its own continues the event before it. Standard input is sent within two seconds;
    Ctrl-C sends what was read so far. Each file is reported by itself, and the highest exit code counts: 0 every event
    was accepted, 1 some were refused, 2 a file cannot be read, 3 Tocsin cannot be reached, 130 after Ctrl-C.
    """
    clock = SystemClock()
    line_format = _parse_format(pattern, format_name)
    options = ParseOptions(line_format=line_format, service=service, clock=clock, zone=_parse_zone(timezone))
    format_option = "--pattern" if pattern else f"--format {format_name}" if format_name else ""
    with open_channel(server, output) as channel, interruptible() as is_stopped:
        run = _Run(
            channel=channel,
            options=options,
            times=times,
            is_dry_run=is_dry_run,
            is_explained=is_explained,
            output=output,
            format_option=format_option,
            is_stopped=is_stopped,
        )
        codes = []
        for file in files:
            codes.append(run.send_file(file))
            if is_stopped():
                break
    if highest := max(codes):
        raise typer.Exit(highest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One call of the command: what holds for each of its files."""

    channel: grpc.Channel
    options: ParseOptions
    times: TimeMode | None
    is_dry_run: bool
    is_explained: bool
    output: OutputFormat
    format_option: str
    is_stopped: Callable[[], bool]

    def send_file(self, file: Path) -> int:
        """Send, or explain, one file, and return the exit code that fits it."""
        try:
            with closing(LogFile(file, is_stopped=self.is_stopped)) as log_file:
                return self._send(file, log_file)
        except OSError as error:
            print_to_stderr(f"{file}: {error.strerror}")
            return ExitCode.USAGE

    def _send(self, file: Path, log_file: LogFile) -> int:
        options, output, clock = self.options, self.output, self.options.clock
        if self.is_explained and not self.is_dry_run:
            parser, first = options.parse_first(log_file)
            print_explanation(parser, log_file, first, output)
            return 0
        open_windows = fetch_open_windows(self.channel)
        # A dry run says at its end what comes too late.
        times = self.times or (TimeMode.LOG if self.is_dry_run else _choose_times(file, options, open_windows, output))
        parser, parsed = options.parse(log_file)
        counts, summary = FieldCounts(), SendSummary()
        events = events_to_send(
            counts.watch(parsed) if self.is_dry_run else parsed,
            times,
            now=clock.now(),
            is_too_late=lambda event_time: open_windows.is_too_late(event_time, clock.now()),
        )
        if self.is_dry_run:
            count_items(events, summary)
            print_dry_run(summary, counts, parser, log_file, output, is_explained=self.is_explained)
            print_notes(summary, log_file.name, times, open_windows)
        else:
            with _reporting(summary, parser.name, log_file, output, times, open_windows):
                _send(self.channel, events, summary, log_file, output)
                if self.is_stopped() and not log_file.is_read_to_end and not log_file.is_stdin:
                    summary.unsent.append(LineRange(first=log_file.lines_read + 1, last=None))
        return _exit_code(summary, log_file, self.format_option, is_stopped=self.is_stopped())


def _send(
    channel: grpc.Channel,
    events: Iterator[OutgoingEvent | RefusedLine | None],
    summary: SendSummary,
    file: LogFile,
    output: OutputFormat,
) -> None:
    with _progress_bar(is_hidden=output.is_data) as bar:
        task = bar.add_task(file.name, total=file.size, events=0)
        send_events(
            channel,
            events,
            on_progress=lambda now: bar.update(task, completed=file.bytes_read, events=now.accepted),
            summary=summary,
        )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C was pressed; pressed again it ends the program at once."""
    presses: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        presses.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(presses)
    finally:
        signal.signal(signal.SIGINT, previous)


def _choose_times(file: Path, options: ParseOptions, open_windows: OpenWindows, output: OutputFormat) -> TimeMode:
    """Warn where all events of a file come too late, and ask on a terminal how they are to be sent."""
    newest = options.newest_time(file)
    if newest is None or not open_windows.is_too_late(newest, options.clock.now()):
        return TimeMode.LOG
    print_to_stderr(
        f"{file.name}: all lines are old: the last ones, of {newest:%Y-%m-%d %H:%M:%S} UTC, are {open_windows.reason}, "
        "and no alert fires, unless Tocsin has had nothing newer. --times shift moves all times by the same amount, so "
        "that the last line is now; --times log sends them as they are."
    )
    is_wanted = output is OutputFormat.TABLE and confirm("Send them with --times shift?")
    return TimeMode.SHIFT if is_wanted else TimeMode.LOG


@contextmanager
def _reporting(
    summary: SendSummary,
    format_name: str,
    file: LogFile,
    output: OutputFormat,
    times: TimeMode,
    open_windows: OpenWindows,
) -> Iterator[None]:
    """Print the report at the end, also when sending ends early."""
    started = time.monotonic()
    try:
        yield
    finally:
        print_report(summary, format_name, file, time.monotonic() - started, output)
        print_notes(summary, file.name, times, open_windows)


def _exit_code(summary: SendSummary, file: LogFile, format_option: str, *, is_stopped: bool) -> int:
    if file.error is not None:
        print_to_stderr(f"{file.name}: cannot be read beyond line {file.lines_read}: {file.error.strerror}")
    is_nothing_matched = not summary.accepted and all(one.field == "line" for one in summary.refused)
    if format_option and summary.refused and is_nothing_matched:
        print_to_stderr(f"{file.name}: {format_option} fits no line")
    if is_stopped:
        return INTERRUPTED
    if file.error is not None:
        return ExitCode.USAGE
    return ExitCode.REFUSED if summary.refused else 0


def _parse_format(pattern: str, name: str) -> LineFormat | None:
    if pattern:
        try:
            return custom_format(pattern)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--pattern") from None
    if not name:
        return None
    for line_format in FORMATS:
        if line_format.name == name:
            return line_format
    raise typer.BadParameter(f"unknown format {name!r}; expected one of {_FORMAT_NAMES}", param_hint="--format")


def _parse_zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        text = f"unknown time zone {name!r}; expected a name such as UTC or Europe/Berlin"
        raise typer.BadParameter(text, param_hint="--timezone") from None


def _progress_bar(*, is_hidden: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        console=stdout,
        disable=is_hidden,
        transient=True,
    )
