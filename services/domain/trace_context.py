"""The header `traceparent` of W3C Trace Context, as it goes along with records."""

import re
from collections.abc import Iterable, Sequence

# Of a record, as Kafka has them.
TraceHeaders = Sequence[tuple[str, bytes]]

_NAME = "traceparent"
# Version ff and ids of zeros alone are invalid; only versions after 00 may have more than four parts.
_FORM = re.compile(r"(?!ff|00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def traceparent_of(headers: Iterable[tuple[str, bytes]] | None) -> str:
    """Return the traceparent among a record's headers, an empty string when there is none."""
    for name, value in headers or ():
        if value and name.lower() == _NAME:
            return value.decode("ascii", "replace")
    return ""


def headers_of(traceparent: str) -> TraceHeaders:
    """Return the headers that carry a traceparent, none for an empty one."""
    return [(_NAME, traceparent.encode())] if traceparent else []


def trace_id_of(traceparent: str) -> str:
    """Return the trace id, 32 hexadecimal digits, or an empty string when the traceparent is not valid."""
    match = _FORM.fullmatch(traceparent)
    return match[1] if match else ""
