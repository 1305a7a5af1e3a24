"""Envoy's starter explains itself, and does not start then; its refusals know the contracts' enums."""

import re
import sys

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor

from docs.rest_lua import lua_tables
from docs.rest_methods import FILES
from stack.envoy import TEMPLATES, main

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


def enums_of(message: Descriptor, around: frozenset[str] = frozenset()) -> set[EnumDescriptor]:
    """The enums that a request takes, also inside of a rule; ingest reads the JSON of events itself."""
    inner = [field.message_type for field in message.fields if field.message_type is not None]
    own = {field.enum_type for field in message.fields if field.enum_type is not None}
    around |= {message.full_name, "tocsin.logs.v1.LogEvent"}
    return own.union(*(enums_of(one, around) for one in inner if one.full_name not in around))


def test_a_refused_word_is_answered_with_the_values_of_its_enum() -> None:
    methods = [method for file in FILES for service in file.services_by_name.values() for method in service.methods]
    over_rest = [method for method in methods if method.GetOptions().HasExtension(annotations_pb2.http)]
    enums = set[EnumDescriptor]().union(*(enums_of(method.input_type) for method in over_rest))
    expected = {
        ".".join(enum.full_name.split(".")[-2:]): ", ".join(value.name for value in enum.values if value.number)
        for enum in enums
    }
    assert expected == ENUM_VALUES


def test_what_bodies_and_queries_may_have_is_that_of_the_contracts() -> None:
    assert (TEMPLATES / "methods.lua").read_text() == lua_tables(), "stale: make gen writes it anew"


def test_what_the_server_sets_and_what_stands_in_the_path_are_known_and_not_offered() -> None:
    rows = dict(re.findall(r'^  \["(\w+)"\] = \{(.*)\},$', lua_tables(), re.MULTILINE))
    assert rows["ServiceEntry"] == (
        'settable = "name owner tier description links labels dependsOn etag", '
        'of_the_server = "createTime updateTime", inner = {}'
    )
    assert 'of_the_server = "id"' in rows["AcknowledgeAlertRequest"]
    assert 'inner = {services = "ServiceEntry"}' in rows["ApplyServicesRequest"]
