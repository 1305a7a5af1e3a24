"""What no answer may be, whatever was sent: a crash, an internal error, or the words of what runs inside."""

import re

import grpc

# Classes and words of drivers and of Python, and paths of the machine.
_LEAK = re.compile(
    r"Traceback|File \"/|asyncpg|psycopg|librdkafka|confluent|sqlalchemy|redis\.exceptions|pyarrow|pybreaker"
    r"|[Ee]rrno|object at 0x|site-packages|/home/|/usr/|postgresql://|alertpass"
)
_CRASHES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE)


def finding_in_call(code: grpc.StatusCode, details: str) -> str:
    """Return what is wrong with a call's status; empty when nothing is."""
    if code in _CRASHES:
        return f"{code.name}: {details}"
    return _leak(details)


def finding_in_response(status: int, text: str, sent: str = "") -> str:
    """Return what is wrong with a response of HTTP; empty when nothing is. What was sent may be repeated."""
    if status >= 500:
        return f"{status}: {text[:300]}"
    return _leak(text) if not _LEAK.search(sent) else ""


def _leak(text: str) -> str:
    found = _LEAK.search(text)
    return f"leaked {found[0]!r}: {text[:300]}" if found else ""
