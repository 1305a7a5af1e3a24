"""The spellings of levels that are usual in log files, and how lines are decorated with them."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from services.domain.level import Level

# Words, abbreviations and signs: syslog (RFC 5424), Java, .NET, Go, Python, databases, web servers.
WORDS = {
    Level.TRACE: "TRACE TRC TRCE VERBOSE VRB FINEST FINER ALL DEBUG2 DEBUG3 DEBUG4 DEBUG5 D2 D3 D4 D5 T V",
    Level.DEBUG: "DEBUG DBG DBUG DEBU FINE CONFIG DEBUG1 D1 STATEMENT DETAIL HINT CONTEXT QUERY D .",
    Level.INFO: "INFO INF INFORMATION INFORMATIONAL NOTICE NOTE LOG SYSTEM AUDIT SUCCESS DEFAULT I N - *",
    Level.WARN: "WARN WRN WARNING W #",
    Level.ERROR: "ERROR ERR ERRO SEVERE FAILURE FAIL E",
    Level.FATAL: "FATAL FATA FTL CRITICAL CRIT CRI ALERT ALRT EMERG EMERGENCY EMR PANIC PANI PNC DPANIC F C",
}
_LEVEL_BY_WORD = {word: level for level, words in WORDS.items() for word in words.split()}

# Words that hardly mean anything else in capitals, and those that do without a bracket or a colon.
_SURE = (
    "TRACE|TRC|DEBUG|DBG|INFO|INF|NOTICE|WARNING|WARN|WRN|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|FTL|EMERG|EMERGENCY|PANIC|"
    "DPANIC"
)
_WORD = "|".join(sorted((word for word in _LEVEL_BY_WORD if len(word) > 2), key=len, reverse=True))  # noqa: PLR2004
_ENDS = r"(?=[\s:|/,\[\])>;]|$)"
_KEY = r"\b(?:level|lvl|loglevel|log_level|severity)[\"']?\s{0,4}[=:]\s{0,4}[\"']?"

# A level wherever it stands: in capitals, or in any case in brackets or between bars.
DECORATED = re.compile(
    rf"(?<![\w.$@/\"'-])(?:{_SURE})(?![\w.$@\"'=-])"
    rf"|(?<=[\[<(|])\s{{0,4}}(?:\w{{1,32}}:)?(?i:{_WORD})\s{{0,8}}(?=[\]>)|/])|(?<=\[)[TDIWEFC](?=\])"
    rf"|(?<=/)(?:{_SURE})(?=\])|(?<=\|)\s(?i:{_WORD})(?=:\s)"
)
# A level in what stands before a time, in any case, as a column or a field that ends there.
_COLUMN = re.compile(rf"\b(?i:{_WORD})\s{{0,8}}(?=[:|,;\t])")
# Or as key=value.
_KEYED = re.compile(rf"(?i:{_KEY}(?:{_WORD}))\b")
# A level right after what stands before it, in any case when a colon or the like follows; Android and MongoDB write one
# letter.
_NEXT = (
    rf"[\[(<|]?(?:(?i:{_SURE}){_ENDS}|(?i:{_WORD})\s{{0,8}}(?=[:|\])>/\[])"
    r"|[VDIWEFC](?=\s{1,4}(?:[\w.$/-]{1,64}\s{0,20}:|[A-Z]{3,16}|\|)\s))"
)
# What may stand between a time and a level: brackets, numbers, and names that end in a dash, a dot or a colon.
_BETWEEN = (
    r"(?:(?:\[[^\]]{0,200}\]|\([^)]{0,200}\)|\{[^}]{0,200}\}|\d{1,20}|[\w.-]{1,64}\[[\w:.]{1,32}\]"
    r"|PHP(?: (?:Parse|Core|Compile|Recoverable|Catchable|User))?(?=\s)"
    r"|[\w.$-]{1,200}+(?=\s+-\s|:\s|\s*\||\s{2}))[\s|:,-]++"
    rf"|[\w-]{{1,64}}\.(?=(?:{_WORD}):))"
)
_AFTER = re.compile(rf"[\s|:,\])>\"-]*+(?:{_BETWEEN}){{0,4}}?(?P<level>{_NEXT})")
# A line that begins with its level, or with a letter for it before its time.
_FIRST = re.compile(
    rf"\W{{0,2}}(?P<level>(?:{_SURE}){_ENDS}"
    rf"|(?<=[\[(<])(?i:{_WORD})\s{{0,8}}(?=[\])>])|(?:{_WORD}|{_WORD.lower()})\s{{0,8}}(?=[:\[])|[EWF](?=: ))"
)
_LETTER = re.compile(r"\[? ?(?P<level>[TDIWEFC])(?=,? )")
# Where programs end that nobody told to: no level, but none is needed.
_CRASH = re.compile(
    r"Traceback \(most recent call last\):|Exception in thread |Unhandled exception|thread '.*' panicked"
)
_LAST_WORD = re.compile(r"[A-Za-z]+\d?(?=\W*$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A level, and where its word begins and ends."""

    level: Level
    start: int
    end: int


