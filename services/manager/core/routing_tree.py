"""The routing tree: who is notified of an alert, as its labels decide, with the meaning that Alertmanager gives it.

An alert enters at the root. At a route whose matchers all hold it is passed to the routes below, in their order, until
one of them takes it; where that one says `continues`, those behind it are tried too. A route that takes an alert that
none of those below it takes is a route of this alert. So every alert has at least one route, and the root takes what no
other takes.

What a route does not say it inherits from the one above it. None stands for that; an empty value takes away what would
be inherited.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from services.domain.fingerprint import digest
from services.domain.matchers import LabelMatcher, all_match

ROOT_PATH = "root"
# The author of versions that were taken from the notifier's file.
FILE_AUTHOR = "notifier's file"

_Value = TypeVar("_Value")


class RouteOutcome(StrEnum):
    """What became of an alert at a route; the names are those of the contract."""

    # Its matchers do not all hold.
    NOT_MATCHED = "NOT_MATCHED"
    # Its matchers hold, and a route below it takes the alert.
    PASSED_ON = "PASSED_ON"
    # Its matchers hold, and none below it takes the alert: this is a route of the alert.
    TAKEN = "TAKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteNode:
    """A route as people write it, with those below it. None: inherited from the route above."""

    matchers: tuple[LabelMatcher, ...] = ()
    receivers: tuple[str, ...] | None = None
    # The name of an escalation policy; the empty one takes the inherited one away.
    policy: str | None = None
    # Whether an alert that this route takes is passed to those behind it as well; never inherited.
    continues: bool = False
    correlation_labels: tuple[str, ...] | None = None
    correlation_window: timedelta | None = None
    bundling_interval: timedelta | None = None
    # Whether an alert is inhibited while a service that its own depends on has an incident.
    inhibits_dependents: bool | None = None
    routes: tuple["RouteNode", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRoute:
    """A route with all that it inherits."""

    # Such as "root/0/2": the third route below the first one below the root.
    path: str
    receivers: tuple[str, ...] = ()
    # Empty: no escalation.
    policy: str = ""
    correlation_labels: tuple[str, ...] = ()
    correlation_window: timedelta = timedelta(minutes=10)
    bundling_interval: timedelta = timedelta(minutes=1)
    inhibits_dependents: bool = False

    @property
    def reaches_nobody(self) -> bool:
        """Return whether it names nobody who could be notified."""
        return not self.receivers and not self.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class InhibitionRule:
    """While an alert of the sources fires, nobody is notified of the targets that have the same values of labels."""

    source: tuple[LabelMatcher, ...]
    target: tuple[LabelMatcher, ...]
    # A label that an alert does not have is not equal to anything.
    equal: tuple[str, ...] = ()

    def inhibits(self, source: Mapping[str, str], target: Mapping[str, str]) -> bool:
        """Return whether an alert with the one labels inhibits one with the other, while it fires.

        As in Alertmanager two alerts that both are sources and targets do not inhibit each other.
        """
        if not (all_match(self.source, source) and all_match(self.target, target)):
            return False
        if all_match(self.source, target) and all_match(self.target, source):
            return False
        return all(target.get(name) and source.get(name) == target[name] for name in self.equal)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteVisit:
    """A route that an alert came to, and what became of the alert there."""

    route: AlertRoute
    node: RouteNode
    outcome: RouteOutcome
    # The first matcher that did not hold.
    failed: LabelMatcher | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTree:
    """All routes, and the inhibition rules."""

    root: RouteNode
    inhibition_rules: tuple[InhibitionRule, ...] = ()

    def routes_of(self, labels: Mapping[str, str]) -> tuple[AlertRoute, ...]:
        """Return the routes of an alert with these labels, at least one, in the order of the tree."""
        return tuple(_take(self.root, _NO_ROUTE, ROOT_PATH, labels, None))

    def visits_of(self, labels: Mapping[str, str]) -> tuple[RouteVisit, ...]:
        """Return each route that an alert with these labels comes to, in the order of the tree."""
        visits: list[RouteVisit] = []
        _take(self.root, _NO_ROUTE, ROOT_PATH, labels, visits.append)
        # A route is decided upon after those below it.
        return tuple(sorted(visits, key=lambda visit: _position(visit.route.path)))

    def all_routes(self) -> Iterator[tuple[RouteNode, AlertRoute]]:
        """Yield each route as it is written and with what it inherits, in the order of the tree."""
        yield from _descend(self.root, _inherit(self.root, _NO_ROUTE, ROOT_PATH))

    def correlation_label_sets(self) -> frozenset[tuple[str, ...]]:
        """Return the names by which routes correlate, without the empty ones."""
        return frozenset(route.correlation_labels for _, route in self.all_routes() if route.correlation_labels)

    def receivers(self) -> frozenset[str]:
        """Return all receivers that routes name."""
        return frozenset(name for node, _ in self.all_routes() for name in node.receivers or ())

    def policies(self) -> frozenset[str]:
        """Return all escalation policies that routes name."""
        return frozenset(node.policy for node, _ in self.all_routes() if node.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeVersion:
    """Who set a version of the tree, when and why."""

    # 1, 2, 3, …
    version: int
    author: str
    comment: str
    create_time: datetime

    @property
    def etag(self) -> str:
        """Return a text that differs between versions."""
        return digest("routing", str(self.version), self.create_time.isoformat())[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTree(TreeVersion):
    """A version with its tree."""

    tree: RoutingTree


# What the root inherits.
_NO_ROUTE = AlertRoute(path="")


def _take(
    node: RouteNode,
    above: AlertRoute,
    path: str,
    labels: Mapping[str, str],
    visit: Callable[[RouteVisit], None] | None,
) -> list[AlertRoute]:
    """Return the routes at and below a node that take an alert; none where its matchers do not hold."""
    failed = next((matcher for matcher in node.matchers if not matcher.matches(labels)), None)
    if failed is not None and visit is None:
        # Most routes of a large tree: what they inherit is not needed.
        return []
    route = _inherit(node, above, path)
    taken: list[AlertRoute] = []
    for index, below in enumerate(node.routes if failed is None else ()):
        found = _take(below, route, f"{path}/{index}", labels, visit)
        taken += found
        if found and not below.continues:
            break
    if visit is not None:
        visit(RouteVisit(route=route, node=node, outcome=_outcome(failed, taken), failed=failed))
    return (taken or [route]) if failed is None else []


def _outcome(failed: LabelMatcher | None, taken: Sequence[AlertRoute]) -> RouteOutcome:
    if failed is not None:
        return RouteOutcome.NOT_MATCHED
    return RouteOutcome.PASSED_ON if taken else RouteOutcome.TAKEN


def _descend(node: RouteNode, route: AlertRoute) -> Iterator[tuple[RouteNode, AlertRoute]]:
    yield node, route
    for index, below in enumerate(node.routes):
        yield from _descend(below, _inherit(below, route, f"{route.path}/{index}"))


def _inherit(node: RouteNode, above: AlertRoute, path: str) -> AlertRoute:
    return AlertRoute(
        path=path,
        receivers=_given(node.receivers, above.receivers),
        policy=_given(node.policy, above.policy),
        correlation_labels=_given(node.correlation_labels, above.correlation_labels),
        correlation_window=_given(node.correlation_window, above.correlation_window),
        bundling_interval=_given(node.bundling_interval, above.bundling_interval),
        inhibits_dependents=_given(node.inhibits_dependents, above.inhibits_dependents),
    )


def _given(value: _Value | None, inherited: _Value) -> _Value:
    return inherited if value is None else value


def _position(path: str) -> tuple[int, ...]:
    return tuple(map(int, path.split("/")[1:]))
