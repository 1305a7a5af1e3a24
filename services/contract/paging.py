"""Pages by keyset: a token holds the key of the last row shown, and the filters for which it holds.

A list is read with one row more than the page holds; if that row is there, the key of the last row shown becomes the
token. Tokens are opaque to clients and may be read by the next release.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import Message

from services.domain.fingerprint import digest

_Row = TypeVar("_Row")
_Key = TypeVar("_Key", bound=tuple[str, ...])

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500

_FOREIGN = "is not one that this service gave out"


class PageTokenError(ValueError):
    """The token is not one of ours, or was given out for other filters."""


def page_size(requested: int) -> int:
    """Return the size that is meant: 0 is the default, more than the maximum is the maximum.

    Raises ValueError when it is negative.
    """
    if requested < 0:
        raise ValueError("must not be negative")
    return min(requested, MAX_PAGE_SIZE) if requested else DEFAULT_PAGE_SIZE


def filters_of(request: Message) -> str:
    """Return what a list request asks for apart from the page."""
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    return filters.SerializeToString(deterministic=True).hex()


def shown_rows(rows: Sequence[_Row], size: int, key_of: Callable[[_Row], _Key]) -> tuple[Sequence[_Row], _Key | None]:
    """Return the rows that a page shows, and the key of the last one if more were read than it shows."""
    shown = rows[:size]
    return shown, key_of(shown[-1]) if len(rows) > size else None


def encode_page_token(key: tuple[str, ...] | None, *, filters: str) -> str:
    """Return the token of the page after the row with this key; empty for no key, when no page follows."""
    if key is None:
        return ""
    text = json.dumps([digest(filters), *key], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_page_token(token: str, *, filters: str, width: int) -> tuple[str, ...]:
    """Return the key in a token, empty for the empty token, which asks for the first page.

    Raises PageTokenError when the token was not given out for these filters, or its key has another width.
    """
    if not token:
        return ()
    bound, *key = _parts(token)
    if not all(_is_storable(part) for part in key):
        raise PageTokenError(_FOREIGN)
    if bound != digest(filters):
        raise PageTokenError("was given out for other filters")
    if len(key) != width:
        raise PageTokenError(_FOREIGN)
    return tuple(key)


def key_time(text: str) -> datetime:
    """Return the time in a part of a key, in UTC. Raises PageTokenError when it is none, or has no zone."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise PageTokenError(_FOREIGN)
        return time.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise PageTokenError(_FOREIGN) from error


def _is_storable(text: str) -> bool:
    """Whether a store takes the text: JSON can say NUL, and halves of characters, where UTF-8 cannot."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _parts(token: str) -> list[str]:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        parts = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise PageTokenError(_FOREIGN) from error
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise PageTokenError(_FOREIGN)
    return parts
