"""What is not allowed in a routing tree, and what is allowed and may not be meant.

A problem names a field of the tree as JSON has it, such as `root.routes[0].receivers[1]`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta

from services.domain.found_values import shortened
from services.domain.matchers import MAX_LABEL_NAME, MAX_MATCHERS, SEVERITY, quote
from services.domain.severity import Severity
from services.manager.core.routing_tree import AlertRoute, InhibitionRule, RouteNode, RoutingTree

_MAX_DEPTH = 8
# Of the whole tree.
_MAX_ROUTES = 1000
_MAX_TREE_MATCHERS = 5000
# Each takes memory that a plain matcher does not.
_MAX_TREE_REGEXES = 1000
_MAX_RECEIVERS = 20
_MAX_CORRELATION_LABELS = 8
_MAX_INHIBITION_RULES = 200
_MAX_EQUAL_LABELS = 16
_MAX_WARNINGS = 100
_MIN_WINDOW, _MAX_WINDOW = timedelta(seconds=1), timedelta(hours=24)
_MIN_INTERVAL, _MAX_INTERVAL = timedelta(seconds=10), timedelta(hours=24)
_MAX_NAMES_SHOWN = 10
# As the notifier's file has it.
_RECEIVER = re.compile(r"[a-z][a-z0-9_-]{0,62}")

SEVERITY_NAMES = "LOW, MEDIUM, HIGH or CRITICAL"

RoutingProblem = tuple[str, str]


def routing_problems(
    tree: RoutingTree, *, receivers: Collection[str] | None, policies: Collection[str]
) -> list[RoutingProblem]:
    """Return what is not allowed in a tree, each with its field.

    `receivers` are those that the notifier has, None when it could not be asked: then only their form is checked.
    """
    found = _size_problems(tree)
    if found:
        return found
    if tree.root.matchers:
        found.append(("root.matchers", "are not allowed: the root takes every alert"))
    if tree.root.continues:
        found.append(("root.continues", "is not allowed: no route is behind the root"))
    for node, route in tree.all_routes():
        field = field_of(route.path)
        found += _route_problems(field, node, route)
        found += _name_problems(field, node, receivers, policies)
    for index, rule in enumerate(tree.inhibition_rules):
        found += _rule_problems(f"inhibitionRules[{index}]", rule)
    return found


def routing_warnings(tree: RoutingTree) -> list[RoutingProblem]:
    """Return which routes no alert comes to, and which matchers hold of none; up to 100."""
    return [*_unreached_routes(tree), *_vain_matchers(tree)][:_MAX_WARNINGS]


def _unreached_routes(tree: RoutingTree) -> Iterator[RoutingProblem]:
    for node, route in tree.all_routes():
        taking = next((n for n, below in enumerate(node.routes) if not (below.matchers or below.continues)), None)
        if taking is not None and taking + 1 < len(node.routes):
            field = field_of(route.path)
            yield f"{field}.routes[{taking + 1}]", f"is never reached: {field}.routes[{taking}] takes every alert"


def _vain_matchers(tree: RoutingTree) -> Iterator[RoutingProblem]:
    """Yield the matchers of severities that no alert has, such as Prometheus' "critical"."""
    groups = [(f"{field_of(route.path)}.matchers", node.matchers) for node, route in tree.all_routes()]
    for index, rule in enumerate(tree.inhibition_rules):
        groups += [(f"inhibitionRules[{index}].source", rule.source), (f"inhibitionRules[{index}].target", rule.target)]
    for field, matchers in groups:
        for index, matcher in enumerate(matchers):
            if matcher.name == SEVERITY and not any(map(matcher.accepts, Severity.__members__)):
                yield f"{field}[{index}]", f"holds of no alert: its severity is {SEVERITY_NAMES}"


def field_of(path: str) -> str:
    """Return the field of a route, given its path: `root.routes[0]` of "root/0"."""
    first, *below = path.split("/")
    return "".join((first, *(f".routes[{index}]" for index in below)))


