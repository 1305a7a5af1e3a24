"""What became of the lines of a file."""

from datetime import datetime, timedelta

from cli.output import Form, console, print_json, print_table
from cli.sending import Span, Tally
from cli.source import Source

# Refused lines that a table lists; JSON lists them all.
LISTED = 20
# Events older than this are worth a word, since rules may have closed their windows.
_OLD = timedelta(hours=1)


def report(tally: Tally, name: str, source: Source, seconds: float, output: Form) -> None:
    """Print it as a table or as JSON."""
    rate = tally.accepted / seconds if seconds else 0.0
    tally.refused.sort(key=lambda refusal: refusal.line)
    if output is Form.JSON:
        print_json(_document(tally, name, source, rate))
        return
    inside = tally.lines - tally.accepted - len(tally.refused)
    unsent = source.lines_read - source.blank_lines - tally.lines
    _say(
        f"{source.name}: {source.lines_read:,} lines read as {name}: {tally.accepted:,} events accepted, "
        f"{len(tally.refused):,} refused, {inside:,} continuation lines, {source.blank_lines:,} blank"
        f"{f', {unsent:,} not sent' if unsent else ''}; {rate:,.0f} events/s"
    )
    print_table(["Level", "Events"], [[level, f"{count:,}"] for level, count in sorted(tally.by_level.items())])
    if tally.refused:
        shown = tally.refused[:LISTED]
        rows = [[str(refusal.line), refusal.field, refusal.reason] for refusal in shown]
        print_table(["Line", "Field", "Expected"], rows, title=f"Refused ({len(shown)} of {len(tally.refused)})")
    if tally.unsent:
        _say(f"Not sent, or not known to have arrived: {', '.join(map(_words, tally.unsent))}. Send these lines again.")


def say_if_old(oldest: int | None, now: datetime) -> None:
    """A word about events that rules may take for late ones."""
    if oldest is not None and now.timestamp() - oldest > _OLD.total_seconds():
        _say(
            "These are old events: rules that have seen newer ones count them as late. "
            "--times arrival or --times shift sends them as new."
        )


def _document(tally: Tally, name: str, source: Source, rate: float) -> dict[str, object]:
    return {
        "file": source.name,
        "format": name,
        "lines": source.lines_read,
        "accepted": tally.accepted,
        "refused": [{"line": one.line, "field": one.field, "reason": one.reason} for one in tally.refused],
        "unsent": [{"first": span.first, "last": span.last} for span in tally.unsent],
        "byLevel": dict(tally.by_level),
        "eventsPerSecond": round(rate),
    }


def _words(span: Span) -> str:
    return f"lines {span.first} to {span.last}" if span.last else f"all from line {span.first}"


def _say(text: str) -> None:
    console.print(text)
