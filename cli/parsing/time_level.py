"""The description that most lines of most programs fit: a time and a level near the start, then the message."""

import re

from cli.parsing.event import Refused
from cli.parsing.format_types import Found, LineFormat
from cli.parsing.levels import after_time, anywhere, before_time, first, letter_before_time, level_of
from cli.parsing.timestamps import CALENDAR, TIME_OF_DAY

# A time and a level stand within so many characters.
_WINDOW = 300
# Up to three words, numbers or brackets may stand before the time.
_TIME = re.compile(
    rf"(?P<lead>(?:\[[^\]\[]{{0,64}}\]\s?|\S{{1,64}}[ \t]+|\w{{1,32}},){{0,3}}?[\[(<\"]{{0,2}})(?P<time>{CALENDAR})"
)
# Seconds since 1970 stand alone, and are of these years.
_EPOCH = r"1[5-9]\d{8}(?:\d{3}|\.\d{1,9})?(?=\s|[\]:]\s)"
_TIME_OF_DAY = re.compile(rf"(?P<lead>[\[(<\"]?)(?P<time>{TIME_OF_DAY}(?![\d:])|{_EPOCH})")
_TIME_ANYWHERE = re.compile(rf"(?<![\d.:-])(?:{CALENDAR})")
_GAP = re.compile(r"\"?[\s|:,\])>-]*")
# What follows a level before the message: the rest of its decoration, then perhaps where the message comes from.
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
_BASIC = re.compile(r":([^\s:]{1,200}):")
# A request as servers tell it, and its status.
_REQUEST = re.compile(r'"[A-Z]{3,16} \S{1,2000} HTTP/\d(?:\.\d)?" (\d{3})\b')
_PLAIN_WORD = re.compile(r"[A-Za-z]+")


class General(LineFormat):
    """Lines that begin with a time or a level, whatever decorates them."""

    def found(self, line: str) -> Found | Refused | None:
        """What a line says; None when it begins with neither."""
        head = line[:_WINDOW]
        time = _TIME.match(head) or _TIME_OF_DAY.match(head)
        is_timed = time is not None and not _is_prose(time["lead"])
        found = _by_time(line, head, time) if time and is_timed else _by_level(line, head)
        if found is not None and "HTTP/" in found["message"] and (status := _REQUEST.search(found["message"])):
            found["status_code"] = status[1]
        # What says no more than a time or a level is told as it is.
        return found if found is None or found["message"].strip() else {**found, "message": line}


def _by_level(line: str, head: str) -> dict[str, str] | None:
    said = first(head)
    if said is None:
        return None
    # Python's basicConfig writes LEVEL:logger:message.
    if named := _BASIC.match(head, said.end):
        return {"level": said.level.name, "logger": named[1], "message": line[named.end() :]}
    return {"level": said.level.name} | _origin(line, said.end)


def _by_time(line: str, head: str, time: re.Match[str]) -> dict[str, str]:
    found, end = {"time": time["time"]}, time.end()
    if said := before_time(time["lead"]):
        return found | {"level": said.level.name} | _origin(line, end)
    rest = line[_end(_GAP, line, end) :]
    said = None if rest.startswith('{"') else after_time(head, end)
    if said is None:
        letter = letter_before_time(time["lead"])
        return found | {"message": rest} | ({"level": letter.level.name} if letter else {})
    found["level"] = said.level.name
    between = _tokens(head[end : said.start])
    # Words before the level may be a part of the message.
    return found | ({"message": rest} if between is None else between | _origin(line, said.end))


def _is_prose(lead: str) -> bool:
    """Whether more than one word stands before a time, as in a sentence."""
    words = [word for word in re.split(r"[\s,:]+", lead) if _PLAIN_WORD.fullmatch(word) and not level_of(word)]
    return len(words) > 1


def _tokens(text: str) -> dict[str, str] | None:
    """What stands between a time and a level; None when it is a sentence."""
    found: dict[str, str] = {}
    words = 0
    for match in _TOKEN.finditer(text):
        name, value = match.lastgroup, match[match.lastgroup or 0]
        words += name == "logger" and bool(_PLAIN_WORD.fullmatch(value))
        if name and (value := value.strip()):
            found.setdefault("pid" if value.isdecimal() else name, value)
    return found if words <= 1 else None


def _origin(line: str, start: int) -> dict[str, str]:
    match = _ORIGIN.match(line, start, start + _WINDOW)
    if match is None:
        return {"message": line[start:]}
    name = match.lastgroup and match[match.lastgroup]
    named = {"logger": name} if name and not name.isdecimal() else {}
    return named | {"message": line[match.end() :]}


def _end(pattern: re.Pattern[str], line: str, start: int) -> int:
    match = pattern.match(line, start)
    return match.end() if match else start


def last_resort(line: str) -> Found:
    """A time and a level wherever they stand in a line's beginning; all of it is the message."""
    head = line[:_WINDOW]
    time = _TIME_ANYWHERE.search(head)
    level = anywhere(head, time.end() if time else 0)
    return {"message": line} | ({"time": time[0]} if time else {}) | ({"level": level.name} if level else {})
