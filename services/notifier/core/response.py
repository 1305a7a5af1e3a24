"""What a channel's response means for a delivery."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Accepted:
    """The channel accepted it; the text names recipients that were refused."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The channel cannot take it now: worth another attempt, and a failure of the channel."""

    text: str


@dataclass(frozen=True, slots=True)
class AskedToWait:
    """The channel works and limits our rate: no failure of the channel, and no attempt."""

    text: str
    wait: timedelta


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The channel takes nothing until somebody changes something: not worth an attempt.

    It is a failure of the channel, unless the routes file itself rules out the call, so that nobody was called.
    """

    text: str
    was_called: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """The channel works and refuses this notification: no failure of the channel, and not worth another attempt."""

    text: str


@dataclass(frozen=True, slots=True)
class CircuitOpen:
    """The channel was not called, because its breaker is open."""

    text: str = "the channel's breaker is open"


def circuit_open(last_failure: str) -> CircuitOpen:
    """Return the response of a channel whose breaker is open, with what its last attempt ended with."""
    open_circuit = CircuitOpen()
    return CircuitOpen(f"{open_circuit.text}; the last attempt: {last_failure}") if last_failure else open_circuit


ChannelResponse = Accepted | Unavailable | AskedToWait | Misconfigured | Refused | CircuitOpen

_TOO_MANY_REQUESTS = 429
_SERVICE_UNAVAILABLE = 503
_RETRIED = frozenset({408, 425})
_ACCESS_REFUSED = frozenset({401, 402, 403, 404, 405, 407, 410})
# For a channel that asks to wait and does not say how long.
_DEFAULT_WAIT = timedelta(seconds=5)
_MAX_WAIT = timedelta(days=1)


def classify_http(status: int, *, retry_after: str | None, now: datetime, detail: str = "") -> ChannelResponse:
    """Return what an HTTP status means; `detail` is the part of the body that is safe to repeat."""
    text = f"answered {status}" + (f": {detail}" if detail else "")
    if 200 <= status < 300:  # noqa: PLR2004 - the numbers of HTTP
        return Accepted()
    wait = parse_retry_after(retry_after, now=now)
    if status == _TOO_MANY_REQUESTS or (status == _SERVICE_UNAVAILABLE and wait is not None):
        return AskedToWait(text, _DEFAULT_WAIT if wait is None else wait)
    if status in _RETRIED or status >= 500:  # noqa: PLR2004 - the numbers of HTTP
        return Unavailable(text)
    if status in _ACCESS_REFUSED or status < 400:  # noqa: PLR2004 - the numbers of HTTP
        # Redirects are not followed: a person must change an address that has moved.
        return Misconfigured(text)
    return Refused(text)


def parse_retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """Return the time that a Retry-After header asks for (RFC 9110, section 10.2.3), at most a day.

    None when there is no header, or it cannot be parsed.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _MAX_WAIT)
    try:
        time = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if time.tzinfo is None:
        return None
    return min(max(time - now, timedelta(0)), _MAX_WAIT)


_SMTP_ACCESS_REFUSED = {
    530: "a login is needed, or TLS before it",
    534: "this way to log in is not strong enough",
    535: "the login is not accepted",
    538: "TLS is needed before the login",
    550: "the mailbox is unknown, or mail from here is not relayed",
    551: "the recipient is not here",
    553: "the recipient's or the sender's address is not allowed",
}


def classify_smtp(code: int) -> ChannelResponse:
    """Return what the code of an SMTP reply means when it is no success."""
    text = f"answered {code}"
    if code in _SMTP_ACCESS_REFUSED:
        return Misconfigured(f"{text}: {_SMTP_ACCESS_REFUSED[code]}")
    if 500 <= code < 600:  # noqa: PLR2004 - the numbers of SMTP
        return Refused(text)
    return Unavailable(text)
