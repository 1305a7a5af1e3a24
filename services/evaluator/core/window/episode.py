"""Episodes: the steps of a group into an alert and out of it, and whether the alert is open between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.domain.fingerprint import digest, fingerprint
from services.evaluator.core.records import Group, Reason, Sample, State, Transition, Window
from services.evaluator.core.rules import ReadyRule
from services.evaluator.core.window.panes import Totals
from services.rule_language.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """The last step of a group, and the first window whose end has not been judged since."""

    last: Transition
    undecided_ns: int

    @classmethod
    def after(cls, transition: Transition) -> "Episode":
        """Go on from a step that has just been taken."""
        return cls(last=transition, undecided_ns=transition.window.start_ns)

    @property
    def is_open(self) -> bool:
        """Whether the alert is open."""
        return self.last.state is State.FIRING

    def held_through(self, next_ns: int) -> "Episode":
        """Go on with the next window: the alert stays open."""
        return Episode(last=self.last, undecided_ns=max(self.undecided_ns, next_ns))


def may_fire(episode: Episode | None, window_ns: int) -> bool:
    """Whether a window that meets the condition begins an alert.

    Not while one is open: it covers later windows, and earlier ones that come late. And not when the last one ended in
    that window or after it, so neither a replay nor a rule that is switched on again tells a window twice.
    """
    return episode is None or (not episode.is_open and window_ns > episode.last.window.start_ns)


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


def resource_of(group_by: Sequence[str], values: Sequence[str]) -> str:
    """The value itself for one field, "service=a,host=b" for several, "all" without grouping.

    Commas, equals signs and backslashes of several fields are escaped, so different groups never look the same.
    Raises ValueError when names and values are not of the same number.
    """
    if len(group_by) != len(values):
        raise ValueError(f"{len(group_by)} fields but {len(values)} values")
    if not group_by:
        return "all"
    if len(group_by) == 1:
        return values[0]
    return ",".join(f"{_escaped(name)}={_escaped(value)}" for name, value in zip(group_by, values, strict=True))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
