"""The spellings of times that are usual in log files."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal

from services.domain.event_time import parse_epoch

Now = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their digits.
_SINCE_1970 = re.compile(r"(\d{10}|\d{13}|\d{16}|\d{19})(?:\.\d+)?", re.ASCII)
_EXPONENT = re.compile(r"\d\.\d{1,18}[eE]\+?\d{1,2}", re.ASCII)
# How far ahead of now a time without a date, or without a year, may be: clocks differ.
_AHEAD = timedelta(minutes=10)
_AHEAD_WITHOUT_YEAR = timedelta(days=1)
# 29 February comes again after eight years at most.
_YEARS_BACK = 8
_CENTURY = 2000
_LEAP_SECOND = 60

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
# Which moment they mean is known when the zone that was asked for uses them.
_ABBREVIATIONS = (
    "UTC|GMT|CET|CEST|WET|WEST|EET|EEST|BST|IST|MSK|EST|EDT|CST|CDT|MST|MDT|PST|PDT|AKST|AKDT|HST|AST|ADT|NST|NDT|"
    "JST|KST|HKT|SGT|PKT|WIB|AEST|AEDT|ACST|ACDT|AWST|NZST|NZDT|SAST|CAT|EAT|WAT"
)
_MONTH = f"(?P<month_name>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
_CLOCK_OF_12 = r"(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d)[ \u202f](?P<half>[AP])M"
_ZONE = rf"(?: ?(?P<zone>Z(?![A-Za-z])|[+-]\d\d(?::?\d\d)?(?![\d.:-])|(?:{_ABBREVIATIONS})(?![\w-])))?"

# How times are written, the fuller ones first.
SPELLINGS = {
    "2026-11-27T10:00:00.123Z": rf"(?P<year>\d{{4}})[-/.](?P<month>\d\d)[-/.](?P<day>\d\d)(?:[T _]| - ){_CLOCK}{_ZONE}",
    "27/Nov/2026:10:00:00 +0100": rf"(?P<day>\d\d)[/ -]{_MONTH}[/ -](?P<year>\d{{4}})(?:::?| ){_CLOCK}{_ZONE}",
    "27.11.2026 10:00:00": rf"(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d{{4}}) {_CLOCK}",
    "Fri Nov 27 10:00:00 2026": rf"(?:{_WEEKDAY} )?{_MONTH} (?P<day>[ \d]\d) {_CLOCK}{_ZONE} (?P<year>\d{{4}})(?!\d)",
    "Nov 27, 2026 10:00:00 PM": rf"{_MONTH} (?P<day>\d\d?), (?P<year>\d{{4}}),? {_CLOCK_OF_12}",
    "11/27/2026 10:00:00 PM": rf"(?P<month>\d\d?)/(?P<day>\d\d?)/(?P<year>\d{{4}}),? {_CLOCK_OF_12}",
    "Nov 27 10:00:00": rf"{_MONTH} (?P<day>[ \d]\d) {_CLOCK}",
    "26/11/27 10:00:00": rf"(?P<short_year>\d\d)/(?P<month>\d\d)/(?P<day>\d\d) {_CLOCK}",
    "11-27 10:00:00.123": rf"(?P<month>\d\d)-(?P<day>\d\d) {_CLOCK}",
    "20261127 10:00:00.123": rf"(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d)[T ]{_CLOCK}{_ZONE}",
    "20261127T100000Z": (
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?!\d)"
        rf"(?:[.,](?P<fraction>\d{{1,9}}))?{_ZONE}"
    ),
    "10:00AM": r"(?P<hour>\d\d?):(?P<minute>\d\d)(?P<half>[AP])M",
    "10:00:00.123": _CLOCK,
    # These three only where a format says that they stand: klog's and BlueGene/L's.
    "261127 10:00:00.123456": rf"(?P<short_year>\d\d)(?P<month>\d\d)(?P<day>\d\d) {_CLOCK}",
    "1127 10:00:00.123456": rf"(?P<month>\d\d)(?P<day>\d\d) {_CLOCK}",
    "2026-11-27-10.00.00.123456": (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-"
        r"(?P<hour>\d\d)\.(?P<minute>\d\d)\.(?P<second>\d\d)\.(?P<fraction>\d{6})"
    ),
}
_COMPILED = tuple(re.compile(spelling, re.ASCII) for spelling in SPELLINGS.values())
# The same as parts of larger patterns: a date and a time, and a time of day alone.
ISO, *_OTHERS, _KITCHEN, _CLOCKED, _, _, _ = (re.sub(r"\?P<\w+>", "?:", spelling) for spelling in SPELLINGS.values())
CALENDAR = "|".join([ISO, *_OTHERS])
TIME_OF_DAY = f"(?:{_KITCHEN}|{_CLOCKED})"

_EXACT = re.compile(r".*:\d\d(?:[.,]\d+)? ?(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)", re.ASCII)


def is_exact(text: str) -> bool:
    """Whether a time names its zone, so that nothing about it is assumed."""
    return bool(_EXACT.fullmatch(text) or _SINCE_1970.fullmatch(text) or _EXPONENT.fullmatch(text))


def time_of(text: str, *, now: Now, zone: tzinfo = UTC) -> datetime | None:
    """The moment in UTC that a text means, None when it is no time.

    Without a zone it is in `zone`; without a year or a date it is the last such moment, or one that is just ahead.
    """
    text = text.strip()
    try:
        moment = _since_1970(text) or _iso(text, zone) or _spelled(text, now, zone)
        return moment and moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def _since_1970(text: str) -> datetime | None:
    if _EXPONENT.fullmatch(text):
        text = f"{Decimal(text):f}"
    time = parse_epoch(text) if _SINCE_1970.fullmatch(text) else None
    return time and _EPOCH + timedelta(seconds=time[0], microseconds=time[1] // 1000)


def _iso(text: str, zone: tzinfo) -> datetime | None:
    """What Python understands itself, and fast."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


