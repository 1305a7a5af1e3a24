"""What became of the lines of a file, and what they were taken for."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cli.output import Form, complain, console, print_json, print_table
from cli.parsing.event import LineEvent, Note, Refused
from cli.parsing.file_parser import Reader
from cli.parsing.multiline import Read
from cli.send.log_file import OLD, Source, Times
from cli.send.sender import Span, Tally

# Refused lines that a table lists; JSON lists them all.
LISTED = 20


def report(tally: Tally, name: str, source: Source, seconds: float, output: Form) -> None:
    """Print it as a table or as JSON."""
    rate = tally.accepted / seconds if seconds else 0.0
    tally.refused.sort(key=lambda refusal: refusal.line)
    if output is Form.JSON:
        print_json(_document(tally, name, source, rate))
        return
    unsent = source.lines_read - source.blank_lines - tally.lines
    _say(
        f"{source.name}: {source.lines_read:,} lines read as {name}: {tally.accepted:,} events accepted, "
        f"{len(tally.refused):,} refused, {_continuations(tally):,} continuation lines, {source.blank_lines:,} blank"
        f"{f', {unsent:,} not sent' if unsent else ''}; {rate:,.0f} events/s"
    )
    print_table(["Level", "Events"], [[level, f"{count:,}"] for level, count in sorted(tally.by_level.items())])
    if tally.refused:
        shown = tally.refused[:LISTED]
        rows = [[str(refusal.line), refusal.field, refusal.reason] for refusal in shown]
        print_table(["Line", "Field", "Expected"], rows, title=f"Refused ({len(shown)} of {len(tally.refused)})")
    if tally.unsent:
        _say(f"Not sent, or not known to have arrived: {', '.join(map(_words, tally.unsent))}. Send these lines again.")


def warn(tally: Tally, name: str, times: Times) -> None:
    """Say on standard error what was not understood, or not sent as it stood, and of how many events."""
    for note in Note:
        count = tally.notes[note]
        if not count or (note is Note.NO_TIME and times is Times.ARRIVAL):
            continue
        words = ", ".join(f"{word!r} ({number:,})" for word, number in tally.unknown_levels.most_common())
        complain(f"{name}: {count:,} events {note.value}{f': {words}' if note is Note.UNKNOWN_LEVEL else ''}")


def say_if_old(oldest: int | None, now: datetime) -> None:
    """A word about events that rules may take for late ones."""
    if oldest is not None and now - datetime.fromtimestamp(oldest, UTC) > OLD:
        _say(
            "These are old events: rules that have seen newer ones count them as late. "
            "--times arrival or --times shift sends them as new."
        )


def explain(reader: Reader, source: Source, reads: Sequence[Read], output: Form) -> None:
    """What a file was recognised as, and the fields of its first events."""
    if output is Form.JSON:
        print_json(
            {
                "file": source.name,
                "format": reader.name,
                "shares": {name: round(share, 4) for name, share in reader.shares.items()},
                "events": [_explained(read) for read in reads],
            }
        )
        return
    _say(f"{source.name}: read as {reader.name}. Nothing was sent.")
    rows = [[name, f"{share:.0%}"] for name, share in reader.shares.items()]
    print_table(["Format", "Share of the first lines"], rows)
    print_table(
        ["Line", "Time", "Level", "Service", "Message", "Other fields"],
        [_row(read) for read in reads],
        title="The first events",
        cut=["Message", "Other fields"],
    )
    for read in reads:
        if isinstance(read.event, LineEvent):
            for note in sorted(read.event.notes):
                _say(f"Line {read.first_line}: events like this {note.value}.")


def _explained(read: Read) -> dict[str, object]:
    place = {"line": read.first_line, "lastLine": read.last_line}
    if isinstance(read.event, Refused):
        return {**place, "refused": {"field": read.event.field, "reason": read.event.expected}}
    fields = {name: value for name, value in _fields(read.event).items() if value not in (None, "", {})}
    return {**place, **fields, "notes": sorted(note.name for note in read.event.notes)}


def _fields(event: LineEvent) -> dict[str, object]:
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


def _row(read: Read) -> list[str]:
    lines = f"{read.first_line}" if read.first_line == read.last_line else f"{read.first_line} to {read.last_line}"
    if isinstance(read.event, Refused):
        return [lines, "-", "refused", "-", f"{read.event.field}: expected {read.event.expected}", "-"]
    fields = _fields(read.event)
    first = [str(fields.pop(name) or "-") for name in ("eventTime", "level", "service", "message")]
    attributes = fields.pop("attributes")
    others = {**fields, **(attributes if isinstance(attributes, dict) else {})}
    said = " ".join(f"{name}={value}" for name, value in others.items() if value not in (None, ""))
    return [lines, *first, said or "-"]


def _document(tally: Tally, name: str, source: Source, rate: float) -> dict[str, object]:
    return {
        "file": source.name,
        "format": name,
        "lines": source.lines_read,
        "blank": source.blank_lines,
        "continuations": _continuations(tally),
        "accepted": tally.accepted,
        "refused": [{"line": one.line, "field": one.field, "reason": one.reason} for one in tally.refused],
        "unsent": [{"first": span.first, "last": span.last} for span in tally.unsent],
        "byLevel": dict(tally.by_level),
        "notes": {note.name: count for note, count in sorted(tally.notes.items())},
        "unknownLevels": dict(tally.unknown_levels),
        "eventsPerSecond": round(rate),
    }


def _continuations(tally: Tally) -> int:
    return tally.lines - tally.accepted - len(tally.refused)


def _words(span: Span) -> str:
    return f"lines {span.first} to {span.last}" if span.last else f"all from line {span.first}"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)
