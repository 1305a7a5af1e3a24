"""Timestamps in the forms that are usual in log files."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal

from services.domain.event_time import parse_epoch

Now = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds, milliseconds, microseconds or nanoseconds since 1970, by the number of digits.
_EPOCH_NUMBER = re.compile(r"(\d{10}|\d{13}|\d{16}|\d{19})(?:\.\d+)?", re.ASCII)
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
# An abbreviation is understood only when the chosen zone uses it.
_ABBREVIATIONS = (
    "UTC|GMT|CET|CEST|WET|WEST|EET|EEST|BST|IST|MSK|EST|EDT|CST|CDT|MST|MDT|PST|PDT|AKST|AKDT|HST|AST|ADT|NST|NDT|"
    "JST|KST|HKT|SGT|PKT|WIB|AEST|AEDT|ACST|ACDT|AWST|NZST|NZDT|SAST|CAT|EAT|WAT"
)
_MONTH = f"(?P<month_name>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
_TWELVE_HOUR_CLOCK = r"(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d)[ \u202f](?P<half>[AP])M"
_ZONE = rf"(?: ?(?P<zone>Z(?![A-Za-z])|[+-]\d\d(?::?\d\d)?(?![\d.:-])|(?:{_ABBREVIATIONS})(?![\w-])))?"

# By example, the more complete ones first.
TIMESTAMP_FORMATS = {
    "2026-11-27T10:00:00.123Z": rf"(?P<year>\d{{4}})[-/.](?P<month>\d\d)[-/.](?P<day>\d\d)(?:[T _]| - ){_CLOCK}{_ZONE}",
    "27/Nov/2026:10:00:00 +0100": rf"(?P<day>\d\d)[/ -]{_MONTH}[/ -](?P<year>\d{{4}})(?:::?| ){_CLOCK}{_ZONE}",
    "27.11.2026 10:00:00": rf"(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d{{4}}) {_CLOCK}",
    "Fri Nov 27 10:00:00 2026": rf"(?:{_WEEKDAY} )?{_MONTH} (?P<day>[ \d]\d) {_CLOCK}{_ZONE} (?P<year>\d{{4}})(?!\d)",
    "Nov 27, 2026 10:00:00 PM": rf"{_MONTH} (?P<day>\d\d?), (?P<year>\d{{4}}),? {_TWELVE_HOUR_CLOCK}",
    "11/27/2026 10:00:00 PM": rf"(?P<month>\d\d?)/(?P<day>\d\d?)/(?P<year>\d{{4}}),? {_TWELVE_HOUR_CLOCK}",
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
    # These three only where a format says so: klog and BlueGene/L.
    "261127 10:00:00.123456": rf"(?P<short_year>\d\d)(?P<month>\d\d)(?P<day>\d\d) {_CLOCK}",
    "1127 10:00:00.123456": rf"(?P<month>\d\d)(?P<day>\d\d) {_CLOCK}",
    "2026-11-27-10.00.00.123456": (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-"
        r"(?P<hour>\d\d)\.(?P<minute>\d\d)\.(?P<second>\d\d)\.(?P<fraction>\d{6})"
    ),
}
_COMPILED = tuple(re.compile(pattern, re.ASCII) for pattern in TIMESTAMP_FORMATS.values())
# The same as parts of larger patterns: a date and a time, and a time of day alone.
ISO, *_OTHERS, _KITCHEN, _TIME_ONLY, _, _, _ = (
    re.sub(r"\?P<\w+>", "?:", pattern) for pattern in TIMESTAMP_FORMATS.values()
)
DATE_TIME = "|".join([ISO, *_OTHERS])
TIME_OF_DAY = f"(?:{_KITCHEN}|{_TIME_ONLY})"

_WITH_ZONE = re.compile(r".*:\d\d(?:[.,]\d+)? ?(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)", re.ASCII)


def has_zone(text: str) -> bool:
    """Return whether a timestamp names its zone, or is a number, so that it can mean one time only."""
    return bool(_WITH_ZONE.fullmatch(text) or _EPOCH_NUMBER.fullmatch(text) or _EXPONENT.fullmatch(text))


def parse_timestamp(text: str, *, now: Now, zone: tzinfo = UTC) -> datetime | None:
    """Return the time in UTC that a text means, or None when the text is not a timestamp.

    Without a zone it is in `zone`. Without a year or a date it is the last such time, or one that is just ahead.
    """
    text = text.strip()
    try:
        time = _parse_number(text) or _parse_iso(text, zone) or _parse_formats(text, now, zone)
        return time and time.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def _parse_number(text: str) -> datetime | None:
    if _EXPONENT.fullmatch(text):
        text = f"{Decimal(text):f}"
    epoch = parse_epoch(text) if _EPOCH_NUMBER.fullmatch(text) else None
    return epoch and _EPOCH + timedelta(seconds=epoch[0], microseconds=epoch[1] // 1000)


def _parse_iso(text: str, zone: tzinfo) -> datetime | None:
    """Parse what Python itself parses, which is fast."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=zone) if time.tzinfo is None else time


