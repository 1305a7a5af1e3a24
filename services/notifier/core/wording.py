"""How an alert is put into words; plain text, which each channel escapes in its own way."""

from datetime import UTC, datetime, timedelta

from services.notifier.core.message import Kind, Message, Sample

_MINUTE = 60
_HOUR = 3600


def headline(message: Message) -> str:
    """One line that says how urgent, what happened, which rule and where."""
    return one_line(f"[{message.severity.name}] {message.kind.name}: {message.rule} on {message.resource}")


def facts(message: Message) -> tuple[tuple[str, str], ...]:
    """Names and values, the most telling first."""
    found = [
        ("Rule", one_line(message.rule)),
        ("Resource", one_line(message.resource)),
        ("Severity", message.severity.name),
    ]
    if (window := message.window) is not None:
        found += [
            ("Count", f"{window.count} of {window.total}"),
            ("Threshold", f"{window.threshold:g}"),
            ("Window", f"{length(window.length)} from {moment(window.start)}"),
        ]
        found += [("Condition", one_line(window.condition))] if window.condition else []
    found.append(("Fired", moment(message.fire_time)))
    if message.kind is not Kind.FIRING:
        by = f" by {one_line(message.actor)}" if message.actor else ""
        found.append((message.kind.name.capitalize(), moment(message.change_time) + by))
    return tuple(found)


def evidence(sample: Sample) -> str:
    """One line that says where a sample event comes from; its text stands apart."""
    parts = [moment(sample.time), sample.level, sample.service, sample.host]
    trace = f"trace {sample.trace_id}" if sample.trace_id else ""
    return one_line(" ".join(part for part in [*parts, trace] if part))


def moment(time: datetime) -> str:
    """2026-01-02 03:04:05 UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def length(span: timedelta) -> str:
    """5 min, 90 s, 2 h."""
    seconds = int(span.total_seconds())
    if seconds >= _HOUR and seconds % _HOUR == 0:
        return f"{seconds // _HOUR} h"
    if seconds >= _MINUTE and seconds % _MINUTE == 0:
        return f"{seconds // _MINUTE} min"
    return f"{seconds} s"


def one_line(text: str) -> str:
    """The text without line breaks and other control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def many_lines(text: str) -> str:
    """The text without control characters other than line breaks and tabs."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def cut(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis when it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
