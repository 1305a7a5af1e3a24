"""The routing tree on the command line, against the real service on a store in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.domain.matchers import quote
from services.domain.severity import Severity
from services.manager.core.alert_changes import open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from tests.fakes.edge import Edge
from tests.fakes.on_call import a_policy, a_snapshot
from tests.fakes.silences import a_silence
from tests.fakes.transitions import NOW, a_subject, a_transition
from tests.unit.cli.commands import Command, error_of

TREE = """
receivers: [operators]
routes:
- matchers: ['team="shop"']
  receivers: [shop_chat]
  policy: shop
  correlation: {labels: [cluster], window: 5m}
  bundling: 90s
  inhibitDependents: true
  routes:
  - matchers: ['severity="LOW"']
    receivers: []
    policy: ''
    correlation: {labels: []}
    inhibitDependents: false
    routes:
    - receivers: [shop_mail]
- matchers: ['severity="CRITICAL"']
  continue: true
inhibition:
- source: ['severity="CRITICAL"']
  target: ['severity="HIGH"']
  equal: [service]
"""


@pytest.fixture(autouse=True)
def policy(edge: Edge) -> None:
    edge.store.tables.on_call = a_snapshot(a_policy("shop"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    file = tmp_path / "routing.yaml"
    file.write_text(TREE)
    return file


def shown(tocsin: Command, *arguments: str) -> Any:
    result = tocsin("routing", *arguments, "-o", "json")
    assert result.exit_code == 0, result.stderr
    # The service in this process logs to standard output as well.
    return json.loads(result.stdout[result.stdout.index("\n{" if result.stdout[0] not in "[{" else result.stdout[0]) :])


def test_a_tree_is_set_shown_changed_and_rolled_back(tocsin: Command, tree: Path) -> None:
    nothing = tocsin("routing", "show")
    assert "no routing tree was ever set" in nothing.stderr
    assert tocsin("routing", "set", str(tree), "--dry-run").stdout == "would be set\n"
    done = tocsin("routing", "set", str(tree), "-m", "at first", "--actor", "ann", "--diff")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "+receivers:" in done.stdout
    assert "version 1 is set" in done.stdout
    assert "unchanged: version 1 has this tree" in tocsin("routing", "set", str(tree)).stdout
    drawn = tocsin("routing", "show").stdout
    assert "by ann: at first" in drawn
    assert (
        '├── team="shop"  → shop_chat, policy shop  correlates by cluster  within 5m  bundled every 1m30s'
        "  inhibited by dependencies\n"
    ) in drawn
    assert (
        '│   └── severity="LOW"  → nobody at once, no policy  correlates by no labels  not inhibited by dependencies\n'
        "│       └── every alert  → shop_mail\n"
    ) in drawn
    assert '└── severity="CRITICAL"  and those behind it\n' in drawn
    assert (
        'inhibition: while severity="CRITICAL" fires, nobody is notified of severity="HIGH" with the same service'
        in drawn
    )
    tree.write_text("receivers: [shop_mail]")
    changed = tocsin("routing", "set", str(tree), "--diff").stdout
    assert "-- operators" in changed
    assert "+- shop_mail" in changed
    assert "version 3 is set" in tocsin("routing", "rollback", "1").stdout
    assert [each["version"] for each in shown(tocsin, "versions")] == [3, 2, 1]
    assert "back to version 1" in tocsin("routing", "versions").stdout
    assert shown(tocsin, "show", "--version", "2") == {"receivers": ["shop_mail"]}
    assert tocsin("routing", "rollback", "9").exit_code == 1


def test_what_is_shown_as_yaml_can_be_set(tocsin: Command, tree: Path) -> None:
    tocsin("routing", "set", str(tree))
    tree.write_text(tocsin("routing", "show", "-o", "yaml").stdout)
    assert shown(tocsin, "set", str(tree))["unchanged"]


def test_problems_are_named_as_the_file_has_them(tocsin: Command, tree: Path) -> None:
    tree.write_text("routes: [{matchers: ['a=~('], bundling: 1s, receivers: [shop_chat, nobody], policy: night}]")
    done = tocsin("routing", "check", str(tree), "-o", "json")
    assert done.exit_code == 1
    assert [each["field"] for each in error_of(done)["details"]] == [
        "routes[0].matchers[0]",
        "routes[0].bundling",
        "routes[0].receivers[1]",
        "routes[0].policy",
    ]
    tree.write_text("receiver: [a]")
    unread = tocsin("routing", "set", str(tree))
    assert (unread.exit_code, "did you mean" in unread.stderr) == (2, True)
    tree.write_text("- receivers: [a]\n- receivers: [b]")
    assert "expected one routing tree" in tocsin("routing", "set", str(tree)).stderr


def test_a_valid_tree_is_checked_with_its_warnings(tocsin: Command, tree: Path, edge: Edge) -> None:
    tree.write_text("{receivers: [operators], routes: [{}, {matchers: a=b}]}")
    edge.known_receivers.known = None
    done = tocsin("routing", "check", str(tree))
    assert (done.exit_code, f"{tree}: the manager takes it\n" in done.stdout) == (0, True)
    assert "routes[1]: is never reached" in done.stderr
    assert "the notifier did not answer" in " ".join(done.stderr.split())
    assert len(shown(tocsin, "check", str(tree))["warnings"]) == 2
    assert len(json.loads(tocsin("routing", "set", str(tree), "-o", "json").stderr)["warnings"]) == 2


def test_somebody_elses_change_is_not_overwritten(tocsin: Command, tree: Path, edge: Edge) -> None:
    tocsin("routing", "set", str(tree))
    tree.write_text("receivers: [shop_mail]")
    edge.store.fail_commits = 1
    assert tocsin("routing", "set", str(tree)).exit_code == 0


def test_it_is_shown_what_would_happen_to_an_alert(tocsin: Command, tree: Path, edge: Edge) -> None:
    undecided = tocsin("routing", "test", "team=shop").stdout
    assert "No routing tree was ever set" in undecided
    tocsin("routing", "set", str(tree))
    status = AlertStatus(state=AlertState.FIRING, last_firing=a_transition().evaluation)
    subject = a_subject(severity=Severity.CRITICAL)
    edge.store.tables.alerts["cause"] = open_alert(subject, "t", status, now=NOW).alert
    edge.store.tables.silences["night"] = (a_silence("team=shop", id="night", comment="at night"), 1)
    edge.clock.advance(NOW - edge.clock.now())
    found = shown(tocsin, "test", "team=shop", "severity=HIGH", f"service={subject.labels['service']}")
    assert [(step["path"], step["outcome"]) for step in found["steps"]] == [
        ("root", "PASSED_ON"),
        ("root/0", "TAKEN"),
        ("root/0/0", "NOT_MATCHED"),
    ]
    (route,) = found["routes"]
    assert (route["receivers"], route["policy"], route["bundlingInterval"]) == (["shop_chat"], "shop", "90s")
    assert [silence["id"] for silence in found["silences"]] == ["night"]
    (inhibition,) = found["inhibitions"]
    assert len(inhibition["alertIds"]) == 1
    text = tocsin("routing", "test", "team=shop", "severity=HIGH", f"service={subject.labels['service']}").stdout
    for expected in (
        "✓ root/0",
        "✗ root/0/0",
        "within 5m, by cluster",
        "after 0s: ann (step 1 of policy shop)",
        "silence night holds",
        "inhibited by 1 open",
    ):
        assert expected in text


def test_what_a_service_depends_on_inhibits_its_alerts(tocsin: Command, tree: Path, edge: Edge) -> None:
    tocsin("routing", "set", str(tree))
    catalog = tree.with_name("catalog.yaml")
    catalog.write_text("services: [{name: checkout, dependsOn: [ledger]}, {name: ledger}]")
    assert tocsin("catalog", "apply", str(catalog)).exit_code == 0
    assert "ledger" in tocsin("catalog", "graph").stdout
    status = AlertStatus(state=AlertState.FIRING, last_firing=a_transition().evaluation)
    subject = a_subject("ledger", severity=Severity.CRITICAL)
    cause = open_alert(subject, "t", status, now=NOW).alert
    edge.store.tables.alerts[cause.id] = cause
    labels = ("team=shop", "severity=HIGH", "service=checkout")
    found = shown(tocsin, "test", *labels)
    assert (found["dependencyAlertId"], found["dependencyPath"]) == (cause.id, "checkout → ledger")
    assert f"inhibited by {cause.id} along checkout → ledger" in tocsin("routing", "test", *labels).stdout
    assert shown(tocsin, "test", "severity=HIGH", "service=checkout")["dependencyAlertId"] == ""


def test_another_tree_is_tried(tocsin: Command, tree: Path) -> None:
    found = shown(tocsin, "test", "a=b", "--file", str(tree))
    assert (found["version"], found["routes"][0]["receivers"]) == (0, ["operators"])
    tree.write_text("receivers: [nobody]")
    refused = tocsin("routing", "test", "a=b", "--file", str(tree))
    assert (refused.exit_code, "receivers[0]" in refused.stderr) == (1, True)


@pytest.mark.parametrize("labels", ["team", "=shop"])
def test_labels_need_a_name_and_a_value(tocsin: Command, labels: str) -> None:
    assert "expected NAME=VALUE" in tocsin("routing", "test", labels).stderr
    assert tocsin("routing", "test", "a=b", "x=" + "y" * 2000).exit_code == 1


def test_hostile_text_has_no_effect_on_the_terminal(tocsin: Command, tree: Path) -> None:
    matcher = f"a={quote(HOSTILE)}"
    tree.write_text(yaml.safe_dump({"receivers": ["operators"], "routes": [{"matchers": [matcher]}]}))
    assert "version 1 is set" in tocsin("routing", "set", str(tree), "-m", HOSTILE, "--actor", HOSTILE, "--diff").stdout
    for arguments in (["test", f"team={HOSTILE}", f"a={HOSTILE}"], ["show"], ["versions"], ["versions", "-o", "wide"]):
        shown = tocsin("routing", *arguments).stdout
        assert shown
        assert not [char for char in shown if not char.isprintable() and char != "\n"]
        assert not any(line.strip().startswith("FORGED") for line in shown.splitlines())


HOSTILE = "x\x1b[2J\x9b31m\x7f\u202egnp\u2028\u200b[red]b[/red]\r\nFORGED\tend"
