"""tocsin catalog edges, against a manager in memory."""

import json
from pathlib import Path

import pytest

from services.manager.core.dependency_graph import EdgeState
from tests.fakes.edge import Edge
from tests.fakes.learned_edges import a_learned_edge
from tests.fakes.transitions import NOW
from tests.unit.cli.commands import Command, error_of

EDGES = [
    a_learned_edge("web", "pay"),
    a_learned_edge("web", "ads").decided(EdgeState.IGNORED, "ann", NOW),
    a_learned_edge("pay", "bank", support=30.0, forward=15.0, is_supported=False),
]


@pytest.fixture(autouse=True)
def stored(edge: Edge) -> None:
    edge.store.tables.learned.edges |= {each.pair: each for each in EDGES}


def test_learned_dependencies_are_listed_with_what_people_say_of_them(tocsin: Command) -> None:
    shown = tocsin("catalog", "edges", "list").stdout
    assert [line.split()[:5] for line in shown.splitlines() if " web " in f" {line} " or "pay" in line] == [
        ["web", "ads", "ignored", "40", "100%"],
        ["web", "pay", "learned", "40", "100%"],
    ]
    weak = tocsin("catalog", "edges", "list", "bank", "--weak", "-o", "wide").stdout
    assert ["pay", "bank", "weak", "30", "50%", "2026-01-01"] in [line.split()[:6] for line in weak.splitlines()]
    ignored = json.loads(tocsin("catalog", "edges", "list", "--state", "ignored", "-o", "json").stdout)
    assert [(each["dependsOn"], each["actor"]) for each in ignored] == [("ads", "ann")]
    learned = json.loads(tocsin("catalog", "edges", "list", "--state", "learned", "-o", "json").stdout)
    assert [each["dependsOn"] for each in learned] == ["pay"]


def test_a_learned_dependency_is_confirmed_and_ignored(tocsin: Command, edge: Edge) -> None:
    done = tocsin("catalog", "edges", "confirm", "web", "pay", "--actor", "bob")
    assert (done.exit_code, "confirmed" in done.stdout, "before" in done.stdout) == (0, True, False)
    stored = edge.store.tables.learned.edges["web", "pay"]
    assert (stored.state, stored.actor) == (EdgeState.CONFIRMED, "bob")
    assert "It was confirmed before." in tocsin("catalog", "edges", "confirm", "web", "pay").stdout
    done = tocsin("catalog", "edges", "ignore", "web", "pay", "-o", "json")
    assert json.loads(done.stdout)["state"] == "IGNORED"
    assert "It was ignored before." in tocsin("catalog", "edges", "ignore", "web", "pay").stdout
    assert "(learned)  (ignored)" in tocsin("catalog", "graph").stdout


def test_a_service_is_shown_with_what_was_learned_of_it_and_without_what_is_ignored(
    tocsin: Command, tmp_path: Path
) -> None:
    entries = tmp_path / "entries.yaml"
    entries.write_text("services: [{name: web, dependsOn: [pay, db]}, {name: pay}]")
    assert tocsin("catalog", "apply", str(entries)).exit_code == 0
    web = tocsin("catalog", "show", "web").stdout
    assert "db, pay" in web
    assert "ads" not in web
    assert "web (learned)" not in tocsin("catalog", "show", "pay").stdout
    entries.write_text("services: [{name: web}]")
    assert tocsin("catalog", "apply", str(entries)).exit_code == 0
    assert "pay (learned)" in tocsin("catalog", "show", "web").stdout
    assert "web (learned)" in tocsin("catalog", "show", "pay").stdout


def test_what_was_not_learned_is_refused(tocsin: Command) -> None:
    refused = tocsin("catalog", "edges", "confirm", "pay", "web", "-o", "json")
    assert refused.exit_code == 1
    assert error_of(refused)["message"].startswith("no such dependency was learned")
