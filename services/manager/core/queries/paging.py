"""Pages by keyset: the token says after which row the next page begins, and for which filters it holds."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from services.domain.fingerprint import digest

DEFAULT_SIZE = 50
MAX_SIZE = 500


class TokenError(ValueError):
    """The token is not one of ours, or was given out for other filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How many rows, and after which one; `after` is empty for the first page."""

    size: int = DEFAULT_SIZE
    after: tuple[str, ...] = ()


def page_size(asked: int) -> int:
    """The size that is meant: 0 is the default, more than the maximum is the maximum. ValueError when negative."""
    if asked < 0:
        raise ValueError("must not be negative")
    return min(asked, MAX_SIZE) if asked else DEFAULT_SIZE


def token_of(after: tuple[str, ...], *, filters: str) -> str:
    """An opaque token for the page after the row with these key values."""
    text = json.dumps([digest(filters), *after], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def after_of(token: str, *, filters: str, width: int) -> tuple[str, ...]:
    """The key values in a token: none for the empty one. Raises TokenError when it is not good for these filters."""
    if not token:
        return ()
    bound, *after = _parts(token)
    if not all(_is_storable(part) for part in after):
        raise TokenError("is not one that this service gave out")
    if bound != digest(filters):
        raise TokenError("was given out for other filters")
    if len(after) != width:
        raise TokenError("is not one that this service gave out")
    return tuple(after)


def moment_of(text: str) -> datetime:
    """The moment in a token's key values, in UTC. Raises TokenError when there is none that can be."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise TokenError("is not one that this service gave out")
        return moment.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise TokenError("is not one that this service gave out") from error


def _is_storable(text: str) -> bool:
    """Whether a store takes the text: JSON can say NUL, and halves of characters, where UTF-8 cannot."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _parts(token: str) -> list[str]:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        parts = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise TokenError("is not one that this service gave out") from error
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise TokenError("is not one that this service gave out")
    return parts
