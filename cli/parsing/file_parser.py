"""How the lines of one file are parsed.

The formats that match most of the first lines are tried first; the general one, a time and a level near the start of a
line, is tried last. A line that no format matches continues the line before it when it looks like that. Otherwise it is
an event of its own, and what it lacks is noted. The message of a line without a level is parsed again, because
containers, syslog and collectors wrap the lines of others.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from cli.parsing.event import InvalidLine, ParsedEvent
from cli.parsing.field_values import build_event
from cli.parsing.format_types import A_JSON_OBJECT, LineFormat, RawFields, strip_colours
from cli.parsing.formats import CONTAINER_FORMATS, FORMATS, TIME_LEVEL
from cli.parsing.levels import is_crash
from cli.parsing.time_level import search_line
from cli.parsing.timestamps import Now, has_zone
from services.domain.level import Level

PLAIN = "plain"
MIXED = "mixed"
# A format, or all of them together, must match this share of the first lines.
_MIN_SHARE = 0.5
# How many formats may wrap one another.
_MAX_DEPTH = 4

# The message of a line that a container wrote without text.
_BLANK = "(blank line)"

# How lines of stack traces begin, or look as a whole.
_CONTINUES = re.compile(
    r"(?:\[[\w-]{1,64}\] )?"
    r"(?:at |Caused by: |Suppressed: |\.\.\. \d+ more|from .*:\d+:in |goroutine \d+ \[|#\d+ |"
    r"stack (?:backtrace|traceback):|"
    r"[Ss]tack trace:|\[stacktrace\]|--- End of |\[signal SIG|exit status \d|created by [\w./]+\.|"
    r"During handling of the above|The above exception was|[\w.$]+(?:Error|Exception|Exit|Interrupt)\b)"
    # A frame of Ruby or of Go.
    r"|\S{1,300}:\d+:in [`']|panic\(.*\)\Z"
    r"|(?=[\w/-]{1,200}\.)[\w./-]{1,200}+(?:\(\*?\w{1,100}\)\.[\w.]{1,100}+)?(?:\[\.\.\.\])?\(.*\)\Z"
    r"|[\])}]+[,;]?\Z"
)

# A line that begins with a date, in whatever form, does not continue another.
_BEGINS_WITH_DATE = re.compile(r"[\[(<\"']?(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[ ,T_]{1,2}|\d{8}[ T])\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwrappedLine:
    """A line without what container runtimes put around it, which stands in `outer`."""

    text: str
    outer: RawFields = field(default_factory=dict)
    # The names of the container formats, the outermost first.
    wrappers: Sequence[str] = ()
    # Whether the rest of the line is still to come.
    is_part: bool = False

    @property
    def stream(self) -> str:
        """The stream of the file that the line belongs to; a line continues one of its own stream only."""
        return self.outer.get("service", "") + self.outer.get("stream", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatMatch:
    """The fields of a line, the format that matched, and the level of that format's lines that have none."""

    fields: RawFields
    format_name: str
    default_level: Level | None
    may_continue: bool


def _is_part_of_trace(text: str) -> bool:
    return bool(_CONTINUES.match(text)) or is_crash(text)


def unwrap(line: str) -> UnwrappedLine:
    """Remove colours, and what container runtimes put before and around a line."""
    outer: dict[str, str] = {}
    wrappers: list[str] = []
    text = strip_colours(line)
    while len(wrappers) < _MAX_DEPTH:
        name, fields = _parse_container_line(text)
        if fields is None:
            break
        wrappers.append(name)
        outer |= fields
        text = strip_colours(outer.pop("message"))
    is_part = outer.pop("part", "F") == "P"
    return UnwrappedLine(text=text, outer=outer, wrappers=wrappers, is_part=is_part)


def _parse_container_line(text: str) -> tuple[str, RawFields | None]:
    for line_format in CONTAINER_FORMATS:
        fields = line_format.parse(text)
        if fields is not None and not isinstance(fields, InvalidLine):
            return line_format.name, fields
    return "", None


