"""tocsin catalog, against a manager in memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.catalog import apply as apply_module
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of

PAY = {
    "name": "pay",
    "owner": "team-pay",
    "tier": 1,
    "links": {"runbook": "https://wiki.example/pay"},
    "labels": {"version": 1.10, "on": True},
    "dependsOn": ["ledger", "bank", "ledger"],
}
BANK = {"name": "bank", "depends_on": "pay"}
HOSTILE = "x\x1b[2J\u202e\nFORGED"

Apply = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "catalog"
    path.mkdir()
    return path


@pytest.fixture
def apply(tocsin: Command, folder: Path) -> Apply:
    """Apply the folder, which must succeed; return what became of each service."""

    def run(*options: str) -> list[tuple[str, str]]:
        done = tocsin("catalog", "apply", str(folder), *options, "-o", "json")
        assert done.exit_code == 0, done.output
        return [(one["change"], one["name"]) for one in json.loads(done.stdout)]

    return run


def write(folder: Path, *values: Any, name: str = "a.yaml") -> None:
    (folder / name).write_text(yaml.safe_dump_all(values, sort_keys=False))


def stored(edge: Edge) -> dict[str, tuple[str, tuple[str, ...]]]:
    services = edge.store.tables.services.items()
    return {name: (each.entry.owner, each.entry.depends_on) for name, each in services}


def test_services_are_created_updated_left_and_deleted_by_their_names(
    tocsin: Command, apply: Apply, folder: Path, edge: Edge
) -> None:
    write(folder, {"services": [PAY, BANK]})
    assert apply() == [("created", "pay"), ("created", "bank")]
    assert apply() == [("unchanged", "pay"), ("unchanged", "bank")]
    assert edge.store.tables.catalog_revision == 1
    assert dict(edge.store.tables.services["pay"].entry.labels) == {"version": "1.1", "on": "true"}
    write(folder, PAY | {"owner": "new"})
    write(folder, {"name": "third"}, name="b.json")
    assert apply() == [("updated", "pay"), ("created", "third")]
    assert stored(edge) == {"pay": ("new", ("bank", "ledger")), "bank": ("", ("pay",)), "third": ("", ())}
    assert apply("--prune", "--dry-run")[-1] == ("deleted", "bank")
    refused = tocsin("catalog", "apply", str(folder), "--prune", "-o", "json")
    assert (refused.exit_code, [detail["rule"] for detail in error_of(refused)["details"]]) == (2, ["bank"])
    assert apply("--prune", "--yes") == [("unchanged", "pay"), ("unchanged", "third"), ("deleted", "bank")]
    assert set(stored(edge)) == {"pay", "third"}


def test_a_dry_run_shows_each_field_and_stores_nothing(tocsin: Command, apply: Apply, folder: Path, edge: Edge) -> None:
    write(folder, PAY)
    apply()
    write(folder, PAY | {"owner": "new", "tier": None})
    done = tocsin("catalog", "apply", str(folder), "--dry-run", "--diff")
    assert "  - owner: team-pay\n  + owner: new\n  - tier: 1\n" in done.stdout
    assert "nothing was stored" in done.stdout
    assert "warning" in done.stderr
    assert '"bank" is not in the catalog' in done.stderr
    assert stored(edge)["pay"][0] == "team-pay"


def test_all_problems_of_all_services_are_named_at_once(tocsin: Command, folder: Path, edge: Edge) -> None:
    bad_link = {"name": "b", "links": {"runbook": "ftp://x"}, "dependsOn": ["b"]}
    write(
        folder, {"name": "a", "ownr": "x", "labels": ["y"]}, bad_link, {"name": "c", "dependsOn": [1]}, 7, {"name": "c"}
    )
    done = tocsin("catalog", "apply", str(folder), "-o", "json")
    assert (done.exit_code, done.stdout) == (2, "")
    error = error_of(done)
    assert [(each["field"], each.get("rule", "")) for each in error["details"]] == [
        ("services[0].ownr", "a"),
        ("services[0].labels", "a"),
        ("services[2].dependsOn", "c"),
        ("services[3]", ""),
        ("services[4].name", "c"),
        ("services[1].links[runbook]", "b"),
        ("services[1].dependsOn[0]", "b"),
    ]
    descriptions = [each["description"] for each in error["details"]]
    assert descriptions[0] == 'unknown field; did you mean "owner"?'
    assert descriptions[1] == "expected names and values such as {team: payments}, found a list"
    assert descriptions[2] == "expected a list of services such as [ledger, bank], found a list"
    assert descriptions[4].startswith("this name is used already by services[2];")
    assert 'found "ftp://x"' in descriptions[5]
    assert stored(edge) == {}
    write(folder, bad_link)
    refused = tocsin("catalog", "apply", str(folder))
    assert refused.exit_code == 1
    assert "services[0].dependsOn[0] (b): a service does not depend on itself" in refused.stderr


def test_fields_may_be_given_once_and_server_fields_are_passed_over(tocsin: Command, folder: Path) -> None:
    write(folder, {"name": "a", "dependsOn": [], "depends_on": [], "createTime": "x", "owner": ["o"], "tier": "\ud800"})
    details = error_of(tocsin("catalog", "apply", str(folder), "-o", "json"))["details"]
    assert {each["field"].partition(".")[2] for each in details} == {"dependsOn", "owner", "tier"}


def test_a_file_is_checked_also_when_no_server_answers(tocsin: Command, folder: Path) -> None:
    write(folder, {"name": "a", "ownr": "x"}, {"name": "b"})
    done = tocsin("catalog", "apply", str(folder), "--server", "127.0.0.1:1")
    assert done.exit_code in {2, 3}
    assert "no service" in error_of(tocsin("catalog", "apply", "-", "-o", "json", text="---\n"))["message"]


def test_many_services_are_applied_in_parts(apply: Apply, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_module, "_MAX_ENTRIES", 2)
    write(folder, *({"name": f"s{n}"} for n in range(5)))
    assert apply() == [("created", f"s{n}") for n in range(5)]
    monkeypatch.setattr(apply_module, "_MAX_BYTES", 1)
    assert len(apply()) == 5


def test_what_was_exported_is_applied_without_a_change(tocsin: Command, apply: Apply, folder: Path) -> None:
    write(folder, PAY, BANK)
    apply()
    for form in ("yaml", "json"):
        exported = tocsin("catalog", "export", "-o", form).stdout
        write(folder, *yaml.safe_load_all(exported))
        assert apply("--prune") == [("unchanged", "bank"), ("unchanged", "pay")]
    assert tocsin("catalog", "export").stdout == tocsin("catalog", "export", "-o", "table").stdout


def test_services_are_listed_shown_drawn_and_deleted(tocsin: Command, apply: Apply, folder: Path) -> None:
    write(folder, PAY, BANK)
    apply()
    table = tocsin("catalog", "list").stdout
    assert "team-pay" in table
    assert "bank, ledger" in table
    assert [
        one["name"] for one in json.loads(tocsin("catalog", "list", "--owner", "team-pay", "-o", "json").stdout)
    ] == ["pay"]
    shown = tocsin("catalog", "show", "pay").stdout
    assert all(text in shown for text in ("Link runbook", "https://wiki.example/pay", "Needed by", "bank"))
    assert json.loads(tocsin("catalog", "show", "pay", "-o", "json").stdout)["tier"] == "1"
    assert tocsin("catalog", "graph").stdout == (
        "bank\n└── pay  team-pay\n    ├── bank  ↺ circle\n    └── ledger  (unknown)\n"
    )
    assert tocsin("catalog", "graph", "ledger", "--dependents", "--depth", "1").stdout == (
        "ledger  (unknown)\n└── pay  team-pay\n"
    )
    assert tocsin("catalog", "graph", "--format", "dot").stdout.startswith("digraph services {")
    assert tocsin("catalog", "graph", "-f", "mermaid").stdout.startswith("graph LR")
    graph = json.loads(tocsin("catalog", "graph", "-f", "json").stdout)
    assert (len(graph["nodes"]), len(graph["edges"]), graph["cycles"]) == (3, 3, [{"services": ["bank", "pay"]}])
    assert tocsin("catalog", "delete", "pay").stdout == "deleted pay\n"
    assert json.loads(tocsin("catalog", "delete", "bank", "-o", "json").stdout) == {"name": "bank", "deleted": True}
    gone = tocsin("catalog", "delete", "pay")
    assert gone.exit_code == 1
    assert "the catalog has no service of this name" in gone.stderr


def test_names_are_printed_as_text(tocsin: Command, apply: Apply, folder: Path) -> None:
    write(folder, {"name": "a", "owner": HOSTILE, "description": HOSTILE, "labels": {HOSTILE: HOSTILE}})
    apply()
    commands = [("list",), ("show", "a"), ("graph",), ("export",), ("graph", "-f", "json"), ("list", "-o", "wide")]
    for done in [tocsin("catalog", *command) for command in commands]:
        assert done.exit_code == 0
        assert not any(char in done.output for char in "\x1b\u202e")
        assert not any(line.startswith("FORGED") for line in done.output.splitlines())
    missing = tocsin("catalog", "show", HOSTILE)
    assert "\x1b" not in missing.output


def test_backstage_files_are_applied_and_other_kinds_are_said(tocsin: Command, folder: Path, edge: Edge) -> None:
    head = "apiVersion: backstage.io/v1alpha1\n"
    component = f"{head}kind: Component\nmetadata: {{name: pay}}\nspec: {{owner: team, dependsOn: [component:bank]}}\n"
    (folder / "catalog-info.yaml").write_text(f"{component}---\n{head}kind: System\nmetadata: {{name: shop}}\n")
    done = tocsin("catalog", "apply", str(folder))
    assert done.exit_code == 0, done.output
    assert "System shop is not a Component of Backstage: skipped" in done.stderr
    assert stored(edge) == {"pay": ("team", ("bank",))}
