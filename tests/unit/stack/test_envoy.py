"""Envoy's starter explains itself, and does not start then; its refusals know the contracts' enums."""

import re
import sys

import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from docs.rest_methods import FILES
from stack.envoy import TEMPLATES, main
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

ENUM_VALUES: dict[str, str] = dict(
    re.findall(r'^  \["([\w.]+)"\] = "([\w, ]+)",$', (TEMPLATES / "refusals.lua").read_text(), re.MULTILINE)
)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["stack.envoy", option])
    main()
    assert "GATEWAY_CONCURRENCY" in capsys.readouterr().out


def enums_of(message: Descriptor) -> set[EnumDescriptor]:
    """The enums that a request takes, also inside of a rule; ingest reads the JSON of events itself."""
    inner = [field.message_type for field in message.fields if field.message_type is not None]
    own = {field.enum_type for field in message.fields if field.enum_type is not None}
    return own.union(*(enums_of(one) for one in inner if one.full_name.startswith("tocsin.rules.")))


def test_a_refused_word_is_answered_with_the_values_of_its_enum() -> None:
    methods = [method for file in FILES for service in file.services_by_name.values() for method in service.methods]
    over_rest = [method for method in methods if method.GetOptions().HasExtension(annotations_pb2.http)]
    enums = set[EnumDescriptor]().union(*(enums_of(method.input_type) for method in over_rest))
    expected = {
        ".".join(enum.full_name.split(".")[-2:]): ", ".join(value.name for value in enum.values if value.number)
        for enum in enums
    }
    assert expected == ENUM_VALUES


@pytest.mark.parametrize(("kind", "message"), [("RULE", AlertRule), ("SERVICE", ServiceEntry)])
@pytest.mark.parametrize(("names", "is_output"), [("FIELDS", False), ("SERVER_FIELDS", True)])
def test_the_fields_that_can_be_set_and_those_of_the_server_are_known(
    kind: str, message: type[Message], names: str, *, is_output: bool
) -> None:
    text = re.search(rf'local {kind}_{names} = ((?:[\s.]*"[\w ]*")+)', (TEMPLATES / "refusals.lua").read_text())
    assert text is not None
    behavior = field_behavior_pb2.field_behavior
    assert sorted(re.findall(r"\w+", text[1])) == sorted(
        field.json_name
        for field in message.DESCRIPTOR.fields
        if (field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[behavior]) is is_output
    )