class FileParser:
    """Parses each line of one file."""

    def __init__(
        self, sample: Sequence[str], *, line_format: LineFormat | None, service: str, now: Now, zone: tzinfo = UTC
    ) -> None:
        """Choose formats by some lines; a format that the user named is tried first, a pattern of the user's alone."""
        self._service, self._now, self._zone, self._chosen_format = service, now, zone, line_format
        lines = [line for text in sample if (line := unwrap(text)).text.strip()]
        flush = [line for line in lines if not line.text[0].isspace()]
        # Where all lines are indented, indentation means nothing.
        self._is_indented = bool(lines) and not flush
        # Lines of stack traces say nothing about how events begin.
        heads = [line for line in flush if not _is_part_of_trace(line.text)] or flush or lines
        self._formats, self._main_format = _rank_formats([line.text.strip() for line in heads], line_format)
        names = Counter(self.format_name_of(line) for line in heads)
        self.shares = {name: count / names.total() for name, count in names.most_common()}
        # Whether most events begin in a way that tells them from lines that continue.
        self._is_headed = line_format is not None or (names.total() > 0 and self.shares.get(PLAIN, 0.0) <= _MIN_SHARE)
        # Whether the next line may continue the last one: lines of access logs and syslog are always whole.
        self._may_continue = self._main_format is None or self._main_format.continues
        self.name = line_format.name if line_format and self._is_used(line_format) else self._most_frequent_name()

    def _is_used(self, chosen: LineFormat) -> bool:
        """Return whether a line has the format that the user named, or at least no other one."""
        names = {part for name in self.shares for part in name.split("/")} - {PLAIN}
        return not names or chosen.name in names

    def _most_frequent_name(self) -> str:
        name, share = next(iter(self.shares.items()), (PLAIN, 1.0))
        return name if share >= _MIN_SHARE else MIXED

    def parse(
        self, line: UnwrappedLine, previous: ParsedEvent | InvalidLine | None
    ) -> ParsedEvent | InvalidLine | None:
        """Return the event of a line, or None when the line continues the previous event."""
        text, is_indented = line.text.strip(), line.text[:1].isspace() and not self._is_indented
        if is_indented and not (text.startswith("{") and self._is_json()) and not _BEGINS_WITH_DATE.match(text):
            return None
        match = self._match(text, line.outer)
        if is_indented and not (isinstance(match, FormatMatch) and {"time", "level"} <= match.fields.keys()):
            return None
        if isinstance(match, InvalidLine):
            return match
        if match is not None:
            self._may_continue = match.may_continue
            return self._build_event(match.fields, match.default_level)
        has_no_head = self._is_headed and self._may_continue and not _BEGINS_WITH_DATE.match(text)
        continues = has_no_head or _CONTINUES.match(text)
        # What a program writes when it crashes does not belong to a line that reported no problem.
        is_new_crash = is_crash(text) and isinstance(previous, ParsedEvent) and previous.level < Level.WARN
        return None if continues and not is_new_crash else self._parse_without_format(line)

    def parse_orphan(self, line: UnwrappedLine) -> ParsedEvent | InvalidLine:
        """Return the event of a line that would continue another, where no other stands before it."""
        if self._chosen_format is not None:
            expected = A_JSON_OBJECT if self._is_json() else f"a line of the format {self._chosen_format.name}"
            return InvalidLine(field="line", expected=expected, found=line.text)
        return self._parse_without_format(line)

    def format_name_of(self, line: UnwrappedLine) -> str:
        """Return the name of the format of a line, after the names of its wrappers."""
        match = self._match(line.text.strip(), line.outer)
        if isinstance(match, InvalidLine) and self._main_format is not None:
            return self._main_format.name
        name = match.format_name if isinstance(match, FormatMatch) else PLAIN
        return "/".join([*line.wrappers, name]) if name != PLAIN or not line.wrappers else line.wrappers[-1]

    def _is_json(self) -> bool:
        return self._main_format is not None and self._main_format.name == "json"

    def _parse_without_format(self, line: UnwrappedLine) -> ParsedEvent:
        fields = _search_fields(line.outer, line.text.strip() or _BLANK)
        event = self._build_event(fields, None)
        # A time that was only guessed must not make the event invalid.
        return self._build_event(fields | {"time": ""}, None) if event.time_is_unknown else event

    def _build_event(self, fields: RawFields, default_level: Level | None) -> ParsedEvent:
        return build_event(
            fields, default_service=self._service, default_level=default_level, now=self._now, zone=self._zone
        )

    def _match(self, text: str, outer: RawFields, depth: int = 0) -> FormatMatch | InvalidLine | None:
        for line_format in self._formats:
            fields = line_format.parse(text)
            if isinstance(fields, InvalidLine):
                if depth == 0 and line_format is self._main_format:
                    return fields
            elif fields is not None:
                return self._match_message(line_format, fields, outer, depth)
        return None

    def _match_message(self, line_format: LineFormat, fields: RawFields, outer: RawFields, depth: int) -> FormatMatch:
        """Parse the message again where no level stands before it: it may be a line of another format."""
        name, continues = line_format.name, line_format.continues
        merged = _merge_fields(outer, fields)
        message = fields.get("message", "")
        if line_format.level is not None or "level" in fields or not message or depth >= _MAX_DEPTH:
            return FormatMatch(fields=merged, format_name=name, default_level=line_format.level, may_continue=continues)
        inner = self._match(message, merged, depth + 1)
        if isinstance(inner, FormatMatch):
            return FormatMatch(
                fields=inner.fields, format_name=name, default_level=inner.default_level, may_continue=continues
            )
        searched = _search_fields(merged, message)
        return FormatMatch(fields=searched, format_name=name, default_level=None, may_continue=continues)


def _rank_formats(texts: Sequence[str], chosen: LineFormat | None) -> tuple[tuple[LineFormat, ...], LineFormat | None]:
    """Return the formats in the order in which they are tried, and the one that most lines have, if there is one."""
    if chosen is not None and chosen not in FORMATS:
        return (chosen,), chosen
    formats = [line_format.for_new_file() for line_format in FORMATS]
    hits = {one.name: sum(isinstance(one.parse(text), Mapping) for text in texts) for one in formats}
    min_hits = max(1.0, _MIN_SHARE * len(texts))
    if max(hits[one.name] for one in formats if one.name != TIME_LEVEL.name) >= min_hits:
        hits[TIME_LEVEL.name] = 0
    if chosen is not None:
        hits[chosen.name] = len(texts) + 1
    formats.sort(key=lambda one: (one.name == TIME_LEVEL.name and chosen is not TIME_LEVEL, -hits[one.name]))
    best = max(formats, key=lambda one: hits[one.name])
    return tuple(formats), best if hits[best.name] >= min_hits else None


def _search_fields(outer: RawFields, text: str) -> dict[str, str]:
    """Find what can be found in a text without a format; where its time is known, another time in it means nothing."""
    fields = search_line(text)
    return _merge_fields(outer, {**fields, "time": ""} if "time" in outer else fields)


def _merge_fields(outer: RawFields, inner: RawFields) -> dict[str, str]:
    """Merge the fields of a line and of the line inside it; the inner ones win, except a time without a zone."""
    fields = {name: text for name, text in inner.items() if text or name == "message"}
    if "time" in outer and not has_zone(fields.get("time", "")):
        fields.pop("time", None)
    return {**outer, **fields}
