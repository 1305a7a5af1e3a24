"""The format that most lines of most programs have: a time and a level near the start, then the message."""

import re

from cli.parsing.event import InvalidLine
from cli.parsing.format_types import LineFormat, RawFields
from cli.parsing.levels import (
    level_after_time,
    level_at_start,
    level_before_time,
    level_letter_before_time,
    parse_level,
    search_level,
)
from cli.parsing.timestamps import DATE_TIME, TIME_OF_DAY

# A time and a level stand within the first characters of a line.
_WINDOW = 300
# Up to three words, numbers or brackets may stand before the time.
_TIME = re.compile(
    rf"(?P<lead>(?:\[[^\]\[]{{0,64}}\]\s?|\S{{1,64}}[ \t]+|\w{{1,32}},){{0,3}}?[\[(<\"]{{0,2}})(?P<time>{DATE_TIME})"
)
# Seconds or milliseconds since 1970 stand alone, and are from 2017 on.
_EPOCH = r"1[5-9]\d{8}(?:\d{3}|\.\d{1,9})?(?=\s|[\]:]\s)"
_TIME_OF_DAY = re.compile(rf"(?P<lead>[\[(<\"]?)(?P<time>{TIME_OF_DAY}(?![\d:])|{_EPOCH})")
_TIME_ANYWHERE = re.compile(rf"(?<![\d.:-])(?:{DATE_TIME})")
_GAP = re.compile(r"\"?[\s|:,\])>-]*")
# What may stand between a level and the message: the rest of the level's decoration, then the logger.
_ORIGIN = re.compile(
    r"""
    (?:/[^\s\]:|]{1,64}+)? [\s|:,\])>-]*+ (?:\d{1,10}[ ]---[ ])?
    (?:
        (?:\[[^\]]{0,100}\]\s{1,40}){0,2}
        (?P<logger>\w{0,64}[.:/$@\#][\w$@\#.:/<>-]{0,200}?)
        (?:\s{1,40}\[[^\]]{0,100}\])? \s{1,40}[:-]\s          # c.e.App - , with brackets before or behind
      | (?P<barred>[\w.$:/-]{1,200}) (?:\s{0,40}\||\t)        # Ns.Class|
      | \[(?P<thread>[^\]]{1,100})\] \s-\s                    # [main] -
      | \[(?P<dotted>[\w$-]+(?:\.[\w$-]+)+)\s*\] [\s:-]*      # [o.e.B]
      | (?P<path>\w+(?:(?:::|\.)\w+)*(?:::\w+|\.[A-Z]\w*)) [:\]]\s   # executor.Executor: or shop::db]
    )?
    """,
    re.VERBOSE,
)
_TOKEN = re.compile(r"\[(?P<thread>[^\]]*)\]|\([^)]*\)|#?(?P<pid>\d+)(?![\w.])|(?P<logger>[\w.$/@:#=-]*\w)")
_BASIC_CONFIG = re.compile(r":([^\s:]{1,200}):")
# A request as web servers log it, and its status.
_REQUEST = re.compile(r'"[A-Z]{3,16} \S{1,2000} HTTP/\d(?:\.\d)?" (\d{3})\b')
_PLAIN_WORD = re.compile(r"[A-Za-z]+")


class TimeLevelFormat(LineFormat):
    """Lines that begin with a time or a level, whatever decorates them."""

    def parse(self, line: str) -> RawFields | InvalidLine | None:
        """Return the fields of a line, or None when it begins with neither a time nor a level."""
        head = line[:_WINDOW]
        time = _TIME.match(head) or _TIME_OF_DAY.match(head)
        is_timed = time is not None and not _is_prose(time["lead"])
        fields = _parse_after_time(line, head, time) if time and is_timed else _parse_after_level(line, head)
        if fields is not None and "HTTP/" in fields["message"] and (status := _REQUEST.search(fields["message"])):
            fields["status_code"] = status[1]
        # The message of a line that has only a time or a level is the whole line.
        return fields if fields is None or fields["message"].strip() else {**fields, "message": line}


def _parse_after_level(line: str, head: str) -> dict[str, str] | None:
    match = level_at_start(head)
    if match is None:
        return None
    # Python's basicConfig writes LEVEL:logger:message.
    if logger := _BASIC_CONFIG.match(head, match.end):
        return {"level": match.level.name, "logger": logger[1], "message": line[logger.end() :]}
    return {"level": match.level.name} | _parse_origin(line, match.end)


def _parse_after_time(line: str, head: str, time: re.Match[str]) -> dict[str, str]:
    fields, end = {"time": time["time"]}, time.end()
    if match := level_before_time(time["lead"]):
        return fields | {"level": match.level.name} | _parse_origin(line, end)
    rest = line[_end(_GAP, line, end) :]
    match = None if rest.startswith('{"') else level_after_time(head, end)
    if match is None:
        letter = level_letter_before_time(time["lead"])
        return fields | {"message": rest} | ({"level": letter.level.name} if letter else {})
    fields["level"] = match.level.name
    between = _parse_between(head[end : match.start])
    # Words before the level may be a part of the message.
    return fields | ({"message": rest} if between is None else between | _parse_origin(line, match.end))


def _is_prose(lead: str) -> bool:
    """Return whether more than one word stands before a time, as in a sentence."""
    words = [word for word in re.split(r"[\s,:]+", lead) if _PLAIN_WORD.fullmatch(word) and not parse_level(word)]
    return len(words) > 1


def _parse_between(text: str) -> dict[str, str] | None:
    """Return logger, thread and process between a time and a level, or None when that is a sentence."""
    fields: dict[str, str] = {}
    words = 0
    for match in _TOKEN.finditer(text):
        name, value = match.lastgroup, match[match.lastgroup or 0]
        words += name == "logger" and bool(_PLAIN_WORD.fullmatch(value))
        if name and (value := value.strip()):
            fields.setdefault("pid" if value.isdecimal() else name, value)
    return fields if words <= 1 else None


def _parse_origin(line: str, start: int) -> dict[str, str]:
    match = _ORIGIN.match(line, start, start + _WINDOW)
    if match is None:
        return {"message": line[start:]}
    name = match.lastgroup and match[match.lastgroup]
    logger = {"logger": name} if name and not name.isdecimal() else {}
    return logger | {"message": line[match.end() :]}


def _end(pattern: re.Pattern[str], line: str, start: int) -> int:
    match = pattern.match(line, start)
    return match.end() if match else start


def search_line(line: str) -> RawFields:
    """Find a time and a level anywhere near the start of a line; the message is the whole line."""
    head = line[:_WINDOW]
    time = _TIME_ANYWHERE.search(head)
    level = search_level(head, time.end() if time else 0)
    return {"message": line} | ({"time": time[0]} if time else {}) | ({"level": level.name} if level else {})
