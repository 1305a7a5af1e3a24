"""Masks the secrets in the messages and attributes of events as columns."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import re2

from services.domain.event_fields import MAX_ATTRIBUTE_VALUE
from services.ingest.core.columns import Column, Columns, Numbers, offsets_of
from services.ingest.core.redaction import Redaction
from services.redaction.presets import SecretPattern, chosen_keys, chosen_patterns
from services.redaction.secret_scanner import SecretScanner
from services.redaction.text_masker import MaskedText, TextLimit, TextMasker, mask_of_name

# A longer value is cut once it is accepted, far before this.
_SEARCHED: Final = TextLimit(maximum=8 * MAX_ATTRIBUTE_VALUE)
_ATTRIBUTE_LIMIT: Final = TextLimit(maximum=MAX_ATTRIBUTE_VALUE, is_in_characters=True)


class Redactor:
    """Masks what presets and patterns name, for one thread at a time."""

    def __init__(self, presets: Collection[str], patterns: Sequence[SecretPattern], *, max_message_bytes: int) -> None:
        """Compile all patterns, of which there is at least one; that takes some milliseconds."""
        everything = chosen_patterns(presets, patterns)
        self._keys: list[tuple[str, Any]] = [(name, re2.compile(regex)) for name, regex in chosen_keys(presets)]
        self._scanner = SecretScanner(everything)
        self._masker = TextMasker(everything)
        self._message_limit = TextLimit(maximum=max_message_bytes)

    def redact(self, events: Columns) -> Redaction:
        """Mask the secrets in the messages, and in the values of the attributes; other fields stay as they are."""
        messages, attributes = events.column("message"), _Attributes.of(events)
        counts: Counter[str] = Counter()
        # By the number of each text: first the messages, then the values of attributes.
        masked: dict[int, bytes] = {}
        for number, result in self._masked(messages, attributes):
            masked[number] = result.text
            counts.update(result.names)
        if not masked:
            return Redaction(events=events, value_counts={})
        in_messages = {number: text for number, text in masked.items() if number < len(messages)}
        in_values = {number - len(messages): text for number, text in masked.items() if number >= len(messages)}
        if in_messages:
            events = _replace(events, "message", _replace_texts(messages, in_messages))
        if in_values:
            events = _replace(
                events, "attributes", attributes.with_values(_replace_texts(attributes.values, in_values))
            )
        return Redaction(events=events, value_counts=counts)

    def _masked(self, messages: Column, attributes: "_Attributes") -> Iterator[tuple[int, MaskedText]]:
        """Yield the changed texts."""
        texts: Any = pa.concat_arrays([messages, attributes.values])
        by_key = self._named_by_key(attributes)
        for number, name in by_key.items():
            value: bytes = attributes.values[number].as_buffer().to_pybytes()
            if value and not self._masker.is_mask(value):
                yield number + len(messages), MaskedText(mask_of_name(name), frozenset([name]))
        for number, proposed in sorted(self._scanner.scan(texts).items()):
            text: bytes = texts[number].as_buffer().to_pybytes()
            if number < len(messages):
                # A message that is too long refuses its event.
                is_searched, limit = len(text) <= self._message_limit.maximum, self._message_limit
            else:
                is_searched, limit = number - len(messages) not in by_key, _ATTRIBUTE_LIMIT
                text = _SEARCHED.cut(text, _SEARCHED.maximum)
            if is_searched and (result := self._masker.mask(text, proposed, limit)).names:
                yield number, result

    def _named_by_key(self, attributes: "_Attributes") -> dict[int, str]:
        """Return the name of what each value is masked as because of its key."""
        if not self._keys or not len(attributes.keys):
            return {}
        encoded: Any = attributes.keys.dictionary_encode()
        indices = encoded.indices.to_numpy()
        found: dict[int, str] = {}
        for index, key in enumerate(encoded.dictionary.to_pylist()):
            name = next((name for name, regex in self._keys if regex.search(key)), None)
            if name is not None:
                found |= dict.fromkeys(np.flatnonzero(indices == index).tolist(), name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attributes:
    """The attributes of events: each event's entries from offsets[i] to offsets[i + 1]."""

    offsets: Numbers
    keys: Any
    values: Any
    kind: Any

    @classmethod
    def of(cls, events: Columns) -> "_Attributes":
        column: Any = events.column("attributes")
        offsets = offsets_of(column)
        begin, end = int(offsets[0]), int(offsets[-1])
        entries = slice(begin, end)
        return cls(offsets=offsets - begin, keys=column.keys[entries], values=column.items[entries], kind=column.type)

    def with_values(self, values: Column) -> Column:
        # The stubs know no type of a map with keys and values by themselves.
        map_array: Any = pa.MapArray
        column: Column = map_array.from_arrays(pa.array(self.offsets), self.keys, values, type=self.kind)
        return column


def _replace(events: Columns, name: str, column: Column) -> Columns:
    index = events.schema.get_field_index(name)
    return events.set_column(index, events.schema.field(index), column)


def _replace_texts(column: Column, texts: Mapping[int, bytes]) -> Column:
    """Return the column with other texts at some places."""
    places = np.arange(len(column))
    places[list(texts)] = len(column) + np.arange(len(texts))
    added: Any = pa.array([text.decode() for text in texts.values()], pa.string())
    replaced: Any = pa.concat_arrays([column, added])
    result: Column = replaced.take(pa.array(places))
    return result
