"""Rules from files, against the manager's own rules on a store in memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.output import stdout
from cli.rule_files import parse_rules
from services.chassis.failures import StoreUnavailable
from tests.fakes.edge import Edge
from tests.unit.cli.commands import RULE, Command, error_of


def names(edge: Edge) -> set[str]:
    return {stored.rule.name for stored in edge.store.tables.rules.values()}


def test_each_rule_of_a_file_is_added_and_printed(tocsin: Command, written: Callable[..., str], edge: Edge) -> None:
    done = tocsin("rules", "create", written(RULE, RULE | {"name": "second"}), "-o", "json")
    assert done.exit_code == 0, done.output
    assert [rule["name"] for rule in json.loads(done.stdout)] == ["first", "second"]
    assert names(edge) == {"first", "second"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nthreshold: 1\nname: b\n", 'line 3, column 1: duplicate key "name", first used in line 1'),
        ('[{"name": "a",\n "threshold": 1, "threshold": 100}]', 'line 2, column 18: duplicate key "threshold"'),
        ("name: a\nlabels:\n  team: x\n  team: y\n", 'line 4, column 3: duplicate key "team"'),
        ("name: a\n---\nlabels: {1: x, 1: y}\n", 'line 3, column 16: duplicate key "1"'),
        ("? [a]\n: 1\n", "a key must be a single value"),
        ("name: [\n", "line 2, column 1"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_a_duplicate_key_is_named_and_nothing_is_added(
    tocsin: Command, tmp_path: Path, edge: Edge, text: str, message: str
) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    done = tocsin("rules", "create", str(tmp_path / "rules.yaml"), "-o", "json")
    assert done.exit_code == 2
    assert message in error_of(done)["message"]
    assert names(edge) == set()


def test_merged_keys_may_be_overridden_and_two_names_of_one_field_are_refused(
    tocsin: Command, tmp_path: Path, edge: Edge
) -> None:
    file = tmp_path / "rules.yaml"
    base = "type: ERROR_THRESHOLD, threshold: 5, windowMinutes: 5, severity: LOW"
    file.write_text(f"- &base {{name: a, {base}}}\n- {{<<: *base, name: b, severity: HIGH}}\n")
    assert tocsin("rules", "create", str(file)).exit_code == 0
    assert names(edge) == {"a", "b"}
    file.write_text(f"{{name: c, {base}, valueField: response_time, value_field: status_code}}")
    done = tocsin("rules", "create", str(file), "-o", "json")
    assert done.exit_code == 2
    assert error_of(done)["details"][0]["description"] == "these names are of one field: valueField, value_field"


@pytest.mark.parametrize("command", ["create", "validate"])
def test_every_bad_rule_is_named_and_none_is_added(
    tocsin: Command, written: Callable[..., str], edge: Edge, command: str
) -> None:
    file = written(RULE, RULE | {"name": "bad", "filter": "servce == 'x'"}, RULE | {"name": "worse", "threshold": -1})
    done = tocsin("rules", command, file, "-o", "json")
    assert done.exit_code == 1
    error = error_of(done)
    assert (error["code"], error["message"]) == ("INVALID_ARGUMENT", 'not allowed: "bad", "worse"')
    assert [(one["field"], one["rule"]) for one in error["details"]] == [
        ("rules[1].filter", "bad"),
        ("rules[2].threshold", "worse"),
    ]
    assert names(edge) == set()
    words = tocsin("rules", command, file).stderr
    assert "rules[1].filter (bad): " in words
    assert "rules[2].threshold (worse): " in words


@pytest.mark.parametrize("command", [["create"], ["create", "--dry-run"], ["validate"], ["apply"]])
def test_two_rules_of_one_name_are_refused_with_all_that_is_wrong(
    tocsin: Command, written: Callable[..., str], edge: Edge, command: list[str]
) -> None:
    file = written(RULE, RULE | {"name": "second"}, RULE | {"threshold": -1})
    done = tocsin("rules", *command, file, "-o", "json")
    assert (done.exit_code, done.stdout) == (2, "")
    error = error_of(done)
    assert (error["code"], error["message"]) == ("INVALID_ARGUMENT", 'not allowed: "first"')
    named, other = error["details"]
    assert (named["field"], other["field"]) == ("rules[2].name", "rules[2].threshold")
    assert named["description"] == "this name is used already by rules[0]; each rule needs a name of its own"
    assert names(edge) == set()


def test_a_list_shows_ids_as_short_as_they_differ_and_wide_shows_them_whole(
    tocsin: Command, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdout, "width", 80)
    added = tocsin("rules", "create", written(RULE, RULE | {"name": "second"}), "-o", "json")
    ids = [rule["id"] for rule in json.loads(added.stdout)]
    rows = [line.split() for line in tocsin("rules", "list").stdout.splitlines()]
    assert rows[0][:6] == ["ID", "Name", "Severity", "Enabled", "Threshold", "Window"]
    for name, rule_id in zip(("first", "second"), ids, strict=True):
        (shown,) = [row[0] for row in rows if name in row]
        assert rule_id.startswith(shown)
        assert len(shown) < len(rule_id)
        assert json.loads(tocsin("rules", "get", shown, "-o", "json").stdout)["id"] == rule_id
    wide = tocsin("rules", "list", "-o", "wide").stdout
    assert all(rule_id in wide for rule_id in ids)


def test_no_table_is_printed_of_no_rules(tocsin: Command, written: Callable[..., str]) -> None:
    assert tocsin("rules", "create", written(RULE)).exit_code == 0
    assert tocsin("rules", "create", written(RULE)).stdout == ""
    assert json.loads(tocsin("rules", "create", written(RULE), "-o", "json").stdout) == []


def test_a_rule_that_exists_is_named_and_the_others_are_added(
    tocsin: Command, written: Callable[..., str], edge: Edge
) -> None:
    assert tocsin("rules", "create", written(RULE)).exit_code == 0
    done = tocsin("rules", "create", written(RULE, RULE | {"name": "second"}), "-o", "json")
    assert done.exit_code == 1
    assert [rule["name"] for rule in json.loads(done.stdout)] == ["second"]
    error = error_of(done)
    assert (error["code"], error["message"]) == ("ALREADY_EXISTS", 'not added: "first"')
    assert [one["field"] for one in error["details"]] == ["rules[0]"]
    assert names(edge) == {"first", "second"}


def test_a_dry_run_refuses_like_the_real_call_and_stores_nothing(
    tocsin: Command, written: Callable[..., str], edge: Edge
) -> None:
    assert tocsin("rules", "create", written(RULE)).exit_code == 0
    done = tocsin("rules", "create", written(RULE, RULE | {"name": "second"}), "--dry-run", "-o", "json")
    assert done.exit_code == 1
    assert [rule["name"] for rule in json.loads(done.stdout)] == ["second"]
    assert error_of(done)["message"] == 'not added: "first"'
    assert names(edge) == {"first"}


def test_added_rules_are_printed_when_the_server_goes_away(
    tocsin: Command, written: Callable[..., str], edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = edge.store.transaction

    def once(**options: Any) -> Any:
        if edge.store.tables.rules:
            raise StoreUnavailable("the database does not answer")
        return transaction(**options)

    monkeypatch.setattr(edge.store, "transaction", once)
    done = tocsin("rules", "create", written(RULE, RULE | {"name": "second"}), "-o", "json")
    assert done.exit_code == 3
    assert [rule["name"] for rule in json.loads(done.stdout)] == ["first"]
    assert error_of(done)["code"] == "UNAVAILABLE"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "[]"])
@pytest.mark.parametrize("command", ["create", "validate"])
def test_a_file_without_a_rule_is_wrong_usage(tocsin: Command, command: str, text: str) -> None:
    done = tocsin("rules", command, "-", "-o", "json", text=text)
    assert done.exit_code == 2
    assert error_of(done)["message"] == "the file has no rule"


def test_every_rule_that_cannot_be_read_is_named() -> None:
    good, odd, other = parse_rules([RULE, {"name": "odd", "thresold": 3}, 7])
    assert (good.rule.name, list(good.problems)) == ("first", [])
    assert list(odd.problems) == [("thresold", 'unknown field; did you mean "threshold"?')]
    assert list(other.problems) == [("", "expected a mapping with name, type, …, found 7")]


def test_all_problems_of_a_rule_are_named_at_once_also_those_that_the_server_finds(
    tocsin: Command, written: Callable[..., str], edge: Edge
) -> None:
    rule = {"name": "odd", "type": "CUSTM", "filter": "servce == 'x'", "labels": {"prio": [1]}, "severity": "LOW"}
    done = tocsin("rules", "create", written(RULE, rule | {"window": 5, "thresold": 3}), "-o", "json")
    assert (done.exit_code, done.stdout) == (2, "")
    error = error_of(done)
    assert error["message"] == 'not allowed: "odd"'
    details = {detail["field"].removeprefix("rules[1]."): detail["description"] for detail in error["details"]}
    assert details["labels"] == "label values are strings: prio"
    assert details["window"] == "expected a duration with its unit, such as 90s, 2m or 1h30m, found 5"
    assert details["type"].endswith('found "CUSTM"')
    assert 'unknown name "servce"' in details["filter"]
    assert set(details) == {"thresold", "type", "labels", "window", "filter", "threshold"}
    assert names(edge) == set()


def test_what_is_wrong_in_a_file_is_said_without_a_server() -> None:
    done = CliRunner().invoke(app, ["rules", "validate", "-", "--server", "127.0.0.1:1"], input="thresold: 3")
    assert done.exit_code == 2
    assert "rules[0].thresold: unknown field" in done.stderr


def test_a_valid_rule_is_shown_with_everything_that_was_filled_in(tocsin: Command, written: Callable[..., str]) -> None:
    shown = tocsin("rules", "validate", written(RULE)).stdout
    assert shown.index("description") < shown.index("threshold") < shown.index("labels")
    lines = {words[0]: " ".join(words[1:]) for line in shown.splitlines() if len(words := line.split()) > 1}
    assert lines["filter"] == "level >= ERROR filled in by ERROR_THRESHOLD"
    assert lines["groupBy"] == "service default"
    assert lines["lateness"] == "30s default"
    assert lines["threshold"] == "1000000"
    assert lines["windowMinutes"] == "5"


@pytest.mark.parametrize("form", ["table", "json"])
def test_nothing_is_printed_to_standard_output_when_a_rule_is_not_allowed(
    tocsin: Command, written: Callable[..., str], form: str
) -> None:
    done = tocsin("rules", "validate", written(RULE, RULE | {"name": "bad", "threshold": -1}), "-o", form)
    assert (done.exit_code, done.stdout) == (1, "")
