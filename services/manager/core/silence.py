"""A silence: of which alerts nobody is notified, and when. Its state is a function of the silence and the time.

A silence holds from a time to another, or at times that recur, or for named alerts until they are resolved. It never
changes but that it expires: earlier when somebody says so. Who wants another one makes another one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.fingerprint import digest
from services.domain.matchers import ALERTNAME, SEVERITY, LabelMatcher
from services.domain.severity import Severity
from services.manager.core.recurrence import Recurrence

# Pending and active ones; each manager keeps all of them in memory.
MAX_SILENCES = 10_000
MAX_ALERT_IDS = 100
MAX_DURATION = timedelta(days=31)
MIN_DURATION = timedelta(minutes=1)
# A silence that is meant to hold for longer is a rule that should be disabled.
MAX_SPAN = timedelta(days=366 * 2)
# What no name of a rule is likely to be: a matcher that accepts all of these accepts any name.
_PROBES = ("a", "High error count", "\N{SNOWMAN} 7", "-", "x" * 99)


class SilenceState(StrEnum):
    """Where a silence stands; the names are those of the contract."""

    # It has not begun, or is between two of its times.
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """What is silenced, when, by whom and why. It has matchers or alert ids."""

    id: str
    author: str
    comment: str
    create_time: datetime
    start_time: datetime
    matchers: tuple[LabelMatcher, ...] = ()
    # Silenced until all of them are resolved.
    alert_ids: tuple[str, ...] = ()
    # None: without an end.
    end_time: datetime | None = None
    recurrence: Recurrence | None = None
    # When somebody ended it, or all its alerts were resolved.
    expire_time: datetime | None = None

    @property
    def etag(self) -> str:
        """Return a text that differs after it was ended."""
        return digest("silence", self.id, str(self.expire_time))[:16]

    def state(self, now: datetime) -> SilenceState:
        """Return where the silence stands."""
        if any(end is not None and now >= end for end in (self.expire_time, self.end_time)):
            return SilenceState.EXPIRED
        is_covered = now >= self.start_time and (self.recurrence is None or self.recurrence.covers(now))
        return SilenceState.ACTIVE if is_covered else SilenceState.PENDING

    def next_border(self, now: datetime) -> datetime | None:
        """Return when the state may change next; None when it is expired or has no end."""
        if self.state(now) is SilenceState.EXPIRED:
            return None
        recurring = None if self.recurrence is None else self.recurrence.next_border(max(now, self.start_time))
        times = (self.start_time, self.end_time, self.expire_time, recurring)
        return min((time for time in times if time is not None and time > now), default=None)


def silence_problems(silence: Silence, *, now: datetime) -> list[tuple[str, str]]:
    """Return what is not allowed in a new silence, each with its field, named as in JSON."""
    found = [] if silence.author else [("author", "is required")]
    if not silence.comment.strip():
        found.append(("comment", "is required: say why, for those who wonder why nobody was notified"))
    found += _target_problems(silence)
    found += (
        _time_problems(silence, now) if silence.recurrence is None else _recurrence_problems(silence.recurrence, now)
    )
    return found


def expire(silence: Silence, *, now: datetime) -> Silence:
    """Return the silence after somebody ended it."""
    return replace(silence, expire_time=now)


def early_end(end: datetime, start: datetime, now: datetime) -> str:
    """Return what is said of an end that is not after the start and after now."""
    bound = f"the start, {start.isoformat()}" if start > now else f"now, {now.isoformat()}"
    return f"is {end.isoformat()}, expected a time after {bound}"


def late_end(end: datetime, start: datetime, longest: timedelta) -> str:
    """Return what is said of an end that is too long after the start."""
    return f"is {end.isoformat()}, expected at most {longest.days} days after the start, {start.isoformat()}"


def duration_problem(duration: timedelta) -> str:
    """Return what is wrong with how long each time of a recurrence lasts; empty for nothing."""
    if MIN_DURATION <= duration <= MAX_DURATION:
        return ""
    found, low, high = (f"{each.total_seconds():.15g}s" for each in (duration, MIN_DURATION, MAX_DURATION))
    return f"is {found}, must be {low} to {high}"


def narrows(matchers: Iterable[LabelMatcher]) -> bool:
    """Return whether the matchers leave some alert out.

    One of them must refuse a label that is missing; of the two labels that every alert has it must refuse some value.
    """
    return any(_narrows(matcher) for matcher in matchers)


def _narrows(matcher: LabelMatcher) -> bool:
    values: Sequence[str] = ("",)
    if matcher.name == SEVERITY:
        values = tuple(Severity.__members__)
    elif matcher.name == ALERTNAME:
        values = (*_PROBES, matcher.value or _PROBES[0])
    return not all(map(matcher.accepts, values))


def _target_problems(silence: Silence) -> list[tuple[str, str]]:
    if silence.alert_ids:
        both = [("matchers", "does not go with alertIds")] if silence.matchers else []
        if silence.recurrence is not None:
            both.append(("recurrence", "does not go with alertIds: these end when the alerts are resolved"))
        if len(silence.alert_ids) > MAX_ALERT_IDS:
            both.append(("alertIds", f"has {len(silence.alert_ids)} ids, at most {MAX_ALERT_IDS} are allowed"))
        return both
    if not silence.matchers:
        return [("matchers", "is required, or alertIds")]
    if not narrows(silence.matchers):
        return [("matchers", 'select every alert; expected one that leaves some out, such as service="payments"')]
    return []


def _time_problems(silence: Silence, now: datetime) -> list[tuple[str, str]]:
    end = silence.end_time
    if silence.alert_ids:
        return [] if end is None else [("endTime", "does not go with alertIds: these end when the alerts are resolved")]
    if end is None:
        return [("endTime", "is required, or recurrence")]
    if end <= max(now, silence.start_time):
        return [("endTime", early_end(end, silence.start_time, now))]
    if end - silence.start_time > MAX_SPAN:
        return [("endTime", late_end(end, silence.start_time, MAX_SPAN))]
    return []


def _recurrence_problems(recurrence: Recurrence, now: datetime) -> list[tuple[str, str]]:
    if problem := duration_problem(recurrence.duration):
        return [("recurrence.duration", problem)]
    if recurrence.first is None:
        return [("recurrence.rule", "does not occur within nine years of its start")]
    if recurrence.end is not None and recurrence.end <= now:
        return [("recurrence.rule", f"its last time ended at {recurrence.end.isoformat()}, before now")]
    return []
