"""The text of a recurrence rule, as RFC 5545 writes it: `FREQ=WEEKLY;BYDAY=SU;UNTIL=20271231T000000Z`.

What is finer than an hour is refused, and so are BYSECOND, BYWEEKNO and BYYEARDAY.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.manager.core.recurrence import Frequency, RecurrenceRule

MAX_COUNT = 1000
MAX_INTERVAL = 1000
_MAX_TEXT = 512
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_BY_DAY = re.compile(rf"([+-]?\d{{1,2}})?({'|'.join(_WEEKDAYS)})")
_NUMBER = re.compile(r"[+-]?\d{1,4}", re.ASCII)
_UNTIL = re.compile(r"\d{8}(T\d{6}Z?)?", re.ASCII)
_MAX_WEEKS = 53
_MAX_WEEKS_OF_MONTH = 5


class RecurrenceError(ValueError):
    """A text is no recurrence rule that is allowed."""


def parse_rule(text: str) -> RecurrenceRule:
    """Return the rule of a text. Raises RecurrenceError, which names the part, what was found and what is expected."""
    if len(text) > _MAX_TEXT:
        raise RecurrenceError(f"has {len(text)} characters, at most {_MAX_TEXT} are allowed")
    values: dict[str, Any] = {}
    for part in text.strip().removeprefix("RRULE:").rstrip(";").split(";"):
        name, equals, value = part.strip().upper().partition("=")
        if not equals or name not in _PARTS:
            raise RecurrenceError(f'found "{part.strip()}", expected NAME=VALUE with {", ".join(_PARTS)}')
        if _PARTS[name].field in values:
            raise RecurrenceError(f"{name} stands there twice")
        try:
            values[_PARTS[name].field] = _PARTS[name].read(value)
        except ValueError:
            raise RecurrenceError(f'{name}: found "{value}", expected {_PARTS[name].expected}') from None
    if "frequency" not in values:
        raise RecurrenceError(f"FREQ is missing: one of {', '.join(Frequency)}")
    rule = RecurrenceRule(**values)
    _check_together(rule)
    return rule


def _check_together(rule: RecurrenceRule) -> None:
    """Refuse parts that do not go together."""
    ordinals = [which for _, which in rule.by_day if which]
    is_monthly = rule.frequency is Frequency.MONTHLY or (rule.frequency is Frequency.YEARLY and bool(rule.by_month))
    if rule.count is not None and rule.until is not None:
        raise RecurrenceError("has COUNT and UNTIL, expected one of them")
    if ordinals and rule.frequency not in {Frequency.MONTHLY, Frequency.YEARLY}:
        raise RecurrenceError("BYDAY: a number before a day needs FREQ=MONTHLY or FREQ=YEARLY")
    if is_monthly and any(abs(which) > _MAX_WEEKS_OF_MONTH for which in ordinals):
        raise RecurrenceError(f"BYDAY: a month has at most {_MAX_WEEKS_OF_MONTH} of each day")
    if rule.by_month_day and rule.frequency is Frequency.WEEKLY:
        raise RecurrenceError("BYMONTHDAY does not go with FREQ=WEEKLY")
    if rule.by_set_position and rule.frequency is Frequency.HOURLY:
        raise RecurrenceError("BYSETPOS does not go with FREQ=HOURLY")


def _number(text: str, low: int, high: int) -> int:
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise ValueError(text)
    return int(text)


def _numbers(low: int, high: int, *, is_signed: bool = False) -> Callable[[str], tuple[int, ...]]:
    def read(text: str) -> tuple[int, ...]:
        numbers = tuple(_number(each, -high if is_signed else low, high) for each in text.split(","))
        if is_signed and 0 in numbers:
            raise ValueError(text)
        return numbers

    return read


def _days(text: str) -> tuple[tuple[int, int], ...]:
    days = []
    for each in text.split(","):
        match = _BY_DAY.fullmatch(each)
        if match is None or (match[1] and not 1 <= abs(int(match[1])) <= _MAX_WEEKS):
            raise ValueError(each)
        days.append((_WEEKDAYS.index(match[2]), int(match[1] or 0)))
    return tuple(days)


def _until(text: str) -> datetime:
    """Return the last moment; a day is meant whole."""
    if not _UNTIL.fullmatch(text):
        raise ValueError(text)
    day = datetime.strptime(text[:8], "%Y%m%d")  # noqa: DTZ007  (on the wall clock)
    if "T" not in text:
        return day + timedelta(days=1, seconds=-1)
    moment = datetime.strptime(text.rstrip("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007
    return moment.replace(tzinfo=UTC) if text.endswith("Z") else moment


@dataclass(frozen=True, slots=True)
class _Part:
    field: str
    read: Callable[[str], Any]
    expected: str


_PARTS: Mapping[str, _Part] = {
    "FREQ": _Part("frequency", Frequency, f"one of {', '.join(Frequency)}"),
    "INTERVAL": _Part("interval", lambda text: _number(text, 1, MAX_INTERVAL), f"1 to {MAX_INTERVAL}"),
    "COUNT": _Part("count", lambda text: _number(text, 1, MAX_COUNT), f"1 to {MAX_COUNT}"),
    "UNTIL": _Part("until", _until, "a time such as 20271231T220000Z, or a day such as 20271231"),
    "BYMONTH": _Part("by_month", _numbers(1, 12), "months from 1 to 12"),
    "BYMONTHDAY": _Part("by_month_day", _numbers(1, 31, is_signed=True), "days from 1 to 31, or from -31 to -1"),
    "BYDAY": _Part("by_day", _days, f"days such as MO, -1SU, of {', '.join(_WEEKDAYS)}"),
    "BYHOUR": _Part("by_hour", _numbers(0, 23), "hours from 0 to 23"),
    "BYMINUTE": _Part("by_minute", lambda text: _number(text, 0, 59), "one minute from 0 to 59"),
    "BYSETPOS": _Part("by_set_position", _numbers(1, 366, is_signed=True), "places from 1 to 366, or from -366 to -1"),
    "WKST": _Part("week_start", _WEEKDAYS.index, f"one of {', '.join(_WEEKDAYS)}"),
}