# Numbers, each with the level from it upwards.
_Scale = tuple[tuple[int, Level], ...]
_PINO: _Scale = ((60, Level.FATAL), (50, Level.ERROR), (40, Level.WARN), (30, Level.INFO), (20, Level.DEBUG))
_MONOLOG: _Scale = ((500, Level.FATAL), (400, Level.ERROR), (300, Level.WARN), (200, Level.INFO), (100, Level.DEBUG))
_GOOGLE: _Scale = ((600, Level.FATAL), (500, Level.ERROR), (400, Level.WARN), (200, Level.INFO), (100, Level.DEBUG))
_PYTHON: _Scale = ((50, Level.FATAL), (40, Level.ERROR), (30, Level.WARN), (20, Level.INFO), (10, Level.DEBUG))
_OPENTELEMETRY: _Scale = ((21, Level.FATAL), (17, Level.ERROR), (13, Level.WARN), (9, Level.INFO), (5, Level.DEBUG))
_LOG4J: _Scale = tuple((least * 1000, level) for least, level in _PYTHON)
# Syslog's severities by number, which GELF and journald use as well; below pino's numbers.
_SEVERITIES = (*[Level.FATAL] * 3, Level.ERROR, Level.WARN, Level.INFO, Level.INFO, Level.DEBUG)
# From which severity on syslog's number is mostly only what the transport assumes.
_ASSUMED = 5


def level_of(text: str) -> Level | None:
    """The level that a word, a sign or a number means, in any case; None when it means none."""
    word = text.strip().upper()
    # Go's slog writes levels between its own as ERROR+2.
    return _LEVEL_BY_WORD.get(word) or _LEVEL_BY_WORD.get(re.split(r"[+-]\d", word)[0]) or _numbered(word)


def first(text: str) -> Said | None:
    """The level that a line begins with."""
    return _said(_FIRST.match(text), "level")


def before_time(lead: str) -> Said | None:
    """The level in what stands before a time."""
    return _said(DECORATED.search(lead), 0) or first(lead) or _said(_COLUMN.search(lead), 0)


def letter_before_time(lead: str) -> Said | None:
    """The letter for a level before a time; often the word follows behind it."""
    return _said(_LETTER.match(lead), "level")


def after_time(text: str, end: int) -> Said | None:
    """The level behind a time that ends there: the next thing, or one in capitals or brackets further on."""
    return _said(_AFTER.match(text, end), "level") or _said(DECORATED.search(text, end), 0)


def anywhere(text: str, end: int) -> Level | None:
    """The level of a line of which nothing is known; it has perhaps a time, which ends there."""
    said = after_time(text, end) or _said(DECORATED.search(text), 0) or _said(_KEYED.search(text), 0)
    if said is None:
        return Level.ERROR if is_crash(text) else None
    return said.level


def is_crash(text: str) -> bool:
    """Whether a line tells that a program failed without having been asked to say so."""
    return _CRASH.match(text) is not None


def _said(match: re.Match[str] | None, group: str | int) -> Said | None:
    word = match and _LAST_WORD.search(match[group])
    level = word and level_of(word[0])
    return Said(level=level, start=match.start(group), end=match.end(group)) if match and level else None


def level_of_priority(priority: str) -> tuple[Level, bool] | None:
    """The level of a syslog line's <priority> (facility * 8 + severity), and whether it is graver than the usual."""
    if not priority.isdecimal():
        return None
    severity = int(priority) % len(_SEVERITIES)
    return _SEVERITIES[severity], severity < _ASSUMED


def _numbered(word: str) -> Level | None:
    if not re.fullmatch(r"[0-9]{1,5}", word):
        return None
    number = int(word)
    if number < len(_SEVERITIES):
        return _SEVERITIES[number]
    for least, most, scale in ((10, 69, _PINO), (100, 600, _MONOLOG), (5000, 50_000, _LOG4J)):
        if least <= number <= most:
            return _on(scale, number)
    return None


def _on(scale: _Scale, number: int) -> Level:
    return next((level for least, level in scale if number >= least), Level.TRACE)


def _scaled(scale: _Scale, least: int, most: int) -> Callable[[str], str]:
    def word(text: str) -> str:
        number = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else -1
        return _on(scale, number).name if least <= number <= most else text

    return word


# Names of fields whose numbers mean something else than in a field named level; in small letters and digits.
SCALES = {
    "severitynumber": _scaled(_OPENTELEMETRY, 1, 24),
    "levelno": _scaled(_PYTHON, 1, 59),
    "severity": _scaled(_GOOGLE, 100, 800),
}
