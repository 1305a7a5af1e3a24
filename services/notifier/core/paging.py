"""Page sizes, and tokens that say where the next page begins."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

_DEFAULT = 50
_MOST = 500


class TokenError(ValueError):
    """A token that was not given by this list with these filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The last one that was shown."""

    moment: datetime
    id: UUID


def page_size(asked: int) -> int | None:
    """The number to give: the default for 0, at most the maximum; None when it is negative."""
    if asked < 0:
        return None
    return min(asked or _DEFAULT, _MOST)


def token_of(position: Position, filters: Sequence[str]) -> str:
    """The token of the page after a position."""
    parts = [position.moment.isoformat(), str(position.id), _mark(filters)]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def position_of(token: str, filters: Sequence[str]) -> Position | None:
    """The position in a token; None for the first page. Raises TokenError."""
    if not token:
        return None
    try:
        moment, identity, mark = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        given = datetime.fromisoformat(moment)
        position = Position(moment=given.astimezone(UTC), id=UUID(identity))
    except (binascii.Error, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise TokenError("not a token") from problem
    if mark != _mark(filters) or given.tzinfo is None:
        raise TokenError("a token of another list")
    return position


def _mark(filters: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(filters)).encode()).hexdigest()[:16]
