"""One step of one group: into an alert, or out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from services.domain.fingerprint import digest, fingerprint
from services.domain.resource import resource_of
from services.domain.severity import Severity
from services.evaluator.core.pane import Totals
from services.evaluator.core.partial import Group, Sample
from services.evaluator.core.ruleset import ReadyRule
from services.rule_language.rule import Rule


class State(Enum):
    """Where a group went; the values are those of the contract."""

    FIRING = 1
    RESOLVED = 2


class Reason(Enum):
    """Why it went there."""

    CONDITION_MET = "condition_met"
    CONDITION_ENDED = "condition_ended"
    # Nothing of the group was selected any more.
    SILENT = "silent"
    RULE_ENDED = "rule_ended"
    # The rule was edited while the alert is open: it says so in the rule's new words.
    RULE_EDITED = "rule_edited"
    # Known from the state topic only.
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a rule saw in one window of one group."""

    start_ns: int
    end_ns: int
    count: int
    total: int
    sum: float
    avg: float | None
    min: float | None
    max: float | None
    condition: str
    threshold: float
    last_event_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step of a group. Its id is a function of what was decided, so deciding again gives the same step."""

    id: str
    state: State
    reason: Reason
    rule_id: str
    selection_revision: int
    rule_revision: int
    rule_name: str
    description: str
    severity: Severity
    resource: str
    group: Group
    group_fields: Mapping[str, str]
    labels: Mapping[str, str]
    fingerprint: str
    window: Window
    first_window_ns: int
    samples: tuple[Sample, ...]
    created_ns: int
    # The trace that it belongs to; not part of what was decided.
    traceparent: str = ""

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Orders the transitions of a rule's group by how far they are."""
        return self.selection_revision, self.window.start_ns, self.state.value, self.rule_revision


def window_of(ready: ReadyRule, start_ns: int, totals: Totals) -> Window:
    """Say what a rule saw in the window that starts there."""
    return Window(
        start_ns=start_ns,
        end_ns=start_ns + ready.window_ns,
        count=totals.counted,
        total=totals.total,
        sum=totals.sum,
        avg=totals.sum / totals.value_count if totals.value_count else None,
        min=totals.min,
        max=totals.max,
        condition=ready.rule.condition,
        threshold=ready.rule.threshold,
        last_event_ns=totals.last_event_ns,
    )


def firing(ready: ReadyRule, group: Group, window: Window, samples: tuple[Sample, ...], now_ns: int) -> Transition:
    """Begin an alert."""
    rule = ready.rule
    resource = resource_of(rule.group_by, group)
    return Transition(
        id=_id(rule.id, rule.selection_revision, group, window.start_ns, State.FIRING),
        state=State.FIRING,
        reason=Reason.CONDITION_MET,
        rule_id=rule.id,
        selection_revision=rule.selection_revision,
        rule_revision=rule.revision,
        rule_name=rule.name,
        description=rule.description,
        severity=rule.severity,
        resource=resource,
        group=group,
        group_fields=dict(zip(rule.group_by, group, strict=True)),
        labels=rule.labels,
        fingerprint=fingerprint(rule_id=rule.id, resource=resource, severity=rule.severity),
        window=window,
        first_window_ns=window.start_ns,
        samples=samples,
        created_ns=now_ns,
    )


def reworded(fired: Transition, rule: Rule, now_ns: int) -> Transition | None:
    """Say an open alert in the words of its edited rule; None when they are those that it was said in.

    It is a step of its own, named by the revision, about the same beginning: whoever hears of it sees by the severity
    whether people are to be told anew.
    """
    if (fired.severity, fired.rule_name, fired.description, fired.labels) == (
        rule.severity,
        rule.name,
        rule.description,
        rule.labels,
    ):
        return None
    return replace(
        fired,
        id=digest("transition", fired.id, str(rule.revision)),
        reason=Reason.RULE_EDITED,
        rule_revision=rule.revision,
        rule_name=rule.name,
        description=rule.description,
        severity=rule.severity,
        labels=rule.labels,
        fingerprint=fingerprint(rule_id=rule.id, resource=fired.resource, severity=rule.severity),
        created_ns=now_ns,
        traceparent="",
    )


def resolved(fired: Transition, window: Window, samples: tuple[Sample, ...], reason: Reason, now_ns: int) -> Transition:
    """End the alert that `fired` said last, in its words."""
    return Transition(
        id=_id(fired.rule_id, fired.selection_revision, fired.group, window.start_ns, State.RESOLVED),
        state=State.RESOLVED,
        reason=reason,
        rule_id=fired.rule_id,
        selection_revision=fired.selection_revision,
        rule_revision=fired.rule_revision,
        rule_name=fired.rule_name,
        description=fired.description,
        severity=fired.severity,
        resource=fired.resource,
        group=fired.group,
        group_fields=fired.group_fields,
        labels=fired.labels,
        fingerprint=fired.fingerprint,
        window=window,
        first_window_ns=fired.first_window_ns,
        samples=samples,
        created_ns=now_ns,
    )


def _id(rule_id: str, selection_revision: int, group: Group, start_ns: int, state: State) -> str:
    return digest("transition", rule_id, str(selection_revision), *group, str(start_ns), state.name)
