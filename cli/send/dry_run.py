"""`tocsin send --dry-run` and `--explain`: what would be sent, and what becomes of each field."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from cli.output import OutputFormat, print_data, print_table, stdout
from cli.parsing.event import InvalidLine, ParsedEvent
from cli.parsing.field_uses import field_uses
from cli.parsing.file_parser import FileParser
from cli.parsing.multiline import ParsedLines
from cli.send.events import OutgoingEvent, RefusedLine
from cli.send.field_counts import MAX_FIELDS, FieldCounts, count_fields
from cli.send.log_file import LogFile
from cli.send.report import count_others, format_count, print_counts, report_document
from cli.send.sender import SendSummary


def count_items(items: Iterable[OutgoingEvent | RefusedLine | None], summary: SendSummary) -> None:
    """Count what would be sent, as if all of it were accepted."""
    for item in items:
        if isinstance(item, RefusedLine):
            summary.add_refused(item)
        elif item is not None:
            summary.add_accepted(item)


def print_dry_run(
    summary: SendSummary,
    counts: FieldCounts,
    parser: FileParser,
    file: LogFile,
    output: OutputFormat,
    *,
    is_explained: bool,
) -> None:
    """Print what would be sent, and what becomes of each field; when explained, the first events as well."""
    summary.refused.sort(key=lambda refused: refused.line)
    if output.is_data:
        print_data(
            {
                **report_document(summary, parser.name, file),
                "dryRun": True,
                # Nothing was sent.
                "accepted": 0,
                "events": summary.accepted,
                "oldestTime": _format_time(counts.oldest),
                "newestTime": _format_time(counts.newest),
                "fields": _field_documents(counts),
                **({"firstEvents": [_event_document(lines) for lines in counts.first]} if is_explained else {}),
            },
            output,
        )
        return
    stdout.print(
        f"{file.name}: {format_count(file.lines_read, 'line')} read as {parser.name}. Nothing was sent; "
        f"{format_count(summary.accepted, 'event')} would be, {count_others(summary, file)}."
    )
    if counts.oldest is not None:
        stdout.print(f"Times from {_format_time(counts.oldest)} to {_format_time(counts.newest)}.")
    _print_fields(counts)
    print_counts(summary)
    if is_explained:
        _print_first_events(counts.first)


def _print_fields(counts: FieldCounts) -> None:
    rows = [
        [use.name, use.field or "-", use.change or "-", f"{count:,}", counts.examples[use]]
        for use, count in counts.rows()
    ]
    print_table(["In the log", "Becomes", "How", "Events", "First value"], rows, title="Fields", cut=["First value"])
    if counts.uncounted:
        stdout.print(f"{counts.uncounted:,} events have further fields; {MAX_FIELDS} are shown.")


def _field_documents(counts: FieldCounts) -> list[dict[str, object]]:
    return [
        {
            "name": use.name,
            "field": use.field,
            "change": use.change,
            "events": count,
            "firstValue": counts.examples[use],
        }
        for use, count in counts.rows()
    ]


def _format_time(time: datetime | None) -> str:
    return "" if time is None else time.isoformat().replace("+00:00", "Z")


def print_explanation(parser: FileParser, file: LogFile, first: Sequence[ParsedLines], output: OutputFormat) -> None:
    """Print which formats a file has, and the fields of its first events."""
    if output.is_data:
        print_data(
            {
                "file": file.name,
                "format": parser.name,
                "shares": {name: round(share, 4) for name, share in parser.shares.items()},
                "fields": _field_documents(count_fields(first)),
                "events": [_event_document(lines) for lines in first],
            },
            output,
        )
        return
    stdout.print(f"{file.name}: read as {parser.name}. Nothing was sent.")
    rows = [[name, f"{share:.0%}"] for name, share in parser.shares.items()]
    print_table(["Format", "Share of the first lines"], rows)
    _print_fields(count_fields(first))
    _print_first_events(first)


def _print_first_events(first: Sequence[ParsedLines]) -> None:
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
        return {**place, "refused": {"field": lines.event.field, "reason": lines.event.reason}}
    fields = {name: value for name, value in _fields_of(lines.event).items() if value not in (None, "", {})}
    uses = [{"name": use.name, "field": use.field, "change": use.change} for use, _ in field_uses(lines.event)]
    return {**place, **fields, "fields": uses, "notes": sorted(note.name for note in lines.event.notes)}


def _fields_of(event: ParsedEvent) -> dict[str, object]:
    return {
        "eventTime": _format_time(event.event_time),
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
        return [place, "-", "refused", "-", f"{lines.event.field}: {lines.event.reason}", "-"]
    fields = _fields_of(lines.event)
    cells = [str(fields.pop(name) or "-") for name in ("eventTime", "level", "service", "message")]
    attributes = fields.pop("attributes")
    others = {**fields, **(attributes if isinstance(attributes, dict) else {})}
    text = " ".join(f"{name}={value}" for name, value in others.items() if value not in (None, ""))
    return [place, *cells, text or "-"]