def _size_problems(tree: RoutingTree) -> list[RoutingProblem]:
    """Return why a tree is too large to be looked at further."""
    routes = list(tree.all_routes())
    rules = tree.inhibition_rules
    matchers = [matcher for node, _ in routes for matcher in node.matchers]
    matchers += [matcher for rule in rules for matcher in (*rule.source, *rule.target)]
    counts = (
        ("root", len(routes), _MAX_ROUTES, "routes"),
        ("root", len(matchers), _MAX_TREE_MATCHERS, "matchers"),
        ("root", sum(matcher.operator.is_regex for matcher in matchers), _MAX_TREE_REGEXES, "regular expressions"),
        ("inhibitionRules", len(rules), _MAX_INHIBITION_RULES, "rules"),
    )
    return [problem for field, count, limit, noun in counts for problem in _too_many(field, count, limit, noun)]


def _route_problems(field: str, node: RouteNode, route: AlertRoute) -> Iterator[RoutingProblem]:
    yield from _too_many(f"{field}.matchers", len(node.matchers), MAX_MATCHERS, "matchers")
    depth = route.path.count("/") + 1
    if depth == _MAX_DEPTH + 1:
        yield field, f"is on level {depth}, at most {_MAX_DEPTH} levels are allowed"
    takes_alerts = all(below.matchers for below in node.routes)
    if route.reaches_nobody and takes_alerts:
        yield f"{field}.receivers", "is required, or policy: an alert that takes this route would reach nobody"
    yield from _label_problems(f"{field}.correlation.labels", node.correlation_labels or (), _MAX_CORRELATION_LABELS)
    yield from _span_problems(f"{field}.correlation.window", node.correlation_window, _MIN_WINDOW, _MAX_WINDOW)
    yield from _span_problems(f"{field}.bundlingInterval", node.bundling_interval, _MIN_INTERVAL, _MAX_INTERVAL)


def _name_problems(
    field: str, node: RouteNode, receivers: Collection[str] | None, policies: Collection[str]
) -> Iterator[RoutingProblem]:
    names = node.receivers or ()
    yield from _too_many(f"{field}.receivers", len(names), _MAX_RECEIVERS, "receivers")
    for index, name in enumerate(names):
        place = f"{field}.receivers[{index}]"
        if name in names[:index]:
            yield place, f"{_quoted(name)} is there twice"
        elif receivers is not None and name not in receivers:
            yield place, f"the notifier has no receiver {_quoted(name)}; {_known(receivers)}"
        elif not _is_receiver_name(name):
            yield place, f"{_quoted(name)} must be lower-case letters, digits, - and _, at most 63"
    if node.policy and node.policy not in policies:
        yield f"{field}.policy", f"there is no escalation policy {_quoted(node.policy)}; {_known(policies)}"


def _rule_problems(field: str, rule: InhibitionRule) -> Iterator[RoutingProblem]:
    for name, matchers in (("source", rule.source), ("target", rule.target)):
        if not matchers:
            yield f"{field}.{name}", "is required: without matchers it would be every alert"
        yield from _too_many(f"{field}.{name}", len(matchers), MAX_MATCHERS, "matchers")
    yield from _label_problems(f"{field}.equal", rule.equal, _MAX_EQUAL_LABELS)


def _label_problems(field: str, names: Sequence[str], limit: int) -> Iterator[RoutingProblem]:
    yield from _too_many(field, len(names), limit, "labels")
    for index, name in enumerate(names):
        place = f"{field}[{index}]"
        if not name:
            yield place, "is empty"
        elif len(name) > MAX_LABEL_NAME:
            yield place, f"has {len(name)} characters, at most {MAX_LABEL_NAME} are allowed"
        elif name in names[:index]:
            yield place, f"{_quoted(name)} is there twice"


def _span_problems(
    field: str, span: timedelta | None, minimum: timedelta, maximum: timedelta
) -> Iterator[RoutingProblem]:
    if span is not None and not minimum <= span <= maximum:
        seconds = [f"{each.total_seconds():.15g}s" for each in (span, minimum, maximum)]
        yield field, f"is {seconds[0]}, must be {seconds[1]} to {seconds[2]}"


def _too_many(field: str, count: int, limit: int, noun: str) -> Iterator[RoutingProblem]:
    if count > limit:
        yield field, f"has {count} {noun}, at most {limit} are allowed"


def _is_receiver_name(name: str) -> bool:
    return _RECEIVER.fullmatch(name) is not None


def _known(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_MAX_NAMES_SHOWN])
    more = len(names) - _MAX_NAMES_SHOWN
    return f"there are {shown}{f' and {more} more' if more > 0 else ''}" if names else "there are none"


def _quoted(name: str) -> str:
    return quote(shortened(name))
