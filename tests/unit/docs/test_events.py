"""docs/events.md says what becomes of an event's fields; its example is read by the code."""

import json
import re
from pathlib import Path
from typing import Any

from services.evaluator.core import records
from services.ingest.core.json_events import JsonEvent, JsonEvents
from tocsin.logs.v1.log_event_pb2 import LogEvent

DOCUMENT = (Path(__file__).parents[3] / "docs" / "events.md").read_text()


def read(body: str) -> JsonEvent:
    return JsonEvents(body.encode(), max_attributes=32).one()


def test_the_two_events_of_the_example_are_the_same() -> None:
    given, same = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert (read(given).fields, read(given).attributes) == (read(same).fields, read(same).attributes)
    sent: dict[str, Any] = json.loads(same)
    assert read(given).attributes == sent["attributes"]


def test_the_limits_of_samples_are_those_of_the_evaluator() -> None:
    text = " ".join(DOCUMENT.split())
    assert f"first {records.MAX_SAMPLE_CHARACTERS} characters of the message" in text
    assert f"first {records.MAX_SAMPLE_ATTRIBUTES} attributes" in text
    assert f"with {records.MAX_SAMPLE_VALUE_CHARACTERS} characters of each value" in text
    assert f"and {records.MAX_SAMPLE_ATTRIBUTE_CHARACTERS} characters in all" in text


def test_every_field_is_in_the_table_and_the_readme_links_to_it() -> None:
    for field in LogEvent.DESCRIPTOR.fields:
        assert f"| `{field.json_name}` |" in DOCUMENT
    assert "docs/events.md" in (Path(__file__).parents[3] / "README.md").read_text()
