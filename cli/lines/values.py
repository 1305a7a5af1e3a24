"""The spellings of levels and times that are usual in log files."""

from datetime import UTC, datetime

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


def level_of(word: str) -> Level | None:
    """The level that a word or sign means, in any case; None when it means none."""
    return LEVEL_BY_WORD.get(word.strip().upper())


def time_of(text: str, *, now: datetime) -> datetime | None:
    """The moment that a text means, None when it is no time; without a zone it is UTC, without a year the last one."""
    text = text.strip()
    return _iso(text) or _known(text) or _epoch(text) or _without_year(text, now=now)


def _iso(text: str) -> datetime | None:
    try:
        return _aware(datetime.fromisoformat(text.replace(",", ".").removesuffix(" UTC").removesuffix(" GMT")))
    except ValueError:
        return None


def _known(text: str) -> datetime | None:
    for pattern in _TIME_FORMATS:
        try:
            return _aware(datetime.strptime(text, pattern))  # noqa: DTZ007 - _aware adds the zone
        except ValueError:
            continue
    return None


def _epoch(text: str) -> datetime | None:
    """Seconds, or milliseconds when there are 13 digits, since 1970."""
    digits, _, _ = text.partition(".")
    if not digits.isdigit() or len(digits) not in (10, 13):
        return None
    return datetime.fromtimestamp(float(text) / (1000 if len(digits) == 13 else 1), UTC)  # noqa: PLR2004


def _without_year(text: str, *, now: datetime) -> datetime | None:
    """Syslog's "Nov 23 12:41:23" (RFC 3164): the year that makes it the latest moment that is not tomorrow."""
    try:
        moment = datetime.strptime(f"{now.year} {text}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if (moment - now).days < 1 else moment.replace(year=now.year - 1)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
