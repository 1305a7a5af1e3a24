"""Episodes: the transitions of a group into an alert and out of it.

An episode is one alert of one group: it begins with the window that first meets the condition, covers the following
windows as long as each meets it when it closes, and ends with the first one that does not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from services.domain.fingerprint import digest, fingerprint
from services.evaluator.core.partial_rows import ABSENT_NS
from services.evaluator.core.records import Group, Sample, Transition, TransitionReason, TransitionState, WindowResult
from services.evaluator.core.rules import CompiledRule
from services.rule_language.rule import Rule


class MergedAggregate(NamedTuple):
    """One pane's numbers, merged from all blocks."""

    counted: int = 0
    total: int = 0
    value_count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    last_event_ns: int | None = None

    @classmethod
    def of(cls, numbers: Mapping[str, Any]) -> "MergedAggregate":
        """Take the numbers of columns, in which an absent one is not a number."""
        least, greatest, last = numbers["min"], numbers["max"], numbers["last_event_ns"]
        return cls(
            counted=numbers["counted"],
            total=numbers["total"],
            value_count=numbers["value_count"],
            sum=numbers["sum"],
            min=None if math.isnan(least) else least,
            max=None if math.isnan(greatest) else greatest,
            last_event_ns=None if last == ABSENT_NS else last,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """The last transition of a group, and the first window since then that was not judged at its end."""

    last: Transition
    unjudged_ns: int

    @classmethod
    def after(cls, transition: Transition) -> "Episode":
        """Return the episode after a transition."""
        return cls(last=transition, unjudged_ns=transition.window.start_ns)

    @property
    def is_open(self) -> bool:
        """Whether the alert is open."""
        return self.last.state is TransitionState.FIRING

    def held_until(self, next_ns: int) -> "Episode":
        """Return the episode after windows whose condition held: the alert stays open."""
        return Episode(last=self.last, unjudged_ns=max(self.unjudged_ns, next_ns))


def may_fire(episode: Episode | None, window_ns: int) -> bool:
    """Whether a window that meets the condition begins an episode.

    Not while one is open: it covers later windows, and earlier ones that come late. Not when the last one ended in that
    window or after it either, so neither a replay nor a rule that is enabled again fires twice for one window.
    """
    return episode is None or (not episode.is_open and window_ns > episode.last.window.start_ns)


def window_result(compiled: CompiledRule, start_ns: int, merged: MergedAggregate) -> WindowResult:
    """Return what a rule saw in the window that starts there."""
    return WindowResult(
        start_ns=start_ns,
        end_ns=start_ns + compiled.window_ns,
        count=merged.counted,
        total=merged.total,
        sum=merged.sum,
        avg=merged.sum / merged.value_count if merged.value_count else None,
        min=merged.min,
        max=merged.max,
        condition=compiled.rule.condition,
        threshold=compiled.rule.threshold,
        last_event_ns=merged.last_event_ns,
    )


def fire(
    compiled: CompiledRule, group: Group, window: WindowResult, samples: tuple[Sample, ...], now_ns: int
) -> Transition:
    """Return the transition that begins an episode."""
    rule = compiled.rule
    resource = resource_of(rule.group_by, group)
    return Transition(
        id=_transition_id(rule.id, rule.selection_revision, group, window.start_ns, TransitionState.FIRING),
        state=TransitionState.FIRING,
        reason=TransitionReason.CONDITION_MET,
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
        tenant=rule.tenant,
    )


def apply_edit(fired: Transition, rule: Rule, now_ns: int) -> Transition | None:
    """Return an open alert with the name, labels and severity of its edited rule; None when these did not change.

    It is a transition of its own, identified by the revision, of the same episode: the manager decides by the severity
    whether people are notified again.
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
        reason=TransitionReason.RULE_EDITED,
        rule_revision=rule.revision,
        rule_name=rule.name,
        description=rule.description,
        severity=rule.severity,
        labels=rule.labels,
        fingerprint=fingerprint(rule_id=rule.id, resource=fired.resource, severity=rule.severity),
        created_ns=now_ns,
        traceparent="",
    )


def resolve(
    fired: Transition,
    window: WindowResult,
    samples: tuple[Sample, ...],
    reason: TransitionReason,
    now_ns: int,
    rule_revision: int = 0,
) -> Transition:
    """Return the transition that ends the episode of `fired`, with the same rule name, labels and severity.

    `rule_revision` is the one by which the window was judged, if one was.
    """
    return Transition(
        id=_transition_id(
            fired.rule_id, fired.selection_revision, fired.group, window.start_ns, TransitionState.RESOLVED
        ),
        state=TransitionState.RESOLVED,
        reason=reason,
        rule_id=fired.rule_id,
        selection_revision=fired.selection_revision,
        rule_revision=rule_revision or fired.rule_revision,
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
        tenant=fired.tenant,
    )


def _transition_id(rule_id: str, selection_revision: int, group: Group, start_ns: int, state: TransitionState) -> str:
    return digest("transition", rule_id, str(selection_revision), *group, str(start_ns), state.name)


def resource_of(group_by: Sequence[str], values: Sequence[str]) -> str:
    """Name a group: the value itself for one field, "service=a,host=b" for several, "all" without grouping.

    Commas, equals signs and backslashes of several fields are escaped, so different groups never have the same name.
    Raise ValueError when there are more or fewer names than values.
    """
    if len(group_by) != len(values):
        raise ValueError(f"{len(group_by)} fields but {len(values)} values")
    if not group_by:
        return "all"
    if len(group_by) == 1:
        return values[0]
    return ",".join(f"{_escape(name)}={_escape(value)}" for name, value in zip(group_by, values, strict=True))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