def _parse_formats(text: str, now: Now, zone: tzinfo) -> datetime | None:
    match = next((match for pattern in _COMPILED if (match := pattern.fullmatch(text))), None)
    if match is None:
        return None
    parts = match.groupdict()
    # A leap second is read as the second after the one before it.
    second = parts.get("second") or "00"
    is_leap = int(second) == _LEAP_SECOND
    time = _build_time(parts, second="59" if is_leap else second, now=now, zone=zone)
    return time and time.astimezone(UTC) + timedelta(seconds=is_leap)


def _build_time(parts: dict[str, str | None], *, second: str, now: Now, zone: tzinfo) -> datetime | None:
    micro = (parts.get("fraction") or "")[:6].ljust(6, "0")
    clock = f"{_hour(parts):02d}:{parts['minute']}:{second}.{micro}"
    if year := parts.get("year"):
        local = datetime.fromisoformat(f"{year}-{_month_and_day(parts)}T{clock}")
        return _with_zone(local, parts.get("zone"), zone)
    if short_year := parts.get("short_year"):
        return _local_time(f"{_CENTURY + int(short_year)}-{_month_and_day(parts)}T{clock}", zone)
    local_now = now().astimezone(zone)
    if parts.get("day"):
        years = range(local_now.year + 1, local_now.year - _YEARS_BACK, -1)
        times = _valid_times((f"{year}-{_month_and_day(parts)}T{clock}" for year in years), zone)
        return _first_until(times, local_now + _AHEAD_WITHOUT_YEAR)
    days = (local_now.date() + timedelta(days=ahead) for ahead in (1, 0, -1))
    return _first_until(_valid_times((f"{day}T{clock}" for day in days), zone), local_now + _AHEAD)


def _hour(parts: dict[str, str | None]) -> int:
    hour, half = int(parts["hour"] or 0), parts.get("half")
    return hour if half is None else hour % 12 + (12 if half == "P" else 0)


def _month_and_day(parts: dict[str, str | None]) -> str:
    name, month, day = parts.get("month_name"), parts.get("month"), parts["day"]
    return f"{_MONTHS.index(name) + 1 if name else int(month or 0):02d}-{int(day or 0):02d}"


def _local_time(text: str, zone: tzinfo) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def _valid_times(texts: Iterator[str], zone: tzinfo) -> Iterator[datetime]:
    """Return the times that exist; 29 February does not exist in each year."""
    for text in texts:
        try:
            yield _local_time(text, zone)
        except ValueError:
            continue


def _first_until(times: Iterator[datetime], limit: datetime) -> datetime | None:
    return next((time for time in times if time <= limit), None)


def _with_zone(local: datetime, name: str | None, zone: tzinfo) -> datetime | None:
    """Give a local time the zone that it names, or `zone`; None for an abbreviation that `zone` does not use.

    When clocks are put back, the abbreviation says which of two equal local times is meant.
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
    return next((time for time in both if time.tzname() == name), None)
