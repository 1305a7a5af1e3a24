"""Why people were notified of an alert or an incident, or were not: what was recorded, in order and in words.

Nothing is decided anew. Each step is an entry of a history, or a field of the alert's row, and names what decided then:
a revision of a rule, a silence, an alert that inhibits, a route, a step of a policy, a breaker, a person. So an
explanation does not change when rules, routes or silences are edited afterwards. What retention has deleted is missing,
and the step says so.

An alert's explanation has the history of its incidents since it fired, but for what is about other alerts only, as
notifications are while it is withheld; an incident's has the rules and windows of its first alerts, the probable cause
before the others. Deliveries are recorded with the alert that a notification was about, and concern the whole incident:
they are given for all of its alerts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.incident import Incident, IncidentHistoryEntry
from services.manager.core.silence import Silence

# Of an incident, with their rules and windows.
MAX_EXPLAINED_ALERTS = 20
MAX_EXPLANATION_STEPS = 2000


class StepKind(StrEnum):
    """What a step is; the names are those of the contract, in the order of what happens at one moment."""

    RULE = "RULE"
    EVALUATED = "EVALUATED"
    FIRED = "FIRED"
    CORRELATED = "CORRELATED"
    CAUSE_CHANGED = "CAUSE_CHANGED"
    INCIDENT_CHANGED = "INCIDENT_CHANGED"
    WITHHELD = "WITHHELD"
    FLAPPING = "FLAPPING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    ESCALATED = "ESCALATED"
    NOTIFIED = "NOTIFIED"
    DELIVERED = "DELIVERED"
    DELIVERY_FAILED = "DELIVERY_FAILED"


class ReferenceKind(StrEnum):
    """What a step refers to; the names are those of the contract."""

    RULE = "RULE"
    ALERT = "ALERT"
    INCIDENT = "INCIDENT"
    SILENCE = "SILENCE"
    NOTIFICATION = "NOTIFICATION"
    TRACE = "TRACE"


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that a step is about."""

    kind: ReferenceKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationStep:
    """One thing that happened, and what decided it."""

    time: datetime
    kind: StepKind
    text: str
    decided_by: str = ""
    # Of a delivery.
    channel: str = ""
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What happened, the oldest step first, and who was notified."""

    summary: str
    steps: tuple[ExplanationStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRevision:
    """A rule as one revision of it says."""

    rule_id: str
    revision: int
    edit_time: datetime
    name: str
    scope: str
    filter: str
    condition: str
    threshold: float
    window: timedelta
    group_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedWindow:
    """What was counted in the window in which an alert fired; `numbers` by their names in conditions."""

    start: datetime
    end: datetime
    condition: str
    threshold: float
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedAlert:
    """An alert, and what is recorded of its evaluation."""

    alert: Alert
    history: Sequence[AlertHistoryEntry] = ()
    # The revisions by which it was judged, that of its firing first; those that are still stored.
    revisions: tuple[int, ...] = ()
    rules: Mapping[int, RuleRevision] = field(default_factory=dict)
    window: ExplainedWindow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedIncident:
    """An incident and its history."""

    incident: Incident
    history: Sequence[IncidentHistoryEntry] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationRecord:
    """All that an explanation is made of. `deliveries` are those of all alerts."""

    alerts: Sequence[ExplainedAlert] = ()
    incidents: Sequence[ExplainedIncident] = ()
    deliveries: Sequence[AlertHistoryEntry] = ()
    silences: Mapping[str, Silence] = field(default_factory=dict)
    # Alerts of other incidents, which inhibit.
    inhibiting: Sequence[Alert] = ()

    def name_of(self, alert_id: str) -> str:
        """Return an alert's rule and resource, as people name it; its id where it is not known."""
        for each in self.incidents:
            if found := each.incident.alerts.get(alert_id):
                return f'"{found.rule_name}" on {found.resource}'
        known = (*(each.alert for each in self.alerts), *self.inhibiting)
        if subject := {alert.id: alert.subject for alert in known}.get(alert_id):
            return f'"{subject.rule_name}" on {subject.resource}'
        return f"alert {alert_id}"


def explanation_of(steps: Sequence[ExplanationStep]) -> Explanation:
    """Return the steps in their order, each once, the newest of very many, and a summary."""
    order = {kind: place for place, kind in enumerate(StepKind)}
    # That nobody was reached is why others are notified at that moment.
    ordered = sorted(
        dict.fromkeys(steps),
        key=lambda step: (step.time, bool(step.channel) or step.kind is not StepKind.DELIVERY_FAILED, order[step.kind]),
    )[-MAX_EXPLANATION_STEPS:]
    return Explanation(summary=_summary(ordered), steps=tuple(ordered))


def _summary(steps: Sequence[ExplanationStep]) -> str:
    """Say who was notified; or why nobody was, as the last step says that withheld it."""
    delivered = _channels(steps, StepKind.DELIVERED)
    failed = [name for name in _channels(steps, StepKind.DELIVERY_FAILED) if name not in delivered]
    sentences = []
    if delivered:
        sentences.append(f"Notified: {', '.join(delivered)}.")
    if failed:
        sentences.append(f"Not delivered: {', '.join(failed)}.")
    return " ".join(sentences) or _why_nobody(steps)


def _why_nobody(steps: Sequence[ExplanationStep]) -> str:
    last = next((step for step in reversed(steps) if step.kind in {StepKind.WITHHELD, StepKind.NOTIFIED}), None)
    if last is None:
        return "Nobody has been notified: no notification is recorded."
    if last.kind is StepKind.NOTIFIED:
        return f"Nobody has been notified yet: no delivery is recorded. {last.text}"
    return f"Nobody was notified. {last.text}"


def _channels(steps: Sequence[ExplanationStep], kind: StepKind) -> list[str]:
    return list(dict.fromkeys(step.channel for step in steps if step.kind is kind and step.channel))
