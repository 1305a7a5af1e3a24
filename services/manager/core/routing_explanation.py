"""Why an alert takes a route, and what inhibits it, in words."""

from collections.abc import Collection, Mapping

from services.domain.matchers import format_matchers, quote
from services.manager.core.routing_tree import InhibitionRule, RouteOutcome, RouteVisit

_MAX_SHOWN = 100


def route_reason(visit: RouteVisit, labels: Mapping[str, str]) -> str:
    """Return why a route did with an alert what it did."""
    if visit.failed is not None:
        value = labels.get(visit.failed.name)
        found = f"it is {_shown(value)}" if value else "there is no such label"
        return f"{visit.failed} does not hold: {found}"
    matched = "its matchers hold" if visit.node.matchers else "it takes every alert"
    if visit.outcome is RouteOutcome.PASSED_ON:
        reason = f"{matched}, and a route below takes the alert"
    else:
        reason = f"{matched}, and no route below takes the alert" if visit.node.routes else matched
    return f"{reason}; the routes behind it are tried as well" if visit.node.continues else reason


def inhibition_reason(rule: InhibitionRule, labels: Mapping[str, str], inhibiting: Collection[str]) -> str:
    """Return what inhibits an alert by a rule whose target it is, or what would."""
    missing = [name for name in rule.equal if not labels.get(name)]
    if missing:
        return f"nothing inhibits it: it has no label {', '.join(map(_shown, missing))}, which must be equal"
    if inhibiting:
        return f"inhibited by {len(inhibiting)} open alert{'s' if len(inhibiting) > 1 else ''}"
    same = "".join(f", {name}={quote(labels[name])}" for name in rule.equal)
    return f"an open alert with {format_matchers(rule.source)}{same} would inhibit it"


def _shown(text: str) -> str:
    return quote(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")
