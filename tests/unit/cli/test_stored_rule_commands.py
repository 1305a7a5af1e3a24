"""Commands about a rule that is stored already, against the manager's own rules on a store in memory."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli import rule_status
from services.domain.problem_reason import ProblemReason
from services.manager.core.rule import RuleStatistics
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry, RuleHistoryKind
from tests.fakes.edge import Edge
from tests.unit.cli.commands import RULE, Command, error_of


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
    assert {stored.rule.name for stored in edge.store.tables.rules.values()} == {"first", "second"}


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
