"""Entries of the catalog: what is allowed, what an edit changes, and what is odd in the whole."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.manager.core.catalog import (
    Catalog,
    CatalogChangeKind,
    CatalogChanges,
    LearnedDependencies,
    ServiceEntry,
    StoredService,
    apply_entries,
    catalog_warnings,
    entry_problems,
)
from services.manager.core.dependency_graph import DependencyEdge, EdgeOrigin, EdgeState
from tests.fakes.transitions import NOW

LATER = NOW + timedelta(minutes=1)


def stored(name: str, *depends_on: str, revision: int = 1) -> StoredService:
    entry = ServiceEntry(name=name, depends_on=depends_on, labels={"team": name})
    return StoredService(entry=entry, revision=revision, create_time=NOW, update_time=NOW)


def catalog(*services: StoredService) -> Catalog:
    return Catalog.of(CatalogChanges(revision=1, epoch="e", services=services))


def test_an_edit_creates_updates_or_leaves_an_entry() -> None:
    before = {name: stored(name) for name in "ab"}
    changed = ServiceEntry(name="a", owner="new")
    kinds = apply_entries(before, [changed, before["b"].entry, ServiceEntry(name="c")], 7, now=LATER)
    assert [each.kind for each in kinds] == list(map(CatalogChangeKind, ("UPDATED", "UNCHANGED", "CREATED")))
    updated, unchanged, created = (each.stored for each in kinds)
    assert (updated.entry, updated.revision, updated.create_time, updated.update_time) == (changed, 7, NOW, LATER)
    assert unchanged == before["b"]
    assert (created.revision, created.create_time, created.update_time) == (7, LATER, LATER)
    assert len({updated.etag, unchanged.etag, created.etag, before["a"].etag}) == 4


@pytest.mark.parametrize(
    ("entry", "field", "text"),
    [
        (ServiceEntry(name=" "), "name", "is required"),
        (ServiceEntry(name="x" * 257), "name", "257 characters, at most 256"),
        (ServiceEntry(name="a\x1b[2J"), "name", "control characters"),
        (ServiceEntry(name="a", owner="o" * 257), "owner", "at most 256"),
        (ServiceEntry(name="a", tier="o" * 65), "tier", "at most 64"),
        (ServiceEntry(name="a", description="o" * 4097), "description", "at most 4096"),
        (ServiceEntry(name="a", links={"": "https://a"}), "links[]", "1 to 64"),
        (
            ServiceEntry(name="a", links={"r": "ftp://a/b"}),
            "links[r]",
            "http or https address of up to 1000 characters",
        ),
        (ServiceEntry(name="a", links={"r": "javascript:alert(1)"}), "links[r]", 'found "javascript:alert(1)"'),
        (ServiceEntry(name="a", links={"r": "https://" + "x" * 1000}), "links[r]", "x…"),
        (ServiceEntry(name="a", links={"r": "http://[x"}), "links[r]", "expected"),
        (ServiceEntry(name="a", links={f"l{n}": "https://a" for n in range(21)}), "links", "at most 20"),
        (ServiceEntry(name="a", labels={f"l{n}": "" for n in range(17)}), "labels", "at most 16"),
        (ServiceEntry(name="a", labels={"k" * 65: ""}), f"labels[{'k' * 65}]", "1 to 64"),
        (ServiceEntry(name="a", labels={"k": "v" * 257}), "labels[k]", "at most 256"),
        (ServiceEntry(name="a", depends_on=tuple(f"d{n:03}" for n in range(201))), "dependsOn", "at most 200"),
        (ServiceEntry(name="a", depends_on=("a", "b")), "dependsOn[0]", "not depend on itself"),
        (ServiceEntry(name="a", depends_on=("", "b")), "dependsOn[0]", "is required"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_field(entry: ServiceEntry, field: str, text: str) -> None:
    ((named, description),) = entry_problems(entry, {name: index for index, name in enumerate(entry.depends_on)})
    assert named == field
    assert text in description


def test_all_problems_come_at_once_and_dependencies_where_they_were_written() -> None:
    entry = ServiceEntry(name="b", owner="o" * 257, depends_on=("b", "c\n"))
    found = [field for field, _ in entry_problems(entry, {"c\n": 0, "b": 1})]
    assert found == ["owner", "dependsOn[0]", "dependsOn[1]"]
    assert entry_problems(stored("a", "b").entry, {"b": 0}) == []


def test_circles_and_unknown_services_are_warnings_about_what_was_changed() -> None:
    found = catalog(
        stored("a", "b"),
        stored("b", "c"),
        stored("c", "a", "gone"),
        stored("d", "d2"),
        stored("e", "f"),
        stored("f", "e"),
    )
    warnings = catalog_warnings(found, ["c", "b"])
    assert [(each.service, each.field) for each in warnings] == [("b", "dependsOn"), ("c", "dependsOn[1]")]
    assert warnings[0].description.endswith("b → c → a → b")
    assert '"gone" is not in the catalog' in warnings[1].description
    assert catalog_warnings(found, ["a"])[0].description.endswith("a → b → c → a")


def test_warnings_are_bounded() -> None:
    found = catalog(stored("a", *(f"d{n}" for n in range(200))))
    assert len(catalog_warnings(found, ["a"])) == 100


def test_the_catalog_knows_entries_labels_and_names() -> None:
    found = catalog(stored("b", "c"), stored("a", "b"))
    assert found.labels_of("a") == {"team": "a"}
    assert found.labels_of("c") == {}
    assert found.entry_of("c") is None
    assert found.names() == ["a", "b", "c"]
    assert found.version == "e.1.0"
    assert found.graph is found.graph


def test_changes_replace_and_add_entries_and_the_graph_follows() -> None:
    before = catalog(stored("a", "b"), stored("b"))
    assert before.graph.depends_on("a", 9) == {"b": 1}
    after = before.apply(CatalogChanges(revision=2, epoch="e", services=(stored("b", "c", revision=2), stored("c"))))
    assert (after.revision, sorted(after.services)) == (2, ["a", "b", "c"])
    assert after.graph.depends_on("a", 9) == {"b": 1, "c": 2}
    assert before.graph.depends_on("a", 9) == {"b": 1}


def test_only_what_people_declared_or_confirmed_is_in_the_confirmed_graph() -> None:
    edges = tuple(
        DependencyEdge(service="a", depends_on=state.name, origin=EdgeOrigin.LEARNED, state=state)
        for state in EdgeState
    )
    whole = catalog(stored("a", "b")).with_learned(LearnedDependencies(revision=1, edges=edges))
    assert set(whole.graph.depends_on("a", 1)) == {"b", "UNSPECIFIED", "CONFIRMED"}
    assert set(whole.confirmed_graph.depends_on("a", 1)) == {"b", "CONFIRMED"}
    assert whole.confirmed_graph is whole.confirmed_graph
    after = whole.apply(CatalogChanges(revision=2, services=(stored("a"),)))
    assert set(after.confirmed_graph.depends_on("a", 1)) == {"CONFIRMED"}


def test_a_circle_that_only_a_learned_edge_closes_is_no_warning() -> None:
    back = DependencyEdge(service="b", depends_on="a", origin=EdgeOrigin.LEARNED, state=EdgeState.UNSPECIFIED)
    whole = catalog(stored("a", "b"), stored("b")).with_learned(LearnedDependencies(revision=1, edges=(back,)))
    assert catalog_warnings(whole, ["a"]) == []
    confirmed = whole.with_learned(LearnedDependencies(revision=2, edges=(replace(back, state=EdgeState.CONFIRMED),)))
    assert (whole.version, confirmed.version) == ("e.1.1", "e.1.2")
    assert [each.field for each in catalog_warnings(confirmed, ["a"])] == ["dependsOn"]
