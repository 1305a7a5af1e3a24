"""Why a program did not start, found in the lines that this start wrote to its log."""

import json
import re
from collections.abc import Iterable, Sequence

_LEVELS = frozenset({"error", "critical"})
# As Kafka, PostgreSQL, Redis and Envoy write it; Python's own last line of a traceback counts too.
_PLAIN = re.compile(r"\b(FATAL|ERROR|PANIC|CRITICAL|critical|error)\b|^[A-Za-z_.]*(Error|Exception):|^# ")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception)\b")


def find_reason(name: str, lines: Sequence[str]) -> list[str]:
    """Return the lines that say why, in words: refused settings, else the last error; nothing when none stands out."""
    if refused := [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")]:
        return refused
    errors = [text for line in lines if (text := _error_of(line))]
    return errors[-1:]


def show_start(name: str, failure: str, lines: Sequence[str], source: str, *, max_lines: int = 20) -> str:
    """Return what a person reads of a failed start: the failure, the reason, then the last lines of this start."""
    reasons = find_reason(name, lines)
    shown = lines[-max_lines:] or ["(none)"]
    return "\n".join([failure, *_indented(reasons), f"lines of this start in {source}:", *_indented(shown)])


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _error_of(line: str) -> str:
    """Return the error that a line of a log tells of; empty when it tells of none."""
    try:
        record = json.loads(line)
    except ValueError:
        return line.strip() if _PLAIN.search(line) else ""
    if not isinstance(record, dict) or record.get("level") not in _LEVELS:
        return ""
    exception = str(record.get("exception", "")).strip().splitlines()
    last = next((one for one in reversed(exception) if _EXCEPTION.match(one)), "")
    return ": ".join(filter(None, [str(record.get("event", "")), last]))
