"""Rules from files, against the manager's own rules on a store in memory."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli import rule_status
from cli.main import app
from cli.output import stdout
from cli.rule_files import parse_rules
from services.chassis.failures import StoreUnavailable
from services.domain.problem_reason import ProblemReason
from services.manager.core.rule import RuleStatistics
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry, RuleHistoryKind
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of

RULE = {
    "name": "first",
    "description": "what to do",
    "type": "ERROR_THRESHOLD",
    "threshold": 1_000_000,
    "windowMinutes": 5,
    "severity": "HIGH",
    "labels": {"team": "cli", "tier": "1"},
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(*rules: Any) -> str:
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump_all(rules))
        return str(file)

    return write


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


@pytest.fixture
def kept(tocsin: Command, written: Callable[..., str]) -> Any:
    """A rule that is kept."""
    (rule,) = json.loads(tocsin("rules", "create", written(RULE), "-o", "json").stdout)
    return rule


def test_the_fields_in_a_file_are_set_also_to_nothing_and_the_others_stay(
    tocsin: Command, written: Callable[..., str], kept: Any
) -> None:
    done = tocsin("rules", "update", kept["id"], written({"description": "", "labels": {}}), "-o", "json")
    assert done.exit_code == 0, done.output
    changed = json.loads(done.stdout)
    assert (changed["description"], changed["labels"]) == ("", {})
    server_set = {"description", "labels", "revision", "etag", "updateTime"}
    assert {name for name in kept if kept[name] != changed[name]} <= server_set


def test_a_rule_as_it_is_shown_can_be_edited_and_given_back(
    tocsin: Command, written: Callable[..., str], kept: Any
) -> None:
    shown = json.loads(tocsin("rules", "get", kept["id"], "-o", "json").stdout)
    done = tocsin("rules", "update", kept["id"], written(shown | {"threshold": 7}), "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["threshold"] == 7


def test_a_file_of_another_rule_changes_nothing(tocsin: Command, written: Callable[..., str], kept: Any) -> None:
    done = tocsin("rules", "update", kept["id"], written({"id": "another", "threshold": 7}), "-o", "json")
    assert done.exit_code == 2
    assert "another" in error_of(done)["message"]
    assert json.loads(tocsin("rules", "get", kept["id"], "-o", "json").stdout)["threshold"] == RULE["threshold"]


def test_a_dry_run_of_an_update_shows_the_rule_as_it_would_be(
    tocsin: Command, written: Callable[..., str], kept: Any
) -> None:
    done = tocsin("rules", "update", kept["id"], written({"threshold": 7}), "--dry-run", "-o", "json")
    assert json.loads(done.stdout)["threshold"] == 7
    assert json.loads(tocsin("rules", "get", kept["id"], "-o", "json").stdout)["threshold"] == RULE["threshold"]


def test_commands_about_one_rule_print_one_object_and_lists_an_array(tocsin: Command, kept: Any) -> None:
    for verb in ("get", "enable", "disable"):
        assert json.loads(tocsin("rules", verb, kept["id"], "-o", "json").stdout)["id"] == kept["id"]
    assert [one["id"] for one in json.loads(tocsin("rules", "list", "-o", "json").stdout)] == [kept["id"]]
    done = tocsin("rules", "delete", kept["id"], "-o", "json")
    assert json.loads(done.stdout) == {"id": kept["id"], "deleted": True}
    gone = tocsin("rules", "delete", kept["id"], "-o", "json")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert error_of(gone) == {"code": "NOT_FOUND", "message": "there is no alert rule with this id", "details": []}


def test_a_rule_is_shown_as_people_write_it(tocsin: Command, kept: Any) -> None:
    shown = tocsin("rules", "get", kept["id"]).stdout
    fields = {
        line.split()[0]: line.split(maxsplit=1)[1].strip() for line in shown.splitlines() if len(line.split()) > 1
    }
    assert fields["threshold"] == "1000000"
    assert fields["groupBy"] == "service"
    assert fields["labels"] == "team=cli, tier=1"
    assert fields["enabled"] == "yes"
    assert fields["scope"] == "-"
    assert "1000000" in tocsin("rules", "list").stdout


def test_show_adds_what_was_counted_of_the_rule(tocsin: Command, edge: Edge, kept: Any) -> None:
    zeros = {"matchedEventCount": 0, "lateEventCount": 0, "beyondLimitEventCount": 0, "firedAlertCount": 0}
    shown = json.loads(tocsin("rules", "show", "first", "-o", "json").stdout)
    assert [entry["kind"] for entry in shown.pop("history")] == ["CREATED"]
    assert shown == kept | {"statistics": zeros}
    edge.store.tables.rule_statistics[kept["id"]] = RuleStatistics(
        matched=1_000_000, late=20, beyond_limit=7, fired=3, evaluate_time=datetime(2026, 3, 1, 12, tzinfo=UTC)
    )
    shown = json.loads(tocsin("rules", "show", "first", "-o", "json").stdout)["statistics"]
    assert shown == {
        "matchedEventCount": 1_000_000,
        "lateEventCount": 20,
        "beyondLimitEventCount": 7,
        "firedAlertCount": 3,
        "evaluateTime": "2026-03-01T12:00:00Z",
    }
    lines = [line.split(maxsplit=1) for line in tocsin("rules", "show", "first").stdout.splitlines() if line.strip()]
    fields = {line[0]: line[1].strip() for line in lines if len(line) > 1}
    assert (fields["matchedEventCount"], fields["evaluateTime"]) == ("1000000", "2026-03-01 12:00:00")
    assert fields["threshold"] == "1000000"
    assert tocsin("rules", "show", "nobody").exit_code == 1


def test_a_rule_with_more_groups_than_it_may_have_is_named(tocsin: Command, edge: Edge, kept: Any) -> None:
    assert "~other" not in tocsin("rules", "list").stdout
    edge.store.tables.rule_statistics[kept["id"]] = RuleStatistics(beyond_limit=1234)
    listed = tocsin("rules", "list").stdout
    assert 'rule "first" has more groups than its limit or its tenant\'s: 1,234 events in ~other' in listed
    (rule,) = json.loads(tocsin("rules", "list", "-o", "json").stdout)
    assert int(rule["beyondLimitEventCount"]) == 1234


def test_a_rule_that_is_set_aside_is_hard_to_overlook(tocsin: Command, edge: Edge, kept: Any) -> None:
    assert "SET ASIDE" not in tocsin("rules", "list").stdout
    now = edge.clock.now()
    problem = ReportedProblem(
        instance="evaluator-1",
        reason=ProblemReason.OVER_BUDGET,
        description="its own expressions took 70% \x1b[31m of the CPU",
        set_aside_time=now,
        retry_time=now + timedelta(minutes=1),
    )
    edge.store.tables.rule_problems[kept["id"], "evaluator-1"] = problem, now
    entry = RuleHistoryEntry(kind=RuleHistoryKind.RESUMED, create_time=now, instance="evaluator-0")
    edge.store.tables.rule_entries[kept["id"]].append(entry)
    listed = tocsin("rules", "list").stdout
    assert "SET ASIDE" in listed
    assert 'rule "first" is set aside by evaluator-1 since 2026-01-01 00:00:00: OVER_BUDGET: its own' in listed
    assert "\x1b[31m" not in listed
    (rule,) = json.loads(tocsin("rules", "list", "-o", "json").stdout)
    assert rule["problems"] == [
        {
            "reason": "OVER_BUDGET",
            "description": problem.description,
            "setAsideTime": "2026-01-01T00:00:00Z",
            "retryTime": "2026-01-01T00:01:00Z",
            "instance": "evaluator-1",
        }
    ]
    shown = tocsin("rules", "show", "first").stdout
    assert ["evaluator-1", "OVER_BUDGET"] in [line.split()[2:4] for line in shown.splitlines()]
    assert ["RESUMED", "evaluator-0"] in [line.split()[2:4] for line in shown.splitlines()]
    status = rule_status.set_aside_rules(edge.address)
    assert [rule.name for rule in status] == ["first"]
    assert rule_status.set_aside_rules("127.0.0.1:1") == []
    tocsin("rules", "disable", "first")
    assert "SET ASIDE" not in tocsin("rules", "list").stdout


@pytest.mark.parametrize("name", ["first", "FIRST", "id"])
def test_a_rule_is_found_by_its_name_and_by_the_beginning_of_its_id(tocsin: Command, kept: Any, name: str) -> None:
    given = kept["id"][:30] if name == "id" else name
    assert json.loads(tocsin("rules", "get", given, "-o", "json").stdout)["id"] == kept["id"]
    assert tocsin("rules", "disable", given).exit_code == 0
    assert json.loads(tocsin("rules", "delete", given, "-o", "json").stdout)["id"] == kept["id"]


def test_an_ambiguous_id_lists_the_rules_and_changes_none(
    tocsin: Command, written: Callable[..., str], edge: Edge, kept: Any
) -> None:
    assert tocsin("rules", "create", written(RULE | {"name": "second"})).exit_code == 0
    done = tocsin("rules", "delete", kept["id"][:6], "-o", "json")
    assert done.exit_code == 1
    error = error_of(done)
    assert error["message"] == f'2 rules match "{kept["id"][:6]}"; give more of the id'
    assert {detail["description"] for detail in error["details"]} == {"first", "second"}
    assert names(edge) == {"first", "second"}


@pytest.mark.parametrize("verb", ["get", "delete", "enable", "disable"])
@pytest.mark.usefixtures("kept")
def test_a_name_that_no_rule_has_is_refused_with_the_one_that_was_meant(tocsin: Command, verb: str) -> None:
    done = tocsin("rules", verb, "the-first", "-o", "json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert error_of(done)["message"] == 'no rule has the name or id "the-first"; did you mean "first"?'


@pytest.mark.parametrize("verb", ["create", "validate", "update"])
def test_a_command_warns_on_standard_error_of_what_is_surely_not_meant(
    tocsin: Command, written: Callable[..., str], kept: Any, verb: str
) -> None:
    file = written(RULE | {"name": "second", "condition": "rate > threshold", "threshold": 5})
    of_rule = [kept["id"]] if verb == "update" else []
    done = tocsin("rules", verb, *of_rule, file, "-o", "json")
    assert done.exit_code == 0
    ((warning,),) = json.loads(done.stderr).values()
    assert (warning["field"], warning["rule"]) == ("condition", "second")
    assert "never true" in warning["description"]


def test_a_warning_is_a_line_for_people(tocsin: Command, written: Callable[..., str]) -> None:
    done = tocsin("rules", "validate", written(RULE | {"filter": "level > FATAL"}))
    assert done.stderr.startswith("warning: filter (first): no event can meet it")
