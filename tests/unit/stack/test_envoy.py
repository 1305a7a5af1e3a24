"""Envoy's starter explains itself, and does not start then; its refusals know the contracts' enums."""

import re
import sys

import pytest

from docs.rest_lua import lua_tables
from stack.envoy import TEMPLATES, main


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["stack.envoy", option])
    main()
    assert "GATEWAY_CONCURRENCY" in capsys.readouterr().out


def test_a_refused_word_is_answered_with_the_values_of_its_enum() -> None:
    enums = dict(re.findall(r'^  \["([\w.]+)"\] = "([\w, ]+)",$', lua_tables(), re.MULTILINE))
    assert enums["AlertRule.Severity"] == "LOW, MEDIUM, HIGH, CRITICAL"
    # Of a message within a message.
    assert enums["WeeklyHours.Weekday"].startswith("MONDAY, ")
    assert not any(name.startswith("LogEvent.") for name in enums)


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
