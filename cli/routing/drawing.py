"""The routing tree in the terminal: as it is, and what becomes of an alert in it.

Matchers and names come from whoever sets the tree, labels from whoever asks: none has characters that a terminal obeys.
"""

from collections.abc import Iterable, Iterator, Mapping

from rich.text import Text

from cli.routing.tree_file import span_text
from services.chassis.printable import printable
from tocsin.routing.v1.routing_service_pb2 import ExplainedRoute, ExplainedStep, RoutingStep
from tocsin.routing.v1.routing_tree_pb2 import InhibitionRule, Route, RoutingTree

_OUTCOMES = {
    RoutingStep.NOT_MATCHED: ("✗", "not dim red"),
    RoutingStep.PASSED_ON: ("↓", "not dim cyan"),
    RoutingStep.TAKEN: ("✓", "not dim green"),
}


def routing_lines(tree: RoutingTree) -> Iterator[Text]:
    """Draw a tree, a route a line; what a route leaves out it inherits from the one above it."""
    yield from _draw(tree.root, "root", "", "")
    for rule in tree.inhibition_rules:
        yield Text(f"inhibition: {printable(rule_text(rule))}")


def rule_text(rule: InhibitionRule) -> str:
    """Return an inhibition rule as a sentence."""
    equal = f" with the same {', '.join(rule.equal)}" if rule.equal else ""
    return f"while {', '.join(rule.source)} fires, nobody is notified of {', '.join(rule.target)}{equal}"


def step_lines(steps: Iterable[RoutingStep]) -> Iterator[Text]:
    """Draw what became of an alert at each route that it came to."""
    for step in steps:
        mark, style = _OUTCOMES.get(step.outcome, ("?", "not dim"))
        line = Text("  " * step.path.count("/"))
        line.append(f"{mark} ", style=style)
        line.append(f"{printable(step.path)}  ", style="dim")
        line.append(printable(", ".join(step.matchers) or "every alert"))
        line.append(f"  {printable(step.reason)}", style="dim")
        yield line


def route_fields(route: ExplainedRoute) -> Mapping[str, object]:
    """Return what a route that takes an alert says, for people."""
    labels = ", ".join(route.correlation_labels)
    return {
        "Route": route.path,
        "Receivers": list(route.receivers),
        "Policy": route.policy,
        "Correlates": f"within {span_text(route.correlation_window)}{f', by {labels}' if labels else ''}",
        "Escalation": [_step_text(step) for step in route.escalation],
        "Bundled": f"every {span_text(route.bundling_interval)}",
        "Inhibited": "by what its service depends on" if route.inhibits_dependents else "",
    }


def _step_text(step: ExplainedStep) -> str:
    targets = ", ".join((*step.people, *step.receivers)) or "nobody"
    return f"after {span_text(step.delay)}: {targets} ({step.reason})"


def _draw(route: Route, name: str, indent: str, branch: str) -> Iterator[Text]:
    line = Text(indent + branch, style="dim")
    line.append(printable(name), style="not dim")
    for note in _notes(route):
        line.append(f"  {printable(note)}", style="not dim cyan" if note.startswith("→") else "dim")
    yield line
    below = indent + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
    for index, each in enumerate(route.routes):
        is_last = index + 1 == len(route.routes)
        yield from _draw(each, ", ".join(each.matchers) or "every alert", below, "└── " if is_last else "├── ")


def _notes(route: Route) -> Iterator[str]:
    targets = ["nobody at once"] if route.without_receivers else list(route.receivers)
    if route.HasField("policy"):
        targets.append(f"policy {route.policy}" if route.policy else "no policy")
    if targets:
        yield f"→ {', '.join(targets)}"
    if route.continues:
        yield "and those behind it"
    correlation = route.correlation
    if correlation.labels or correlation.without_labels:
        yield f"correlates by {', '.join(correlation.labels) or 'no labels'}"
    if correlation.HasField("window"):
        yield f"within {span_text(correlation.window)}"
    if route.HasField("bundling_interval"):
        yield f"bundled every {span_text(route.bundling_interval)}"
    if route.HasField("inhibits_dependents"):
        yield "inhibited by dependencies" if route.inhibits_dependents else "not inhibited by dependencies"
