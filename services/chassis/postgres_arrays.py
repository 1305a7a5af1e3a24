r"""Arrays as text, for statements that write many rows at once.

unnest takes an array of arrays apart, so what each row has as an array comes as text, and the statement casts it. That
is cheaper than JSON, of which each row would make an array by a query of its own.
"""

from collections.abc import Iterable


def array_text(values: Iterable[str]) -> str:
    """Return texts as PostgreSQL reads an array of them: `{"a","b"}`."""
    return "{" + ",".join([_quoted(value) for value in values]) + "}"


def bytes_array_text(values: Iterable[bytes]) -> str:
    """Return bytes as PostgreSQL reads an array of them, in hexadecimal digits."""
    return "{" + ",".join([rf'"\\x{value.hex()}"' for value in values]) + "}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
