"""What `tocsin send` prints: what became of the lines of a file, and how they were parsed."""

import re

from cli.output import OutputFormat, print_data, print_table, print_to_stderr, stdout
from cli.parsing.event import ParseNote
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
    if output.is_data:
        print_data({**report_document(summary, format_name, file), "eventsPerSecond": round(rate)}, output)
        return
    unsent = file.lines_read - file.blank_lines - summary.lines
    stdout.print(
        f"{file.name}: {format_count(file.lines_read, 'line')} read as {format_name}: "
        f"{format_count(summary.accepted, 'event')} accepted, "
        f"{count_others(summary, file)}{f', {unsent:,} not sent' if unsent else ''}; {rate:,.0f} events/s"
    )
    print_counts(summary)
    if summary.unsent:
        lines = ", ".join(map(_format_range, summary.unsent))
        stdout.print(f"Not sent, or not known to have arrived: {lines}. Send these lines again.")


def format_count(count: int, noun: str) -> str:
    """Return a number of things, in words."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def count_others(summary: SendSummary, file: LogFile) -> str:
    """Return how many lines are no events of their own, in words."""
    return (
        f"{len(summary.refused):,} refused, {format_count(_continuation_lines(summary), 'continuation line')}, "
        f"{file.blank_lines:,} blank"
    )


def print_counts(summary: SendSummary) -> None:
    """Print how many events each level has, and the refused lines."""
    print_table(["Level", "Events"], [[level, f"{count:,}"] for level, count in sorted(summary.by_level.items())])
    if summary.refused:
        listed = summary.refused[:MAX_LISTED_LINES]
        rows = [[str(refused.line), refused.field, refused.reason] for refused in listed]
        print_table(["Line", "Field", "Reason"], rows, title=f"Refused ({len(listed)} of {len(summary.refused)})")


def print_notes(summary: SendSummary, file_name: str, times: TimeMode, open_windows: OpenWindows) -> None:
    """Print to standard error what was not understood, was changed, or comes too late, and in how many events."""
    for note in ParseNote:
        count = summary.notes[note]
        if not count or (note is ParseNote.NO_TIME and times is TimeMode.ARRIVAL):
            continue
        levels = ", ".join(f"{text!r} ({number:,})" for text, number in summary.unknown_levels.most_common())
        suffix = f": {levels}" if note is ParseNote.UNKNOWN_LEVEL else ""
        text = f"1 event {_of_one(note)}" if count == 1 else f"{count:,} events {note.value}"
        print_to_stderr(f"{file_name}: {text}{suffix}")
    if summary.too_late:
        is_shifted = times is TimeMode.SHIFT
        text = open_windows.describe(summary.too_late, summary.accepted, is_shifted=is_shifted)
        print_to_stderr(f"{file_name}: {text}")


def _of_one(note: ParseNote) -> str:
    return re.sub(r"^have\b|\bare\b(?= sent)", lambda plural: "has" if plural[0] == "have" else "is", note.value)


def report_document(summary: SendSummary, format_name: str, file: LogFile) -> dict[str, object]:
    """Return what became of the lines, for JSON."""
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
    }


def _continuation_lines(summary: SendSummary) -> int:
    return summary.lines - summary.accepted - len(summary.refused)


def _format_range(lines: LineRange) -> str:
    return f"lines {lines.first} to {lines.last}" if lines.last else f"all from line {lines.first}"
