"""The spellings of levels and times that are usual in log files."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal

from services.domain.level import Level

# Syslog's severities (RFC 5424), Java's, Python's, PostgreSQL's, Apache's and Redis's words and signs.
_LEVELS = {
    Level.TRACE: ("TRACE", "FINEST", "FINER", "DEBUG2", "DEBUG3", "DEBUG4", "DEBUG5", "T"),
    Level.DEBUG: ("DEBUG", "FINE", "DEBUG1", "CONFIG", "STATEMENT", "DETAIL", "HINT", "CONTEXT", "D", "."),
    Level.INFO: ("INFO", "INFORMATION", "NOTICE", "LOG", "AUDIT", "I", "-", "*"),
    Level.WARN: ("WARN", "WARNING", "W", "#"),
    Level.ERROR: ("ERROR", "ERR", "SEVERE", "FAILURE", "E"),
    Level.FATAL: ("FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC", "F", "C"),
}
LEVEL_BY_WORD = {word: level for level, words in _LEVELS.items() for word in words}
# pino's and bunyan's numbers, from the gravest down; what lies between two has the lower one's level.
_NUMBERED = ((60, Level.FATAL), (50, Level.ERROR), (40, Level.WARN), (30, Level.INFO), (20, Level.DEBUG))
# Syslog's severities by number, which GELF and journald use as well; below pino's numbers.
_SEVERITIES = (*[Level.FATAL] * 3, Level.ERROR, Level.WARN, Level.INFO, Level.INFO, Level.DEBUG)
_HIGHEST_NUMBER = 69

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their digits.
_SINCE_1970 = re.compile(r"(\d{10}|\d{13}|\d{16}|\d{19})(?:\.\d+)?", re.ASCII)
_TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?", re.ASCII)
_ABBREVIATED_ZONE = re.compile(r"(?P<local>.*\d) (?P<zone>[A-Z]{2,5})")
# How far ahead of now a time without a date, or without a year, may be: clocks differ.
_AHEAD = timedelta(minutes=10)
_AHEAD_WITHOUT_YEAR = timedelta(days=1)
# 29 February comes again after eight years at most.
_YEARS_BACK = 8

# Tried in this order where datetime.fromisoformat does not understand a time.
_TIME_FORMATS = (
    "%d/%b/%Y:%H:%M:%S %z",  # web servers' access logs
    "%a %b %d %H:%M:%S %Y",  # Apache's error log before 2.4
    "%a %b %d %H:%M:%S.%f %Y",  # and since
    "%Y-%m-%d-%H.%M.%S.%f",  # BlueGene/L
    "%d %b %Y %H:%M:%S.%f",  # Redis
    "%Y/%m/%d %H:%M:%S",  # nginx's error log, Go
    "%Y/%m/%d %H:%M:%S.%f",
    "%y/%m/%d %H:%M:%S",  # Spark and Hadoop
)
_TIME_FORMATS_WITHOUT_YEAR = (
    "%Y %b %d %H:%M:%S",  # syslog (RFC 3164)
    "%Y %m%d %H:%M:%S.%f",  # klog
)


def level_of(word: str) -> Level | None:
    """The level that a word, a sign or a number means, in any case; None when it means none."""
    word = word.strip().upper()
    return LEVEL_BY_WORD.get(word) or _numbered(word)


def level_of_priority(priority: str) -> Level | None:
    """The level in a syslog line's <priority>, which is facility * 8 + severity."""
    return _SEVERITIES[int(priority) % len(_SEVERITIES)] if priority else None


def _numbered(word: str) -> Level | None:
    number = int(word) if re.fullmatch(r"[0-9]{1,2}", word) else _HIGHEST_NUMBER + 1
    if number < len(_SEVERITIES):
        return _SEVERITIES[number]
    if number < 10 or number > _HIGHEST_NUMBER:  # noqa: PLR2004 - pino's TRACE
        return None
    return next((level for least, level in _NUMBERED if number >= least), Level.TRACE)


def time_of(text: str, *, now: datetime, zone: tzinfo = UTC) -> datetime | None:
    """The moment in UTC that a text means, None when it is no time.

    Without a zone it is in `zone`; without a year or a date it is the last such moment.
    """
    text = text.strip()
    try:
        moment = _since_1970(text) or _iso(text, zone) or _known(text, zone) or _incomplete(text, now, zone)
        return moment and moment.astimezone(UTC)
    except OverflowError:
        return None


def _since_1970(text: str) -> datetime | None:
    match = _SINCE_1970.fullmatch(text)
    return match and _EPOCH + timedelta(microseconds=int(Decimal(text).scaleb(16 - len(match[1]))))


def _iso(text: str, zone: tzinfo) -> datetime | None:
    text = text.replace(",", ".").removesuffix(" UTC").removesuffix(" GMT")
    try:
        return _in_zone(datetime.fromisoformat(text), zone)
    except ValueError:
        return _abbreviated(text, zone)


def _abbreviated(text: str, zone: tzinfo) -> datetime | None:
    """PostgreSQL's "2026-11-23 12:00:00.123 CET", which is understood when `zone` calls itself so at that time."""
    match = _ABBREVIATED_ZONE.fullmatch(text)
    moment = match and _iso(match["local"], zone)
    return moment if match and moment and moment.tzname() == match["zone"] else None


def _known(text: str, zone: tzinfo) -> datetime | None:
    for pattern in _TIME_FORMATS:
        try:
            return _in_zone(datetime.strptime(text, pattern), zone)  # noqa: DTZ007 - _in_zone adds the zone
        except ValueError:
            continue
    return None


def _incomplete(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    here = now.astimezone(zone)
    return _without_date(text, here) or _without_year(text, here)


def _without_date(text: str, now: datetime) -> datetime | None:
    """The last day's moment at this time of day."""
    if not _TIME_OF_DAY.fullmatch(text):
        return None
    try:
        moment = datetime.combine(now, time.fromisoformat(text.replace(",", ".")), now.tzinfo)
    except ValueError:
        return None
    return moment if moment - now <= _AHEAD else moment - timedelta(days=1)


def _without_year(text: str, now: datetime) -> datetime | None:
    """The last year's moment on this day."""
    for year in range(now.year, now.year - _YEARS_BACK, -1):
        for pattern in _TIME_FORMATS_WITHOUT_YEAR:
            try:
                moment = datetime.strptime(f"{year} {text}", pattern).replace(tzinfo=now.tzinfo)
            except ValueError:
                continue
            if moment - now < _AHEAD_WITHOUT_YEAR:
                return moment
    return None


def _in_zone(moment: datetime, zone: tzinfo) -> datetime:
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
