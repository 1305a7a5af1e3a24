"""Routing trees for tests."""

from datetime import UTC, datetime
from typing import Any

from services.domain.matchers import LabelMatcher, parse_matchers
from services.manager.core.routing_tree import InhibitionRule, RouteNode, RoutingTree, StoredTree
from services.rule_language.label_regex import compile_regex


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
