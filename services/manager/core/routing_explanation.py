"""Why an alert takes a route, what inhibits it, and whom its escalation policy would notify, in words."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.domain.found_values import shortened
from services.domain.matchers import ALERTNAME, SERVICE, SEVERITY, format_matchers, quote
from services.domain.severity import Severity
from services.manager.core.dependency_graph import DependencyGraph
from services.manager.core.escalation_policy import StepOutcome, StepTargets
from services.manager.core.incident import IncidentAlert, WithheldReason, Withholding
from services.manager.core.inhibition import Inhibitors
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.routing_tree import AlertRoute, InhibitionRule, RouteOutcome, RouteVisit
from services.manager.core.silence_index import MatchedAlert

_MAX_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step of an escalation policy, and whom it would notify if nobody acknowledged."""

    # After the incident was first notified of.
    delay: timedelta
    targets: StepTargets


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


def dependency_inhibition(
    labels: Mapping[str, str],
    routes: Sequence[AlertRoute],
    open_alerts: Iterable[MatchedAlert],
    graph: DependencyGraph,
    *,
    now: datetime,
) -> Withholding | None:
    """Return which open alert inhibits one with these labels because its service depends on that one's."""
    sources = [_as_in_incidents(each.id, each.labels, now, silenced_by=each.silenced_by) for each in open_alerts]
    return Inhibitors(alerts=sources).inhibition_of(_as_in_incidents("", labels, now, routes=routes), graph)


def severity_of(labels: Mapping[str, str]) -> Severity:
    """Return the severity that labels name; the lowest one where they name none."""
    return Severity.__members__.get(labels.get(SEVERITY, ""), Severity.LOW)


def _as_in_incidents(
    alert_id: str,
    labels: Mapping[str, str],
    now: datetime,
    *,
    routes: Sequence[AlertRoute] = (),
    silenced_by: Sequence[str] = (),
) -> IncidentAlert:
    return IncidentAlert(
        id=alert_id,
        rule_name=labels.get(ALERTNAME, ""),
        service=labels.get(SERVICE, ""),
        resource="",
        severity=severity_of(labels),
        labels=labels,
        fire_time=now,
        routes=tuple(routes),
        withheld_by=tuple(Withholding(reason=WithheldReason.SILENCED, by=each) for each in silenced_by),
    )


def planned_steps(
    directory: OnCallDirectory, policy_name: str, *, severity: Severity, now: datetime
) -> list[PlannedStep]:
    """Return the first round of a policy's steps, as if the incident began now; none of an unknown policy."""
    policy = directory.policies.get(policy_name)
    steps: list[PlannedStep] = []
    following = policy.next_step(None) if policy else None
    moment, was_skipped = now, False
    while policy is not None and following is not None and following[0].round == 0:
        place, delay = following
        # After a step whose conditions do not hold the next one begins at once.
        moment += timedelta() if was_skipped else delay
        targets = directory.step_targets(policy, place.step, severity=severity, at=moment)
        steps.append(PlannedStep(delay=moment - now, targets=targets))
        was_skipped = targets.outcome is StepOutcome.SKIPPED
        following = policy.next_step(place)
    return steps


def _shown(text: str) -> str:
    return quote(shortened(text, _MAX_SHOWN))
