"""Secrets in events as columns: what is masked, and that all else stays as it is."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contract.event_columns import EVENT_SCHEMA
from services.ingest.core.redaction import redact_nothing
from services.ingest.core.redactor import Redactor
from services.redaction.presets import SECRET_PRESETS, SecretPattern
from services.redaction.text_masker import TextLimit, TextMasker
from tests.fakes.ingest import WIRE
from tests.fakes.log_events import an_event, any_events, columns_of, events_of
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchRequest

# With assertions, groups, newlines and characters of several bytes, so that they get into each other's way.
REGEXES = ("ab+", r"\bx", "c$", "^d", "a\\nb", "x(?P<secret>[^a]{2})", "é", "[0-9]{3}")
MASKS = re.compile(r"\[redacted:[a-z0-9]+\]")
LETTERS = "abcdx \n\0é1"
MAX_BYTES = 60


def a_redactor(*presets: str, regexes: Sequence[str] = (), max_message_bytes: int = MAX_BYTES) -> Redactor:
    patterns = [SecretPattern(name=f"p{number}", regex=regex) for number, regex in enumerate(regexes)]
    return Redactor(presets, patterns, max_message_bytes=max_message_bytes)


def read(*events: LogEvent) -> pa.RecordBatch:
    return WIRE.read_events(IngestBatchRequest(events=events).SerializeToString())


def test_messages_and_values_are_masked_and_counted() -> None:
    events = [
        an_event(message="mail to a@b.cc and d@e.ff", attributes={"to": "a@b.cc", "n": "1"}),
        an_event(),
        an_event(attributes={"card": "4111111111111111 a@b.cc"}),
    ]
    redaction = a_redactor("emails", "cards").redact(read(*events))
    assert events_of(redaction.events) == [
        an_event(
            message="mail to [redacted:emails] and [redacted:emails]", attributes={"to": "[redacted:emails]", "n": "1"}
        ),
        an_event(),
        an_event(attributes={"card": "[redacted:cards] [redacted:emails]"}),
    ]
    assert redaction.value_counts == {"emails": 3, "cards": 1}
    assert redaction.events.schema == EVENT_SCHEMA


def test_events_without_secrets_are_the_very_same() -> None:
    # The number only looks like that of a card.
    events = read(an_event(attributes={"a": "b"}), an_event(message="4111111111111112"))
    redaction = a_redactor(*SECRET_PRESETS).redact(events)
    assert redaction.events is events
    assert redaction.value_counts == {}
    assert redact_nothing(events).events is events


def test_no_events_are_no_work() -> None:
    events = read(an_event()).slice(1)
    assert a_redactor(*SECRET_PRESETS).redact(events).events is events


def test_what_rules_group_by_stays() -> None:
    event = an_event(record_id="a@b.cc", service="a@b.cc", host="a@b.cc", trace_id="a@b.cc", attributes={"a@b.cc": ""})
    assert a_redactor("emails").redact(read(event)).value_counts == {}


def test_values_are_masked_because_of_their_keys() -> None:
    attributes = {"db.password": "a b", "x-api-key": "", "user": "c", "http.Authorization": "d", "set-cookie": "a@b.cc"}
    redactor = a_redactor("passwords", "emails", "tokens")
    redaction = redactor.redact(read(an_event(attributes=attributes)))
    (event,) = events_of(redaction.events)
    assert event.attributes == attributes | {
        "db.password": "[redacted:passwords]",
        "http.Authorization": "[redacted:tokens]",
        "set-cookie": "[redacted:tokens]",
    }
    assert redaction.value_counts == {"passwords": 1, "tokens": 2}
    assert redactor.redact(redaction.events).events is redaction.events


def test_a_part_of_other_events_is_masked_alone() -> None:
    events = [an_event(message=f"xx{number}", attributes={"a": f"xx{number}"}) for number in range(4)]
    redaction = a_redactor(regexes=["xx[12]"]).redact(read(*events).slice(2))
    assert events_of(redaction.events) == [
        an_event(message="[redacted:p0]", attributes={"a": "[redacted:p0]"}),
        events[3],
    ]


def test_masked_texts_keep_their_limits() -> None:
    value = "é" * 1022 + "1a"
    redactor = a_redactor(regexes=["1"])
    (event,) = events_of(redactor.redact(read(an_event(message="1" * 60, attributes={"a": value}))).events)
    assert event.message == "[redacted:p0]" * 4
    assert event.attributes["a"] == "é" * 1022


def test_it_makes_no_difference_how_many_matches_there_are() -> None:
    events = [an_event(message="x" * 2000), *(an_event(message=f"x{number}") for number in range(5))]
    redaction = a_redactor(regexes=["x"], max_message_bytes=40_000).redact(read(*events))
    assert [event.message for event in events_of(redaction.events)] == [
        "[redacted:p0]" * 2000,
        *(f"[redacted:p0]{number}" for number in range(5)),
    ]


def test_what_is_too_long_is_searched_as_far_as_it_can_stay() -> None:
    events = [an_event(message="x" * 61), an_event(attributes={"a": "é" * 5000 + "x", "b": "x" + "é" * 5000})]
    redaction = a_redactor(regexes=["x"]).redact(read(*events))
    first, second = events_of(redaction.events)
    assert first == events[0]
    assert second.attributes["a"] == "é" * 5000 + "x"
    assert second.attributes["b"] == "[redacted:p0]" + "é" * 4083
    assert redaction.value_counts == {"p0": 1}


texts = st.text(LETTERS, min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(texts, st.dictionaries(st.sampled_from("klm"), texts, max_size=2)), max_size=6),
    st.sets(st.sampled_from(REGEXES), min_size=1),
)
def test_all_texts_become_what_each_becomes_alone(rows: list[tuple[str, dict[str, str]]], chosen: set[str]) -> None:
    regexes = sorted(chosen)
    masker = TextMasker([SecretPattern(name=f"p{number}", regex=regex) for number, regex in enumerate(regexes)])

    def alone(text: str, limit: TextLimit) -> str:
        return masker.mask(text.encode(), range(len(regexes)), limit).text.decode()

    events = [an_event(message=message, attributes=attributes) for message, attributes in rows]
    expected = [
        an_event(
            message=alone(message, TextLimit(maximum=MAX_BYTES)),
            attributes={key: alone(value, TextLimit(maximum=1024)) for key, value in attributes.items()},
        )
        for message, attributes in rows
    ]
    columns = columns_of(*events)
    redacted = a_redactor(regexes=regexes).redact(columns).events
    assert events_of(redacted) == expected
    assert (redacted is columns) == (events == expected)


@settings(max_examples=100, deadline=None)
@given(texts, st.sets(st.sampled_from(REGEXES), min_size=1))
def test_nothing_is_left_that_a_pattern_matches(text: str, chosen: set[str]) -> None:
    regexes = sorted(chosen)
    redacted = a_redactor(regexes=regexes).redact(columns_of(an_event(message=text))).events
    (event,) = events_of(redacted)
    parts = MASKS.split(event.message)
    assert not [regex for regex in regexes for part in parts if re2.search(regex, part)]
    assert len(event.message.encode()) <= MAX_BYTES
    # What is left stood there before, in this order.
    assert re.search(".*".join(map(re.escape, parts[:-1])), text, re.DOTALL)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(texts | st.lists(st.sampled_from(["[redacted:p0]", "[redacted:", "a", "bb", "x", "c"])).map("".join)),
    st.sets(st.sampled_from(REGEXES), min_size=1),
)
def test_masking_twice_changes_nothing(messages: list[str], chosen: set[str]) -> None:
    redactor = a_redactor(regexes=sorted(chosen))
    once = redactor.redact(columns_of(*(an_event(message=message) for message in messages)))
    again = redactor.redact(once.events)
    assert again.events is once.events
    assert again.value_counts == {}


ALL_PRESETS = a_redactor(*SECRET_PRESETS, max_message_bytes=500)
PIECES = (
    *("password", "=", ": ", '"', "hunter2", "Authorization: ", "Bearer ", "--token ", "postgres://", "a:b@"),
    *("4111", " 1111 1111 1111", "1230", "a@b.cc", "-----BEGIN PRIVATE KEY-----", "eyJ" + "a" * 8, "." + "b" * 8),
    *(" ", "\n", "é", "[redacted:emails]", "[redacted:"),
)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join))
def test_masking_by_presets_twice_changes_nothing(message: str) -> None:
    once = ALL_PRESETS.redact(columns_of(an_event(message=message, attributes={"a": message})))
    assert ALL_PRESETS.redact(once.events).events is once.events
    (event,) = events_of(once.events)
    assert "a@b.cc" not in event.message


@settings(max_examples=30)
@given(st.lists(any_events, max_size=5))
def test_any_events_keep_all_other_fields(events: list[LogEvent]) -> None:
    columns = read(*events)
    redacted = ALL_PRESETS.redact(columns).events
    assert redacted.schema == columns.schema
    for name in set(columns.schema.names) - {"message", "attributes"}:
        assert redacted.column(name).buffers() == columns.column(name).buffers()
    redacted.validate(full=True)


@pytest.mark.parametrize("name", sorted(SECRET_PRESETS))
def test_each_preset_works_alone(name: str) -> None:
    events = read(an_event())
    assert a_redactor(name).redact(events).events is events
