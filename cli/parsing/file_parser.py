"""Which way the lines of a file are read.

A file is read by the formats that explain its first lines, those that explain most of them first; the general one, a
time and a level near a line's start, comes last. A line that none explains belongs to the line before it when it looks
like that; else it is an event of its own, and what it does not say is noted. What names no level is looked into again,
because formats hand on lines of others: containers, syslog, collectors.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from cli.parsing.event import LineEvent, Refused
from cli.parsing.field_values import event_of
from cli.parsing.format_types import Found, LineFormat, uncoloured
from cli.parsing.formats import FORMATS, GENERAL, TRANSPORTS
from cli.parsing.levels import is_crash
from cli.parsing.time_level import last_resort
from cli.parsing.timestamps import Now, is_exact
from services.domain.level import Level

PLAIN = "plain"
MIXED = "mixed"
# A format, or all of them, must explain this share of the first lines to be believed.
_BELIEVED = 0.5
# A line is handed on at most so often.
_DEEPEST = 4

# What is told of a line that a container wrote without a text.
_BLANK = "(blank line)"

# How lines begin and end that go on with what stands before them.
_GOES_ON = re.compile(
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

# What begins with a date, however it is written, goes on with nothing.
_DATED = re.compile(r"[\[(<\"']?(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[ ,T_]{1,2}|\d{8}[ T])\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A line without what handed it on: which stream of the file it belongs to, and whether its rest is to come."""

    text: str
    outer: Found = field(default_factory=dict)
    transports: Sequence[str] = ()
    is_part: bool = False

    @property
    def stream(self) -> str:
        """Where lines that go on are looked for."""
        return self.outer.get("service", "") + self.outer.get("stream", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What a line says, by which format, and the level of lines of that format that say none."""

    found: Found
    name: str
    level: Level | None
    continues: bool


def _is_of_a_trace(text: str) -> bool:
    return bool(_GOES_ON.match(text)) or is_crash(text)


def unwrapped(line: str) -> Piece:
    """A line without colours, and without what a container's log or the like stands before it."""
    outer: dict[str, str] = {}
    transports: list[str] = []
    text = uncoloured(line)
    while len(transports) < _DEEPEST:
        name, found = _transport(text)
        if found is None:
            break
        transports.append(name)
        outer |= found
        text = uncoloured(outer.pop("message"))
    is_part = outer.pop("part", "F") == "P"
    return Piece(text=text, outer=outer, transports=transports, is_part=is_part)


def _transport(text: str) -> tuple[str, Found | None]:
    for kind in TRANSPORTS:
        given = kind.found(text)
        if given is not None and not isinstance(given, Refused):
            return kind.name, given
    return "", None


class Reader:
    """How each line of a file is read."""

    def __init__(
        self, sample: Sequence[str], *, kind: LineFormat | None, service: str, now: Now, zone: tzinfo = UTC
    ) -> None:
        """Look at some lines; a format that is asked for is tried first, and one of the user's own alone."""
        self._service, self._now, self._zone, self._asked = service, now, zone, kind
        pieces = [piece for line in sample if (piece := unwrapped(line)).text.strip()]
        flush = [piece for piece in pieces if not piece.text[0].isspace()]
        # Where all lines are indented, that says nothing.
        self._is_indented = bool(pieces) and not flush
        # What goes on with another line says nothing about how lines begin.
        looked_at = [piece for piece in flush if not _is_of_a_trace(piece.text)] or flush
        self._formats, self._leading = _ranked([piece.text.strip() for piece in looked_at or pieces], kind)
        names = Counter(self.explanation(piece) for piece in looked_at or pieces)
        self.shares = {name: count / names.total() for name, count in names.most_common()}
        # Whether most lines begin in a way that tells them from those that go on.
        self._is_headed = kind is not None or (names.total() > 0 and self.shares.get(PLAIN, 0.0) <= _BELIEVED)
        # Whether lines may go on with the one before: that of an access log or of syslog is whole.
        self._continues = self._leading is None or self._leading.continues
        self.name = kind.name if kind else self._best()

    def _best(self) -> str:
        name, share = next(iter(self.shares.items()), (PLAIN, 1.0))
        return name if share >= _BELIEVED else MIXED

    def read(self, piece: Piece, before: LineEvent | Refused | None) -> LineEvent | Refused | None:
        """A line's event; None when it goes on with the line before it, of which the event is given."""
        text, is_indented = piece.text.strip(), piece.text[:1].isspace() and not self._is_indented
        if is_indented and not (text.startswith("{") and self._is_json()) and not _DATED.match(text):
            return None
        explained = self._explained(text, piece.outer)
        if is_indented and not (isinstance(explained, Explained) and {"time", "level"} <= explained.found.keys()):
            return None
        if isinstance(explained, Refused):
            return explained
        if explained is not None:
            self._continues = explained.continues
            return self._event(explained.found, explained.level)
        goes_on = (self._is_headed and self._continues and not _DATED.match(text)) or _GOES_ON.match(text)
        # What a program says when it crashes is no part of what it said when all was well.
        is_news = is_crash(text) and isinstance(before, LineEvent) and before.level < Level.WARN
        return None if goes_on and not is_news else self._alone(piece)

    def orphan(self, piece: Piece) -> LineEvent | Refused:
        """What a line is that goes on, when there is none before it."""
        if self._asked is not None:
            expected = "a JSON object" if self._is_json() else f"a line of the format {self._asked.name}"
            return Refused(field="line", expected=expected)
        return self._alone(piece)

    def explanation(self, piece: Piece) -> str:
        """The name of what explains a line."""
        explained = self._explained(piece.text.strip(), piece.outer)
        if isinstance(explained, Refused) and self._leading is not None:
            return self._leading.name
        name = explained.name if isinstance(explained, Explained) else PLAIN
        return "/".join([*piece.transports, name]) if name != PLAIN or not piece.transports else piece.transports[-1]

    def _is_json(self) -> bool:
        return self._leading is not None and self._leading.name == "json"

    def _alone(self, piece: Piece) -> LineEvent:
        """The event of a line that no format explains."""
        found = _searched(piece.outer, piece.text.strip() or _BLANK)
        event = self._event(found, None)
        # What only looked like a time is none that could be wrong.
        return self._event(found | {"time": ""}, None) if event.time_is_unknown else event

    def _event(self, found: Found, level: Level | None) -> LineEvent:
        return event_of(found, service=self._service, level=level, now=self._now, zone=self._zone)

    def _explained(self, text: str, outer: Found, depth: int = 0) -> Explained | Refused | None:
        for kind in self._formats:
            found = kind.found(text)
            if isinstance(found, Refused):
                if depth == 0 and kind is self._leading:
                    return found
            elif found is not None:
                return self._looked_into(kind, found, outer, depth)
        return None

    def _looked_into(self, kind: LineFormat, found: Found, outer: Found, depth: int) -> Explained:
        """What a format found, and what the message says when that names no level."""
        merged = _handed_on(outer, found)
        message = found.get("message", "")
        if kind.level is not None or "level" in found or not message or depth >= _DEEPEST:
            return Explained(found=merged, name=kind.name, level=kind.level, continues=kind.continues)
        inner = self._explained(message, merged, depth + 1)
        if isinstance(inner, Explained):
            return Explained(found=inner.found, name=kind.name, level=inner.level, continues=kind.continues)
        found = _searched(merged, message)
        return Explained(found=found, name=kind.name, level=None, continues=kind.continues)


def _ranked(texts: Sequence[str], asked: LineFormat | None) -> tuple[tuple[LineFormat, ...], LineFormat | None]:
    """The formats in the order in which they are tried, and the one that most lines have, if there is one."""
    if asked is not None and asked not in FORMATS:
        return (asked,), asked
    kinds = [kind.fresh() for kind in FORMATS]
    hits = {kind.name: sum(isinstance(kind.found(text), Mapping) for text in texts) for kind in kinds}
    believed = max(1.0, _BELIEVED * len(texts))
    if max(hits[kind.name] for kind in kinds if kind.name != GENERAL.name) >= believed:
        hits[GENERAL.name] = 0
    if asked is not None:
        hits[asked.name] = len(texts) + 1
    kinds.sort(key=lambda kind: (kind.name == GENERAL.name and asked is not GENERAL, -hits[kind.name]))
    best = max(kinds, key=lambda kind: hits[kind.name])
    return tuple(kinds), best if hits[best.name] >= believed else None


def _searched(outer: Found, text: str) -> dict[str, str]:
    """What a text without a format says; a time somewhere in it is what it tells of, when its own is known."""
    found = last_resort(text)
    return _handed_on(outer, {**found, "time": ""} if "time" in outer else found)


def _handed_on(outer: Found, inner: Found) -> dict[str, str]:
    """What two lines say, one in the other; the inner one counts, unless its time is the less exact one."""
    said = {name: text for name, text in inner.items() if text or name == "message"}
    if "time" in outer and not is_exact(said.get("time", "")):
        said.pop("time", None)
    return {**outer, **said}
