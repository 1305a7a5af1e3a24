"""How many notifications an hour a tenant may have, and what becomes of those beyond: they are held, and never lost.

A tenant's limit is a rate. A quarter of an hour's worth may be sent at once, so in no hour more than 1.25 times the
limit is sent, beside what is sent whatever the limit: CRITICAL notifications, and the acknowledgement and end of
something whose beginning was sent. These count, up to a debt of an hour.

What is beyond the limit is held, and with it everything that follows, until the rate allows one more notification.
Then all that is held for a channel goes into one bundle, which counts as one. Nothing is held for longer than
`_MAX_HOLD` before it is in a bundle. When the first one is held the tenant is told so, at most once an hour, and told
when nothing is held any more.

What was decided is kept in one row for each tenant, which is locked to decide: so all instances have one count, and a
restart changes nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

_HOUR: Final = timedelta(hours=1)
# So much of the rate may come at once.
_BURST: Final = timedelta(minutes=15)
# A bundle waits for others for so long, so that it is worth one.
_MIN_HOLD: Final = timedelta(minutes=1)
_MAX_HOLD: Final = timedelta(hours=1)
_NOTICE_INTERVAL: Final = timedelta(hours=1)


class LimitDecision(StrEnum):
    """What becomes of a notification: a log field."""

    WITHIN_LIMIT = "WITHIN_LIMIT"
    ALWAYS_SENT = "ALWAYS_SENT"
    HELD = "HELD"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUsage:
    """What a tenant has used of its limit, and what is held of it."""

    # Until when the notifications that were sent last at the tenant's rate.
    used_until: datetime | None = None
    # When the oldest one was held that is in no bundle yet; None: nothing is held.
    held_since: datetime | None = None
    # When the tenant was last told, and the number of that notice while it is open.
    notice_time: datetime | None = None
    open_notice: int = 0
    # How many notices there were.
    notices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStep:
    """What was decided of one notification; `begins_notice`: the tenant is to be told now."""

    usage: LimitUsage
    decision: LimitDecision
    begins_notice: bool = False


def limit_notification(usage: LimitUsage, limit: int, *, is_always_sent: bool, now: datetime) -> LimitStep:
    """Decide whether a notification is sent at once, or held; the limit is for an hour, and 0 is none."""
    if is_always_sent:
        return LimitStep(usage=_charged(usage, limit, now), decision=LimitDecision.ALWAYS_SENT)
    if usage.held_since is None and has_room(usage, limit, now):
        return LimitStep(usage=_charged(usage, limit, now), decision=LimitDecision.WITHIN_LIMIT)
    held = replace(usage, held_since=usage.held_since or now)
    was_notified = usage.open_notice or (usage.notice_time and now - usage.notice_time < _NOTICE_INTERVAL)
    if was_notified:
        return LimitStep(usage=held, decision=LimitDecision.HELD)
    number = usage.notices + 1
    notified = replace(held, notice_time=now, open_notice=number, notices=number)
    return LimitStep(usage=notified, decision=LimitDecision.HELD, begins_notice=True)


def has_room(usage: LimitUsage, limit: int, now: datetime) -> bool:
    """Return whether the rate allows one more notification."""
    if not limit or usage.used_until is None:
        return True
    interval = _HOUR / limit
    return max(usage.used_until, now) + interval <= now + max(_BURST, interval)


def is_bundle_due(usage: LimitUsage, limit: int, now: datetime) -> bool:
    """Return whether what is held is to be sent in bundles now; at once where the limit was lifted."""
    if usage.held_since is None:
        return False
    held = now - usage.held_since
    return not limit or held >= _MAX_HOLD or (held >= _MIN_HOLD and has_room(usage, limit, now))


def bundled(usage: LimitUsage, limit: int, *, bundles: int, oldest_left: datetime | None, now: datetime) -> LimitUsage:
    """Return the usage after so many bundles, given when the oldest one was held that is in none of them."""
    for _ in range(bundles):
        usage = _charged(usage, limit, now)
    return replace(usage, held_since=oldest_left)


def ends_notice(usage: LimitUsage) -> bool:
    """Return whether the tenant is to be told that nothing is held any more."""
    return bool(usage.open_notice) and usage.held_since is None


def end_notice(usage: LimitUsage) -> LimitUsage:
    """Return the usage after the tenant was told that nothing is held any more."""
    return replace(usage, open_notice=0)


def _charged(usage: LimitUsage, limit: int, now: datetime) -> LimitUsage:
    if not limit:
        return usage
    used_until = max(usage.used_until or now, now) + _HOUR / limit
    return replace(usage, used_until=min(used_until, now + _HOUR))
