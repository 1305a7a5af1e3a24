"""Events as JSON as the contract has them, read ten times as fast as value by value: a batch straight into columns.

Only a text in which every event is as the contract has it is read here: its names as protobuf's JSON spells them, each
once, and values of the right types. Of any other text `read_columns` returns None, and `json_events` reads it: it alone
decides what is refused and what is adjusted, and names the place. So whatever is returned here, `json_events` would
have read as the same events, without an adjustment.

The parser ignores names that it does not know, and keeps the last of two equal ones. Both show in the number of names
in the text, which is then not that of the values that were read.

One event alone (`read_event`) becomes what `json_events` makes of it.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.domain.event_fields import MAX_ATTRIBUTE_KEY, MAX_STATUS, MIN_STATUS
from services.domain.event_time import parse_rfc3339
from services.domain.level import Level
from services.ingest.core.columns import bytes_outside
from services.ingest.core.json_events import JsonEvent

Bytes = npt.NDArray[np.uint8]


class _PlainEvent(msgspec.Struct, rename="camel", gc=False):
    """An event as the contract has it, its fields in the order of the contract's columns.

    None where the text has no such name. A null is a name too, and is then missing among those that were found.
    """

    record_id: str | None = None
    event_time: str | None = None
    service: str | None = None
    level: str | None = None
    message: str | None = None
    status_code: int | None = None
    response_time: float | None = None
    host: str | None = None
    trace_id: str | None = None
    attributes: dict[str, str] | None = None


_DECODER: Final = msgspec.json.Decoder(list[_PlainEvent])
_ONE_DECODER: Final = msgspec.json.Decoder(_PlainEvent)
_REFUSED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_LEVELS: Final = {
    spelling: int(level)
    for level in Level
    for spelling in (level.name, level.name.lower(), level.name.capitalize(), str(int(level)))
}
# Of the years whose nanoseconds fit into a column. A leap second is none that Arrow knows.
_TIME: Final = r"\A(19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\z"
# Their events are refused where they are empty.
_REQUIRED_STRINGS: Final = ("service", "message")
_QUOTE, _COLON, _BACKSLASH, _BRACE, _BLANK = (ord(char) for char in '":\\{ ')


class _OtherError(Exception):
    """An event is not as the contract has it, or may not be."""


def read_columns(body: bytes, schema: pa.Schema, *, max_events: int, max_attributes: int) -> pa.RecordBatch | None:
    """Return the events of a list in the columns of `schema`, the contract's; None where this is not the usual case."""
    text = np.frombuffer(body, np.uint8)
    # An event has one brace, and one more for its attributes: of a longer list not all events are made.
    if np.count_nonzero(text == _BRACE) > 2 * max_events:
        return None
    try:
        events = _DECODER.decode(body)
        if not 0 < len(events) <= max_events:
            return None
        return _Reader(events, schema).columns(_count_names(text), max_attributes)
    except (*_REFUSED, _OtherError):
        return None


def read_event(body: bytes, max_attributes: int) -> JsonEvent | None:
    """Return the only event of a text, as `json_events` reads it; None where it is not the usual case."""
    try:
        event = _ONE_DECODER.decode(body)
    except _REFUSED:
        return None
    given = zip(_PlainEvent.__struct_fields__, msgspec.structs.astuple(event), strict=True)
    fields = {name: value for name, value in given if value is not None}
    strings = [type(value) for value in fields.values()].count(str)
    attributes = event.attributes or {}
    level = _LEVELS.get(event.level or "")
    time = parse_rfc3339(event.event_time) if event.event_time else None
    is_usual = (
        # Each name and each string stands between quotes; no other ones are in them without a backslash.
        body.count(b'"') == 2 * (len(fields) + strings + 2 * len(attributes))
        and b"\\" not in body
        and event.service
        and level
        and event.message
        and (event.event_time is None or time)
        and MIN_STATUS <= fields.get("status_code", MIN_STATUS) <= MAX_STATUS
        and 0 <= fields.get("response_time", 0) < math.inf
        and len(attributes) <= max_attributes
        and all(len(key) <= MAX_ATTRIBUTE_KEY for key in attributes)
    )
    if not is_usual:
        return None
    fields.pop("attributes", None)
    fields["level"] = level
    if time:
        fields["event_time"] = {"seconds": time[0], "nanos": time[1]}
    return JsonEvent(fields=fields, attributes=attributes)


