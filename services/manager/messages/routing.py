"""Routing trees as messages of the contract, and back."""

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.message import Message

from services.contract.timestamps import duration_of, timedelta_of
from services.domain.matchers import LabelMatcher, MatcherError, parse_matchers
from services.manager.core.routing_tree import InhibitionRule, RouteNode, RoutingTree
from services.rule_language.label_regex import compile_regex
from tocsin.routing.v1 import routing_tree_pb2


def routing_tree_message(tree: RoutingTree) -> routing_tree_pb2.RoutingTree:
    """Return a routing tree as clients see it and as it is stored."""
    return routing_tree_pb2.RoutingTree(
        root=_route_message(tree.root),
        inhibition_rules=[
            routing_tree_pb2.InhibitionRule(
                source=map(str, rule.source), target=map(str, rule.target), equal=rule.equal
            )
            for rule in tree.inhibition_rules
        ],
    )


def _route_message(node: RouteNode) -> routing_tree_pb2.Route:
    labels, window = node.correlation_labels, node.correlation_window
    correlation = None
    if labels is not None or window is not None:
        correlation = routing_tree_pb2.Correlation(
            labels=labels, without_labels=labels == (), window=None if window is None else duration_of(window)
        )
    return routing_tree_pb2.Route(
        matchers=map(str, node.matchers),
        receivers=node.receivers,
        without_receivers=node.receivers == (),
        policy=node.policy,
        continues=node.continues,
        correlation=correlation,
        bundling_interval=None if node.bundling_interval is None else duration_of(node.bundling_interval),
        inhibits_dependents=node.inhibits_dependents,
        routes=map(_route_message, node.routes),
    )


def read_routing_tree(message: routing_tree_pb2.RoutingTree) -> tuple[RoutingTree, list[tuple[str, str]]]:
    """Return the tree that a message holds, and what cannot be read of it, each with its field named as in JSON."""
    reader = _TreeReader()
    return reader.tree(message), reader.problems


class _TreeReader:
    """Reads a routing tree; `problems` has what could not be read."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def tree(self, message: routing_tree_pb2.RoutingTree) -> RoutingTree:
        rules = tuple(self._rule(f"inhibitionRules[{n}]", rule) for n, rule in enumerate(message.inhibition_rules))
        return RoutingTree(root=self._route("root", message.root), inhibition_rules=rules)

    def _rule(self, field: str, message: routing_tree_pb2.InhibitionRule) -> InhibitionRule:
        return InhibitionRule(
            source=self._matchers(f"{field}.source", message.source),
            target=self._matchers(f"{field}.target", message.target),
            equal=tuple(message.equal),
        )

    def _route(self, field: str, message: routing_tree_pb2.Route) -> RouteNode:
        correlation = message.correlation
        labels, without_labels = correlation.labels, correlation.without_labels
        return RouteNode(
            matchers=self._matchers(f"{field}.matchers", message.matchers),
            receivers=self._names(f"{field}.withoutReceivers", message.receivers, without=message.without_receivers),
            policy=message.policy if message.HasField("policy") else None,
            continues=message.continues,
            correlation_labels=self._names(f"{field}.correlation.withoutLabels", labels, without=without_labels),
            correlation_window=self._span(f"{field}.correlation.window", correlation, "window"),
            bundling_interval=self._span(f"{field}.bundlingInterval", message, "bundling_interval"),
            inhibits_dependents=message.inhibits_dependents if message.HasField("inhibits_dependents") else None,
            routes=tuple(self._route(f"{field}.routes[{n}]", below) for n, below in enumerate(message.routes)),
        )

    def _matchers(self, field: str, texts: Sequence[str]) -> tuple[LabelMatcher, ...]:
        matchers: list[LabelMatcher] = []
        for n, text in enumerate(texts):
            try:
                matchers += parse_matchers(text, compile_regex)
            except MatcherError as error:
                self.problems.append((f"{field}[{n}]", str(error)))
        return tuple(matchers)

    def _names(self, field: str, names: Sequence[str], *, without: bool) -> tuple[str, ...] | None:
        """Return names, none where the inherited ones are taken away, None where these stay."""
        if without and names:
            self.problems.append((field, "takes away what is inherited, so it does not go with names"))
        return tuple(names) if names or without else None

    def _span(self, field: str, message: Message, name: str) -> timedelta | None:
        if not message.HasField(name):
            return None
        try:
            return timedelta_of(getattr(message, name))
        except ValueError as error:
            self.problems.append((field, str(error)))
            return None
