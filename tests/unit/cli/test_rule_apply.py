"""rules apply: the stored rules become those of files, by name, as often as wanted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from cli.rule_names import all_rules
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of

RULE = {"name": "first", "type": "ERROR_THRESHOLD", "threshold": 5, "windowMinutes": 5, "severity": "HIGH"}
SECOND = RULE | {"name": "second"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.mkdir()
    return path


@pytest.fixture
def apply(tocsin: Command, folder: Path) -> Callable[..., list[tuple[str, str]]]:
    """Apply the folder, which must succeed; return what became of each rule."""

    def run(*options: str) -> list[tuple[str, str]]:
        done = tocsin("rules", "apply", str(folder), *options, "-o", "json")
        assert done.exit_code == 0, done.output
        return [(one["change"], one["name"]) for one in json.loads(done.stdout)]

    return run


def write(folder: Path, *rules: Any, name: str = "a.yaml") -> None:
    (folder / name).write_text(yaml.safe_dump_all(rules))


def stored(edge: Edge) -> dict[str, float]:
    return {one.rule.name: one.rule.threshold for one in edge.store.tables.rules.values()}


def test_rules_are_created_updated_left_and_deleted_by_their_names(
    apply: Callable[..., list[tuple[str, str]]], folder: Path, edge: Edge
) -> None:
    write(folder, {"rules": [RULE, SECOND]})
    assert apply() == [("created", "first"), ("created", "second")]
    assert apply() == [("unchanged", "first"), ("unchanged", "second")]
    assert edge.store.tables.revision == 2
    write(folder, RULE | {"threshold": 7})
    write(folder, RULE | {"name": "third"}, name="b.json")
    assert apply() == [("updated", "first"), ("created", "third")]
    assert stored(edge) == {"first": 7, "second": 5, "third": 5}
    assert apply("--prune", "--yes") == [("unchanged", "first"), ("unchanged", "third"), ("deleted", "second")]
    assert set(stored(edge)) == {"first", "third"}


@pytest.fixture
def pruned(tocsin: Command, apply: Callable[..., list[tuple[str, str]]], folder: Path) -> Callable[..., Result]:
    """Apply the folder, in which a stored rule is missing and another has changed, with --prune."""
    write(folder, RULE, SECOND)
    apply()
    write(folder, RULE | {"threshold": 7})

    def run(*options: str, answer: str = "") -> Result:
        return tocsin("rules", "apply", str(folder), "--prune", *options, text=answer)

    return run


@pytest.mark.parametrize("options", [(), ("-o", "json")])
def test_without_a_terminal_nothing_is_deleted_that_nobody_agreed_to(
    pruned: Callable[..., Result], edge: Edge, options: tuple[str, ...]
) -> None:
    done = pruned(*options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "second" in done.stderr
    assert "--yes deletes them" in done.stderr
    assert stored(edge) == {"first": 5, "second": 5}
    assert pruned(*options, "--yes").exit_code == 0
    assert stored(edge) == {"first": 7}
    # Where nothing is to be deleted there is nothing to agree to.
    assert pruned(*options).exit_code == 0


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [("y\n", 0, {"first": 7}), ("n\n", 1, {"first": 5, "second": 5}), ("\n", 1, {"first": 5, "second": 5})],
)
def test_on_a_terminal_the_rules_to_be_deleted_are_named_and_the_user_agrees(
    pruned: Callable[..., Result],
    edge: Edge,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    left: dict[str, float],
) -> None:
    for module in ("cli.output", "cli.file_changes"):
        monkeypatch.setattr(f"{module}.is_interactive", lambda: True)
    done = pruned(answer=answer)
    assert (done.exit_code, stored(edge)) == (code, left)
    assert "  second\n" in done.stderr
    assert "first" not in done.stderr
    assert ("nothing was stored" in done.stderr) is (code == 1)
    # For a program there is no question, whoever sits there.
    assert pruned("-o", "json").exit_code == (0 if code == 0 else 2)


def test_what_a_file_leaves_out_becomes_the_default_but_a_disabled_rule_stays_so(
    tocsin: Command, apply: Callable[..., list[tuple[str, str]]], folder: Path, edge: Edge
) -> None:
    write(folder, RULE | {"labels": {"team": "a"}, "filter": "level >= WARN"})
    apply()
    tocsin("rules", "disable", "first")
    write(folder, RULE)
    assert apply() == [("updated", "first")]
    (one,) = edge.store.tables.rules.values()
    assert (one.rule.labels, one.rule.filter, one.rule.enabled) == ({}, "level >= ERROR", False)
    write(folder, RULE | {"enabled": True})
    assert apply() == [("updated", "first")]


def test_a_dry_run_shows_the_same_and_stores_nothing(
    tocsin: Command, apply: Callable[..., list[tuple[str, str]]], folder: Path, edge: Edge
) -> None:
    write(folder, RULE, SECOND)
    apply()
    write(folder, RULE | {"threshold": 9}, RULE | {"name": "third"})
    changes = [("updated", "first"), ("created", "third"), ("deleted", "second")]
    assert apply("--dry-run", "--prune") == changes
    assert stored(edge) == {"first": 5, "second": 5}
    shown = tocsin("rules", "apply", str(folder), "--dry-run", "--diff").stdout
    assert "  - threshold: 5\n  + threshold: 9\n" in shown
    assert "nothing was stored" in shown


def test_nothing_changes_when_one_rule_is_not_allowed(tocsin: Command, folder: Path, edge: Edge) -> None:
    write(folder, RULE)
    write(folder, SECOND | {"threshold": -1}, name="b.yaml")
    done = tocsin("rules", "apply", str(folder), "-o", "json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert [detail["field"] for detail in error_of(done)["details"]] == [f"{folder / 'b.yaml'}: rules[0].threshold"]
    assert stored(edge) == {}


def test_two_rules_of_one_name_and_a_folder_without_rules_are_refused(
    tocsin: Command, folder: Path, edge: Edge
) -> None:
    assert "no YAML or JSON file" in error_of(tocsin("rules", "apply", str(folder), "-o", "json"))["message"]
    write(folder, RULE)
    write(folder, RULE, name="b.yaml")
    done = tocsin("rules", "apply", str(folder), "-o", "json")
    assert done.exit_code == 2
    (detail,) = error_of(done)["details"]
    assert detail["field"] == f"{folder / 'b.yaml'}: rules[0].name"
    assert detail["description"].startswith(f"this name is used already by {folder / 'a.yaml'}: rules[0];")
    assert stored(edge) == {}


def test_what_was_done_is_printed_when_somebody_else_was_faster(
    tocsin: Command, apply: Callable[..., list[tuple[str, str]]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, RULE, SECOND)
    apply()
    write(folder, RULE | {"threshold": 8}, SECOND | {"threshold": 8})

    def stale(stub: Any) -> Any:
        found = list(all_rules(stub))
        found[1].etag = "stale"
        return found

    monkeypatch.setattr("cli.rule_apply.all_rules", stale)
    done = tocsin("rules", "apply", str(folder), "-o", "json")
    assert done.exit_code == 1
    assert [one["name"] for one in json.loads(done.stdout)] == ["first"]
    assert error_of(done)["code"] == "ABORTED"
