"""The OpenAPI document: every way into REST is in it, and everything that it names is there."""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import json_format
from jsonschema import Draft202012Validator

from services.contract.timestamps import timestamp_of
from tests.unit.proto.test_proto_style import OURS
from tocsin.alerts.v1.alert_pb2 import Alert, SampleEvent, WindowResult
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsResponse
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

ROOT = Path(__file__).parents[3]
DOCUMENT = json.loads((ROOT / "gen" / "openapi.json").read_text())
OPERATIONS = [(path, verb, operation) for path, verbs in DOCUMENT["paths"].items() for verb, operation in verbs.items()]


def bindings() -> Iterator[tuple[str, str]]:
    for file in OURS:
        for service in file.service:
            for method in service.method:
                rule = method.options.Extensions[annotations_pb2.http]
                for each in (rule, *rule.additional_bindings):
                    if verb := each.WhichOneof("pattern"):
                        yield getattr(each, verb), verb


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def schema_of(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


def test_every_path_of_the_contracts_is_there() -> None:
    assert sorted((path, verb) for path, verb, _ in OPERATIONS) == sorted(bindings())
    assert len(OPERATIONS) > 30


def test_everything_that_is_named_is_there_and_nothing_else() -> None:
    named = set(references(DOCUMENT))
    components = DOCUMENT["components"]
    there = {f"#/components/{kind}/{name}" for kind, items in components.items() for name in items}
    assert named == there


def test_each_variable_of_a_path_is_a_parameter_that_is_required() -> None:
    for path, _, operation in OPERATIONS:
        found = [each["name"] for each in operation["parameters"] if each["in"] == "path" and each["required"]]
        assert sorted(found) == sorted(re.findall(r"{(\w+)}", path))


def test_each_operation_has_an_id_of_its_own_and_says_what_it_does() -> None:
    ids = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["tags"] for *_, operation in OPERATIONS)


def test_the_version_is_the_packages() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert DOCUMENT["info"]["version"] == package["version"]


def test_the_json_of_a_message_has_the_form_that_its_schema_says() -> None:
    alert = Alert(
        id="a",
        state=Alert.FIRING,
        severity=AlertRule.HIGH,
        labels={"team": "shop"},
        window=WindowResult(count=7, threshold=0.5),
        samples=[SampleEvent(message="m", attributes={"k": "v"})],
        repeat_count=3,
    )
    alert.fire_time.CopyFrom(timestamp_of(datetime(2026, 1, 1, tzinfo=UTC)))
    response = ListAlertsResponse(alerts=[alert], next_page_token="more")
    # As Envoy writes it: fields without a value too.
    for is_whole in (False, True):
        document = json_format.MessageToDict(response, always_print_fields_with_no_presence=is_whole)
        schema_of("tocsin.alerts.v1.ListAlertsResponse").validate(document)
    document["alerts"][0]["severity"] = "SEVERE"
    assert not schema_of("tocsin.alerts.v1.ListAlertsResponse").is_valid(document)


def test_what_stands_in_the_path_is_not_asked_for_in_the_body() -> None:
    body = DOCUMENT["paths"]["/api/alerts/{id}/acknowledge"]["post"]["requestBody"]["content"]["application/json"]
    assert "id" not in body["schema"]["properties"]
    assert "comment" in body["schema"]["properties"]


def test_a_calendar_is_no_json() -> None:
    answer = DOCUMENT["paths"]["/api/schedules/{schedule}/calendar"]["get"]["responses"]["200"]
    assert list(answer["content"]) == ["*/*"]
