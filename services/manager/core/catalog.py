"""The catalog of services: what an entry may hold, what an edit of it changes, and the catalog as a whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain, islice
from typing import Self

from services.domain.event_fields import MAX_SERVICE
from services.domain.fingerprint import digest
from services.domain.found_values import expected, shortened
from services.domain.links import EXPECTED_LINK, is_link
from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.rule_language.restrictions import check_description, check_labels

# Each manager keeps all of them in memory.
MAX_SERVICES = 10_000
_MAX_OWNER = 256
_MAX_TIER = 64
_MAX_LINKS = 20
_MAX_LINK_NAME = 64
_MAX_DEPENDENCIES = 200
_MAX_WARNINGS = 100
_NO_LABELS: Mapping[str, str] = {}


class CatalogChangeKind(StrEnum):
    """What an edit does to an entry; the names are those of the contract."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntry:
    """What people write about one service."""

    name: str
    owner: str = ""
    tier: str = ""
    description: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    # In the order of their names, each once.
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredService:
    """An entry, the revision of the catalog at which it was last changed, and when."""

    entry: ServiceEntry
    revision: int
    create_time: datetime
    update_time: datetime

    @property
    def etag(self) -> str:
        """Return a text that differs between revisions."""
        return digest("service", self.entry.name, str(self.revision))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEntry:
    """What an edit does to one entry, and the row after it."""

    kind: CatalogChangeKind
    stored: StoredService


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogChanges:
    """The entries that were written up to a revision, since an earlier one."""

    revision: int
    epoch: str = ""
    services: tuple[StoredService, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedDependencies:
    """All dependencies that were learned and count, or that people decided about, at one revision."""

    revision: int = 0
    edges: tuple[DependencyEdge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All entries by their names, at one revision."""

    revision: int = 0
    # Differs between databases.
    epoch: str = ""
    services: Mapping[str, StoredService] = field(default_factory=dict)
    # What was learned of dependencies, beside those that the entries declare, at a revision of its own.
    edges: tuple[DependencyEdge, ...] = ()
    learned_revision: int = 0
    # Built when they are first needed.
    _graph: list[DependencyGraph] = field(default_factory=list, compare=False, repr=False)
    _confirmed_graph: list[DependencyGraph] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, changes: CatalogChanges) -> Self:
        """Return the catalog that consists of these entries."""
        services = {stored.entry.name: stored for stored in changes.services}
        return cls(revision=changes.revision, epoch=changes.epoch, services=services)

    @property
    def version(self) -> str:
        """Return a text that differs between revisions and between databases."""
        return f"{self.epoch}.{self.revision}.{self.learned_revision}"

    @property
    def graph(self) -> DependencyGraph:
        """Return the dependencies of all entries, and the learned ones: to correlate and to explain."""
        if not self._graph:
            self._graph.append(DependencyGraph((*self._declared(), *self.edges)))
        return self._graph[0]

    @property
    def confirmed_graph(self) -> DependencyGraph:
        """Return what people declared or confirmed only: for decisions of which nobody is notified.

        Whoever may send events can make up traces, and so what is learned from them.
        """
        if not self._confirmed_graph:
            confirmed = (edge for edge in self.edges if edge.is_confirmed)
            self._confirmed_graph.append(DependencyGraph((*self._declared(), *confirmed)))
        return self._confirmed_graph[0]

    def entry_of(self, service: str) -> ServiceEntry | None:
        """Return the entry of a service, None where it is unknown."""
        stored = self.services.get(service)
        return None if stored is None else stored.entry

    def labels_of(self, service: str) -> Mapping[str, str]:
        """Return the labels that the alerts of a service take over; none where it is unknown."""
        entry = self.entry_of(service)
        return _NO_LABELS if entry is None else entry.labels

    def names(self) -> list[str]:
        """Return all names in the graph in their order: services with an entry, and those that others depend on."""
        return sorted(self.services.keys() | self.graph.names)

    def apply(self, changes: CatalogChanges) -> Self:
        """Return the catalog after entries were written."""
        services = {**self.services, **{stored.entry.name: stored for stored in changes.services}}
        return replace(self, revision=changes.revision, services=services, _graph=[], _confirmed_graph=[])

    def with_learned(self, learned: LearnedDependencies) -> Self:
        """Return the catalog with these learned dependencies in place of those that it has."""
        return replace(self, learned_revision=learned.revision, edges=learned.edges, _graph=[], _confirmed_graph=[])

    def _declared(self) -> Iterator[DependencyEdge]:
        for name, stored in self.services.items():
            for other in stored.entry.depends_on:
                yield DependencyEdge(service=name, depends_on=other)


def apply_entries(
    before: Mapping[str, StoredService], entries: Sequence[ServiceEntry], revision: int, *, now: datetime
) -> list[AppliedEntry]:
    """Return what becomes of each entry at a new revision; `before` has those of these names that are stored."""
    return [_apply(before.get(entry.name), entry, revision, now) for entry in entries]


def _apply(before: StoredService | None, entry: ServiceEntry, revision: int, now: datetime) -> AppliedEntry:
    if before is not None and before.entry == entry:
        return AppliedEntry(kind=CatalogChangeKind.UNCHANGED, stored=before)
    if before is None:
        stored = StoredService(entry=entry, revision=revision, create_time=now, update_time=now)
        return AppliedEntry(kind=CatalogChangeKind.CREATED, stored=stored)
    stored = replace(before, entry=entry, revision=revision, update_time=now)
    return AppliedEntry(kind=CatalogChangeKind.UPDATED, stored=stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogWarning:
    """Something that is allowed in an entry and may not be meant."""

    service: str
    field: str
    description: str


def catalog_warnings(catalog: Catalog, services: Sequence[str]) -> list[CatalogWarning]:
    """Return up to 100 warnings about these services: circles that they are in, and dependencies without an entry."""
    return list(islice(chain(_circle_warnings(catalog, services), _unknown_warnings(catalog, services)), _MAX_WARNINGS))


def _circle_warnings(catalog: Catalog, services: Sequence[str]) -> Iterator[CatalogWarning]:
    changed = frozenset(services)
    # A circle that only learned edges close is nothing that the entry says.
    graph = catalog.confirmed_graph
    for group in graph.circular_groups():
        if found := changed & group:
            circle = graph.circle(group, min(found))
            description = f"these services depend on each other in a circle: {' → '.join((*circle, circle[0]))}"
            yield CatalogWarning(service=circle[0], field="dependsOn", description=description)


def _unknown_warnings(catalog: Catalog, services: Sequence[str]) -> Iterator[CatalogWarning]:
    for name in services:
        for index, other in enumerate(catalog.services[name].entry.depends_on):
            if other not in catalog.services:
                description = f'"{other}" is not in the catalog; it stays unknown until it has an entry'
                yield CatalogWarning(service=name, field=f"dependsOn[{index}]", description=description)


def entry_problems(entry: ServiceEntry, places: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return everything that is not allowed in an entry, as fields named as in JSON and descriptions.

    `places` has where the caller has named each dependency.
    """
    return [
        *service_name_problems("name", entry.name),
        *length_problems("owner", entry.owner, _MAX_OWNER),
        *length_problems("tier", entry.tier, _MAX_TIER),
        *check_description(entry.description),
        *_check_links(entry.links),
        *check_labels(entry.labels),
        *_check_dependencies(entry, places),
    ]


def service_name_problems(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield what is not allowed in a service's name, which a field of this name has."""
    if not text.strip():
        yield name, "is required"
    elif len(text) > MAX_SERVICE:
        yield name, f"has {len(text)} characters, at most {MAX_SERVICE} are allowed"
    elif not text.isprintable():
        yield name, "must not contain control characters"


def length_problems(name: str, text: str, limit: int) -> Iterator[tuple[str, str]]:
    """Yield that a field's text has more characters than are allowed."""
    if len(text) > limit:
        yield name, f"has {len(text)} characters, at most {limit} are allowed"


def _check_links(links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if len(links) > _MAX_LINKS:
        yield "links", f"has {len(links)} entries, at most {_MAX_LINKS} are allowed"
    for name, address in links.items():
        if not 1 <= len(name) <= _MAX_LINK_NAME:
            yield (
                f"links[{shortened(name)}]",
                f"has a name of {len(name)} characters, 1 to {_MAX_LINK_NAME} are allowed",
            )
        if not is_link(address):
            yield f"links[{shortened(name)}]", expected(EXPECTED_LINK, address)


def _check_dependencies(entry: ServiceEntry, places: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    if len(entry.depends_on) > _MAX_DEPENDENCIES:
        yield "dependsOn", f"has {len(entry.depends_on)} entries, at most {_MAX_DEPENDENCIES} are allowed"
    for name in sorted(entry.depends_on, key=lambda name: places[name]):
        yield from service_name_problems(f"dependsOn[{places[name]}]", name)
        if name == entry.name and name:
            yield f"dependsOn[{places[name]}]", "a service does not depend on itself"