def _spelled(text: str, now: Now, zone: tzinfo) -> datetime | None:
    match = next((match for pattern in _COMPILED if (match := pattern.fullmatch(text))), None)
    if match is None:
        return None
    found = match.groupdict()
    # A leap second is the moment after the second before it.
    second = found.get("second") or "00"
    is_leap = int(second) == _LEAP_SECOND
    moment = _moment(found, second="59" if is_leap else second, now=now, zone=zone)
    return moment and moment.astimezone(UTC) + timedelta(seconds=is_leap)


def _moment(found: dict[str, str | None], *, second: str, now: Now, zone: tzinfo) -> datetime | None:
    micro = (found.get("fraction") or "")[:6].ljust(6, "0")
    clock = f"{_hour(found):02d}:{found['minute']}:{second}.{micro}"
    if year := found.get("year"):
        return _zoned(datetime.fromisoformat(f"{year}-{_month_and_day(found)}T{clock}"), found.get("zone"), zone)
    if short_year := found.get("short_year"):
        return _in(zone, f"{_CENTURY + int(short_year)}-{_month_and_day(found)}T{clock}")
    here = now().astimezone(zone)
    if found.get("day"):
        years = range(here.year + 1, here.year - _YEARS_BACK, -1)
        moments = _existing((f"{year}-{_month_and_day(found)}T{clock}" for year in years), zone)
        return _last(moments, here + _AHEAD_WITHOUT_YEAR)
    days = (here.date() + timedelta(days=ahead) for ahead in (1, 0, -1))
    return _last(_existing((f"{day}T{clock}" for day in days), zone), here + _AHEAD)


def _hour(found: dict[str, str | None]) -> int:
    hour, half = int(found["hour"] or 0), found.get("half")
    return hour if half is None else hour % 12 + (12 if half == "P" else 0)


def _month_and_day(found: dict[str, str | None]) -> str:
    name, month, day = found.get("month_name"), found.get("month"), found["day"]
    return f"{_MONTHS.index(name) + 1 if name else int(month or 0):02d}-{int(day or 0):02d}"


def _in(zone: tzinfo, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def _existing(texts: Iterator[str], zone: tzinfo) -> Iterator[datetime]:
    """The moments among some, since not each year has a 29 February."""
    for text in texts:
        try:
            yield _in(zone, text)
        except ValueError:
            continue


def _last(moments: Iterator[datetime], limit: datetime) -> datetime | None:
    return next((moment for moment in moments if moment <= limit), None)


def _zoned(local: datetime, name: str | None, zone: tzinfo) -> datetime | None:
    """A local time in the zone that it names, or else in `zone`; None when it names another one by an abbreviation.

    An abbreviation that `zone` uses says which of two equal times it is when clocks are put back.
    """
    if name is None:
        return local.replace(tzinfo=zone)
    if name in {"Z", "UTC", "GMT"}:
        return local.replace(tzinfo=UTC)
    if name[0] in "+-":
        hours, minutes = name[1:3], name[3:].lstrip(":") or "0"
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return local.replace(tzinfo=timezone(-offset if name[0] == "-" else offset))
    both = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    return next((moment for moment in both if moment.tzname() == name), None)
