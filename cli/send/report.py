"""What `tocsin send` prints: what became of the lines of a file, and how they were parsed."""

from collections.abc import Sequence

from cli.output import OutputFormat, print_json, print_table, print_to_stderr, stdout
from cli.parsing.event import InvalidLine, ParsedEvent, ParseNote
from cli.parsing.file_parser import FileParser
from cli.parsing.multiline import ParsedLines
from cli.send.events import TimeMode
from cli.send.lateness import OpenWindows
from cli.send.log_file import LogFile
from cli.send.sender import LineRange, SendSummary

# How many refused lines a table shows; JSON has them all.
MAX_LISTED_LINES = 20


def print_report(summary: SendSummary, format_name: str, file: LogFile, seconds: float, output: OutputFormat) -> None:
    """Print what became of the lines, as a table or as JSON."""
    rate = summary.accepted / seconds if seconds else 0.0
    summary.refused.sort(key=lambda refused: refused.line)
    if output is OutputFormat.JSON:
        print_json(_report_document(summary, format_name, file, rate))
        return
    unsent = file.lines_read - file.blank_lines - summary.lines
    stdout.print(
        f"{file.name}: {file.lines_read:,} lines read as {format_name}: {summary.accepted:,} events accepted, "
        f"{len(summary.refused):,} refused, {_continuation_lines(summary):,} continuation lines, "
        f"{file.blank_lines:,} blank{f', {unsent:,} not sent' if unsent else ''}; {rate:,.0f} events/s"
    )
    print_table(["Level", "Events"], [[level, f"{count:,}"] for level, count in sorted(summary.by_level.items())])
    if summary.refused:
        listed = summary.refused[:MAX_LISTED_LINES]
        rows = [[str(refused.line), refused.field, refused.reason] for refused in listed]
        print_table(["Line", "Field", "Expected"], rows, title=f"Refused ({len(listed)} of {len(summary.refused)})")
    if summary.unsent:
        lines = ", ".join(map(_format_range, summary.unsent))
        stdout.print(f"Not sent, or not known to have arrived: {lines}. Send these lines again.")


def print_notes(summary: SendSummary, file_name: str, times: TimeMode, open_windows: OpenWindows) -> None:
    """Print to standard error what was not understood, was changed, or comes too late, and in how many events."""
    for note in ParseNote:
        count = summary.notes[note]
        if not count or (note is ParseNote.NO_TIME and times is TimeMode.ARRIVAL):
            continue
        levels = ", ".join(f"{text!r} ({number:,})" for text, number in summary.unknown_levels.most_common())
        suffix = f": {levels}" if note is ParseNote.UNKNOWN_LEVEL else ""
        print_to_stderr(f"{file_name}: {count:,} events {note.value}{suffix}")
    if summary.too_late:
        print_to_stderr(f"{file_name}: {open_windows.describe(summary.too_late, summary.accepted)}")


def print_explanation(parser: FileParser, file: LogFile, first: Sequence[ParsedLines], output: OutputFormat) -> None:
    """Print which formats a file has, and the fields of its first events."""
    if output is OutputFormat.JSON:
        print_json(
            {
                "file": file.name,
                "format": parser.name,
                "shares": {name: round(share, 4) for name, share in parser.shares.items()},
                "events": [_event_document(lines) for lines in first],
            }
        )
        return
    stdout.print(f"{file.name}: read as {parser.name}. Nothing was sent.")
    rows = [[name, f"{share:.0%}"] for name, share in parser.shares.items()]
    print_table(["Format", "Share of the first lines"], rows)
    print_table(
        ["Line", "Time", "Level", "Service", "Message", "Other fields"],
        [_event_row(lines) for lines in first],
        title="The first events",
        cut=["Message", "Other fields"],
    )
    for lines in first:
        if isinstance(lines.event, ParsedEvent):
            for note in sorted(lines.event.notes):
                stdout.print(f"Line {lines.first_line}: events like this {note.value}.")


def _event_document(lines: ParsedLines) -> dict[str, object]:
    place = {"line": lines.first_line, "lastLine": lines.last_line}
    if isinstance(lines.event, InvalidLine):
        return {**place, "refused": {"field": lines.event.field, "reason": lines.event.expected}}
    fields = {name: value for name, value in _fields_of(lines.event).items() if value not in (None, "", {})}
    return {**place, **fields, "notes": sorted(note.name for note in lines.event.notes)}


def _fields_of(event: ParsedEvent) -> dict[str, object]:
    return {
        "eventTime": event.event_time and event.event_time.isoformat().replace("+00:00", "Z"),
        "level": event.level.name,
        "service": event.service,
        "message": event.message,
        "statusCode": event.status_code,
        "responseTime": event.response_time,
        "host": event.host,
        "traceId": event.trace_id,
        "recordId": event.record_id,
        "attributes": dict(event.attributes),
    }


def _event_row(lines: ParsedLines) -> list[str]:
    first, last = lines.first_line, lines.last_line
    place = f"{first}" if first == last else f"{first} to {last}"
    if isinstance(lines.event, InvalidLine):
        return [place, "-", "refused", "-", f"{lines.event.field}: expected {lines.event.expected}", "-"]
    fields = _fields_of(lines.event)
    cells = [str(fields.pop(name) or "-") for name in ("eventTime", "level", "service", "message")]
    attributes = fields.pop("attributes")
    others = {**fields, **(attributes if isinstance(attributes, dict) else {})}
    text = " ".join(f"{name}={value}" for name, value in others.items() if value not in (None, ""))
    return [place, *cells, text or "-"]


def _report_document(summary: SendSummary, format_name: str, file: LogFile, rate: float) -> dict[str, object]:
    return {
        "file": file.name,
        "format": format_name,
        "lines": file.lines_read,
        "blank": file.blank_lines,
        "continuations": _continuation_lines(summary),
        "accepted": summary.accepted,
        "refused": [{"line": one.line, "field": one.field, "reason": one.reason} for one in summary.refused],
        "unsent": [{"first": lines.first, "last": lines.last} for lines in summary.unsent],
        "tooLate": summary.too_late,
        "byLevel": dict(summary.by_level),
        "notes": {note.name: count for note, count in sorted(summary.notes.items())},
        "unknownLevels": dict(summary.unknown_levels),
        "eventsPerSecond": round(rate),
    }


def _continuation_lines(summary: SendSummary) -> int:
    return summary.lines - summary.accepted - len(summary.refused)


def _format_range(lines: LineRange) -> str:
    return f"lines {lines.first} to {lines.last}" if lines.last else f"all from line {lines.first}"
