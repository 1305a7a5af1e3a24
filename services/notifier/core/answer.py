"""What a channel's answer means."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.notifier.core.retry import retry_after_of


@dataclass(frozen=True, slots=True)
class Accepted:
    """The channel took it; perhaps not for everybody, and then the text says so."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The channel cannot just now: worth another try, and a failure of the channel."""

    text: str


@dataclass(frozen=True, slots=True)
class AskedToWait:
    """The channel works and asks to be left alone for a while: no failure of the channel, and no attempt."""

    text: str
    wait: timedelta


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The channel takes nothing from us until somebody changes something: a failure of the channel, not worth a try."""

    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The channel works and does not take this message: no failure of the channel, and not worth another try."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The channel was not asked, because its breaker is open."""

    text: str = "the channel's breaker is open"


Answer = Accepted | Unavailable | AskedToWait | Misconfigured | Refused | TurnedAway

_TOO_MANY_REQUESTS = 429
_SERVICE_UNAVAILABLE = 503
# How long to leave a channel alone that does not say how long.
_UNTOLD_WAIT = timedelta(seconds=5)
_TRY_AGAIN = frozenset({408, 425})
_OUR_ACCESS = frozenset({401, 402, 403, 404, 405, 407, 410})


def of_http(status: int, *, retry_after: str | None, now: datetime, words: str = "") -> Answer:
    """What an HTTP status means; `words` are the part of the body that is safe to repeat."""
    text = f"answered {status}" + (f": {words}" if words else "")
    if 200 <= status < 300:  # noqa: PLR2004 - the numbers of HTTP
        return Accepted()
    wait = retry_after_of(retry_after, now=now)
    if status == _TOO_MANY_REQUESTS or (status == _SERVICE_UNAVAILABLE and wait is not None):
        return AskedToWait(text, _UNTOLD_WAIT if wait is None else wait)
    if status in _TRY_AGAIN or status >= 500:  # noqa: PLR2004 - the numbers of HTTP
        return Unavailable(text)
    if status in _OUR_ACCESS or status < 400:  # noqa: PLR2004 - the numbers of HTTP
        # Redirects are not followed: an address that moved must be changed by a person.
        return Misconfigured(text)
    return Refused(text)


# Not logged in, login refused, TLS demanded, mailbox unknown, relaying refused.
_SMTP_ACCESS = frozenset({530, 534, 535, 538, 550, 551, 553})


def of_smtp(code: int) -> Answer:
    """What the code of an SMTP reply that is no success means."""
    text = f"answered {code}"
    if code in _SMTP_ACCESS:
        return Misconfigured(text)
    if 500 <= code < 600:  # noqa: PLR2004 - the numbers of SMTP
        return Refused(text)
    return Unavailable(text)
