"""Levels as loggers write them, and where they stand in a line."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from services.domain.level import Level

# Words, abbreviations and signs of syslog (RFC 5424), Java, .NET, Go, Python, databases and web servers.
LEVEL_WORDS = {
    Level.TRACE: "TRACE TRC TRCE VERBOSE VRB FINEST FINER ALL DEBUG2 DEBUG3 DEBUG4 DEBUG5 D2 D3 D4 D5 T V",
    Level.DEBUG: "DEBUG DBG DBUG DEBU FINE CONFIG DEBUG1 D1 STATEMENT DETAIL HINT CONTEXT QUERY D .",
    Level.INFO: "INFO INF INFORMATION INFORMATIONAL NOTICE NOTE LOG SYSTEM AUDIT SUCCESS DEFAULT I N - *",
    Level.WARN: "WARN WRN WARNING W #",
    Level.ERROR: "ERROR ERR ERRO SEVERE FAILURE FAIL E",
    Level.FATAL: "FATAL FATA FTL CRITICAL CRIT CRI ALERT ALRT EMERG EMERGENCY EMR PANIC PANI PNC DPANIC F C",
}
_LEVEL_BY_WORD = {word: level for level, words in LEVEL_WORDS.items() for word in words.split()}

# Words that mean a level wherever they stand in capitals.
_CLEAR = (
    "TRACE|TRC|DEBUG|DBG|INFO|INF|NOTICE|WARNING|WARN|WRN|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|FTL|EMERG|EMERGENCY|PANIC|"
    "DPANIC"
)
_WORD = "|".join(sorted((word for word in _LEVEL_BY_WORD if len(word) > 2), key=len, reverse=True))  # noqa: PLR2004
_ENDS = r"(?=[\s:|/,\[\])>;]|$)"
_KEY = r"\b(?:level|lvl|loglevel|log_level|severity)[\"']?\s{0,4}[=:]\s{0,4}[\"']?"

# Anywhere: in capitals, or in any case in brackets or between bars.
_ANYWHERE = re.compile(
    rf"(?<![\w.$@/\"'-])(?:{_CLEAR})(?![\w.$@\"'=-])"
    rf"|(?<=[\[<(|])\s{{0,4}}(?:\w{{1,32}}:)?(?i:{_WORD})\s{{0,8}}(?=[\]>)|/])|(?<=\[)[TDIWEFC](?=\])"
    rf"|(?<=/)(?:{_CLEAR})(?=\])|(?<=\|)\s(?i:{_WORD})(?=:\s)"
)
# Before a time: in any case, as a column that ends there.
_COLUMN = re.compile(rf"\b(?i:{_WORD})\s{{0,8}}(?=[:|,;\t])")
# Anywhere: as key=value.
_KEYED = re.compile(rf"(?i:{_KEY}(?:{_WORD}))\b")
# Right after a time; in any case when a colon or the like follows. Android and MongoDB write one letter.
_NEXT = (
    rf"[\[(<|]?(?:(?i:{_CLEAR}){_ENDS}|(?i:{_WORD})\s{{0,8}}(?=[:|\])>/\[])"
    r"|[VDIWEFC](?=\s{1,4}(?:[\w.$/-]{1,64}\s{0,20}:|[A-Z]{3,16}|\|)\s))"
)
# Between a time and a level: brackets, numbers, and names that end in a dash, a dot or a colon.
_BETWEEN = (
    r"(?:(?:\[[^\]]{0,200}\]|\([^)]{0,200}\)|\{[^}]{0,200}\}|\d{1,20}|[\w.-]{1,64}\[[\w:.]{1,32}\]"
    r"|PHP(?: (?:Parse|Core|Compile|Recoverable|Catchable|User))?(?=\s)"
    r"|[\w.$-]{1,200}+(?=\s+-\s|:\s|\s*\||\s{2}))[\s|:,-]++"
    rf"|[\w-]{{1,64}}\.(?=(?:{_WORD}):))"
)
_AFTER_TIME = re.compile(rf"[\s|:,\])>\"-]*+(?:{_BETWEEN}){{0,4}}?(?P<level>{_NEXT})")
# At the start of a line: the level, or a letter for it before a time.
_AT_START = re.compile(
    rf"\W{{0,2}}(?P<level>(?:{_CLEAR}){_ENDS}"
    rf"|(?<=[\[(<])(?i:{_WORD})\s{{0,8}}(?=[\])>])|(?:{_WORD}|{_WORD.lower()})\s{{0,8}}(?=[:\[])|[EWF](?=: ))"
)
_LETTER = re.compile(r"\[? ?(?P<level>[TDIWEFC])(?=,? )")
# How the output of a crash begins; it has no level.
_CRASH = re.compile(
    r"Traceback \(most recent call last\):|Exception in thread |Unhandled exception|thread '.*' panicked"
)
_LAST_WORD = re.compile(r"[A-Za-z]+\d?(?=\W*$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelMatch:
    """A level, and where it begins and ends in a line."""

    level: Level
    start: int
    end: int


# Pairs of a number and the level from that number on.
_Scale = tuple[tuple[int, Level], ...]
_PINO: _Scale = ((60, Level.FATAL), (50, Level.ERROR), (40, Level.WARN), (30, Level.INFO), (20, Level.DEBUG))
_MONOLOG: _Scale = ((500, Level.FATAL), (400, Level.ERROR), (300, Level.WARN), (200, Level.INFO), (100, Level.DEBUG))
_GOOGLE: _Scale = ((600, Level.FATAL), (500, Level.ERROR), (400, Level.WARN), (200, Level.INFO), (100, Level.DEBUG))
_PYTHON: _Scale = ((50, Level.FATAL), (40, Level.ERROR), (30, Level.WARN), (20, Level.INFO), (10, Level.DEBUG))
_OPENTELEMETRY: _Scale = ((21, Level.FATAL), (17, Level.ERROR), (13, Level.WARN), (9, Level.INFO), (5, Level.DEBUG))
_LOG4J: _Scale = tuple((number * 1000, level) for number, level in _PYTHON)
# The level of each of syslog's severities, which GELF and journald use as well.
_SYSLOG_SEVERITIES = (*[Level.FATAL] * 3, Level.ERROR, Level.WARN, Level.INFO, Level.INFO, Level.DEBUG)
# From "notice" on syslog's severity is often only the transport's default.
_DEFAULT_SEVERITY = 5


def parse_level(text: str) -> Level | None:
    """Return the level that a word in any case, a sign or a number means, or None."""
    word = text.strip().upper()
    # Go's slog writes levels between its own as ERROR+2.
    return _LEVEL_BY_WORD.get(word) or _LEVEL_BY_WORD.get(re.split(r"[+-]\d", word)[0]) or _parse_number(word)


def level_at_start(text: str) -> LevelMatch | None:
    """Find the level at the start of a line."""
    return _level_match(_AT_START.match(text), "level")


def level_before_time(lead: str) -> LevelMatch | None:
    """Find the level in the text before a time."""
    return _level_match(_ANYWHERE.search(lead), 0) or level_at_start(lead) or _level_match(_COLUMN.search(lead), 0)


def level_letter_before_time(lead: str) -> LevelMatch | None:
    """Find the letter for a level before a time; often the whole word follows after the time."""
    return _level_match(_LETTER.match(lead), "level")


def level_after_time(text: str, end: int) -> LevelMatch | None:
    """Find the level after a time that ends at `end`: right there, or in capitals or brackets further on."""
    return _level_match(_AFTER_TIME.match(text, end), "level") or _level_match(_ANYWHERE.search(text, end), 0)


def search_level(text: str, end: int) -> Level | None:
    """Find a level anywhere in a line without a known format; a time, if there is one, ends at `end`."""
    match = (
        level_after_time(text, end) or _level_match(_ANYWHERE.search(text), 0) or _level_match(_KEYED.search(text), 0)
    )
    if match is None:
        return Level.ERROR if is_crash(text) else None
    return match.level


def is_crash(text: str) -> bool:
    """Return whether a line begins the output of a crash."""
    return _CRASH.match(text) is not None


def _level_match(match: re.Match[str] | None, group: str | int) -> LevelMatch | None:
    word = match and _LAST_WORD.search(match[group])
    level = word and parse_level(word[0])
    return LevelMatch(level=level, start=match.start(group), end=match.end(group)) if match and level else None


def parse_priority(priority: str) -> tuple[Level, bool] | None:
    """Return the level of syslog's <priority> (facility * 8 + severity), and whether it is no default."""
    if not priority.isdecimal():
        return None
    severity = int(priority) % len(_SYSLOG_SEVERITIES)
    return _SYSLOG_SEVERITIES[severity], severity < _DEFAULT_SEVERITY


def _parse_number(word: str) -> Level | None:
    if not re.fullmatch(r"[0-9]{1,5}", word):
        return None
    number = int(word)
    if number < len(_SYSLOG_SEVERITIES):
        return _SYSLOG_SEVERITIES[number]
    for low, high, scale in ((10, 69, _PINO), (100, 600, _MONOLOG), (5000, 50_000, _LOG4J)):
        if low <= number <= high:
            return _level_on(scale, number)
    return None


def _level_on(scale: _Scale, number: int) -> Level:
    return next((level for start, level in scale if number >= start), Level.TRACE)


def _converter(scale: _Scale, low: int, high: int) -> Callable[[str], str]:
    def convert(text: str) -> str:
        number = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else -1
        return _level_on(scale, number).name if low <= number <= high else text

    return convert


# Fields, by normalized name, whose numbers are on a scale of their own; each gives the level's name.
NUMERIC_SCALES = {
    "severitynumber": _converter(_OPENTELEMETRY, 1, 24),
    "levelno": _converter(_PYTHON, 1, 59),
    "severity": _converter(_GOOGLE, 100, 800),
}
