"""Routing trees for tests."""

from datetime import UTC, datetime
from typing import Any

from services.domain.matchers import LabelMatcher, parse_matchers
from services.manager.adapters.notifier_client import ReceiversUnavailable
from services.manager.core.routing_tree import InhibitionRule, RouteNode, RoutingTree, StoredTree
from services.manager.ports.feeds import NotifierReceivers
from services.rule_language.label_regex import compile_regex
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryRoutingReader


def matchers(text: str) -> tuple[LabelMatcher, ...]:
    """Return the matchers of a text."""
    return parse_matchers(text, compile_regex)


def a_route(text: str = "", *routes: RouteNode, **changed: Any) -> RouteNode:
    """Return a route with these matchers and these routes below it."""
    return RouteNode(**({"matchers": matchers(text), "routes": routes} | changed))


def a_tree(*routes: RouteNode, rules: tuple[InhibitionRule, ...] = (), **root: Any) -> RoutingTree:
    """Return a tree whose root notifies the receiver "operators"."""
    return RoutingTree(root=a_route("", *routes, **({"receivers": ("operators",)} | root)), inhibition_rules=rules)


def a_stored_tree(tree: RoutingTree | None = None, version: int = 1, **changed: Any) -> StoredTree:
    """Return a version of a tree."""
    fields: dict[str, Any] = {
        "tree": a_tree() if tree is None else tree,
        "version": version,
        "author": "ann",
        "comment": "more routes",
        "create_time": datetime(2026, 11, 28, 12, tzinfo=UTC),
    }
    return StoredTree(**(fields | changed))


class MemoryRoutingFeed:
    """Reads the newest version each time."""

    def __init__(self, store: MemoryStore) -> None:
        self._reader = MemoryRoutingReader(store)
        self.current: StoredTree | None = None

    async def refresh(self) -> None:
        self.current = await self._reader.newest()


class FakeReceivers:
    """The notifier's receivers; None: it is away."""

    def __init__(self, *names: str, file_routes: RoutingTree | None = None) -> None:
        self.known: NotifierReceivers | None = NotifierReceivers(names=frozenset(names), file_routes=file_routes)
        self.asked = 0

    async def receivers(self) -> NotifierReceivers:
        self.asked += 1
        if self.known is None:
            raise ReceiversUnavailable("the notifier does not answer")
        return self.known