def _count_names(text: Bytes) -> int:
    """Return how many names of members the text has, if it is JSON: each is a string before a colon.

    Raises _OtherError where that cannot be seen at a glance.
    """
    colons = np.flatnonzero(text[2:] == _COLON) + 2
    # A name may have blanks behind it; in a string, some other character comes before the blank.
    before_blank = text[colons[text[colons - 1] <= _BLANK] - 2]
    if ((before_blank == _QUOTE) | (before_blank <= _BLANK)).any():
        raise _OtherError
    quotes = colons[text[colons - 1] == _QUOTE] - 1
    escaped = quotes[text[quotes - 1] == _BACKSLASH]
    # A quote behind one backslash is part of a string; behind several it may be the end of one.
    if (text[escaped - 2] == _BACKSLASH).any():
        raise _OtherError
    return len(quotes) - len(escaped)


class _Reader:
    """Turns events into columns."""

    def __init__(self, events: Sequence[_PlainEvent], schema: pa.Schema) -> None:
        self._schema = schema
        self._size = len(events)
        self._fields = dict(zip(schema.names, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True))
        self._found_names = 0

    def columns(self, name_count: int, max_attributes: int) -> pa.RecordBatch:
        """Return the columns. Raises _OtherError, also where the text has more names than were read."""
        arrays: dict[str, Any] = {
            "event_time": self._event_times(),
            "level": self._levels(),
            "status_code": self._numbers("status_code", MIN_STATUS, MAX_STATUS),
            "response_time": self._numbers("response_time", 0.0, math.nextafter(math.inf, 0.0)),
            "attributes": self._attributes(max_attributes),
        }
        others = {name: self._strings(name) for name in self._schema.names if name not in arrays}
        if self._found_names != name_count:
            raise _OtherError
        return pa.RecordBatch.from_arrays([(arrays | others)[name] for name in self._schema.names], schema=self._schema)

    def _array(self, name: str, values: Sequence[Any]) -> Any:
        try:
            array: Any = pa.array(values, self._schema.field(name).type)
        except (pa.ArrowInvalid, OverflowError) as error:
            raise _OtherError from error
        self._found_names += self._size - array.null_count
        return array

    def _strings(self, name: str) -> Any:
        # Columns do not show whether a string is empty or absent, which a refusal tells apart.
        if name in _REQUIRED_STRINGS and "" in self._fields[name]:
            raise _OtherError
        return pc.fill_null(self._array(name, self._fields[name]), "")

    def _numbers(self, name: str, minimum: float, maximum: float) -> Any:
        numbers = self._array(name, self._fields[name])
        found: Any = pc.min_max(numbers).as_py()
        if found["min"] is not None and not minimum <= found["min"] <= found["max"] <= maximum:
            raise _OtherError
        return numbers

    def _levels(self) -> Any:
        # What is no level becomes null, and is then missing among the names that were found.
        return pc.fill_null(self._array("level", list(map(_LEVELS.get, self._fields["level"]))), 0)

    def _event_times(self) -> Any:
        texts = pa.array(self._fields["event_time"], pa.string())
        self._found_names += self._size - texts.null_count
        kind = self._schema.field("event_time").type
        if texts.null_count == self._size:
            return pa.nulls(self._size, kind)
        if not pc.all(pc.match_substring_regex(texts, _TIME)).as_py():
            raise _OtherError
        try:
            times = texts.cast(kind)
        except pa.ArrowInvalid as error:
            raise _OtherError from error
        if pc.min(times.view(pa.int64())).as_py() < 0:
            raise _OtherError
        return times

    def _attributes(self, max_attributes: int) -> Any:
        given = self._fields["attributes"]
        entries: list[dict[str, str]] = [each or {} for each in given]
        sizes = list(map(len, entries))
        if max(sizes) > max_attributes:
            raise _OtherError
        keys = pa.array(list(chain.from_iterable(entries)), pa.string())
        if bytes_outside(keys, 0, MAX_ATTRIBUTE_KEY) is not None:
            raise _OtherError
        values = pa.array(list(chain.from_iterable(each.values() for each in entries)), pa.string())
        self._found_names += self._size - given.count(None) + len(keys)
        offsets = pa.array(np.cumsum([0, *sizes]), pa.int32())
        map_array: Any = pa.MapArray
        return map_array.from_arrays(offsets, keys, values, type=self._schema.field("attributes").type)
