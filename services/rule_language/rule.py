"""A rule as a value: what a client may leave out, what its type fills in, and what is not allowed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import IntEnum
from typing import Any

from services.domain.severity import Severity
from services.rule_language import restrictions
from services.rule_language.checking import Expression, check_condition, check_filter, reads_total

DEFAULT_LATENESS = timedelta(seconds=30)
DEFAULT_GROUP_BY = ("service",)
DEFAULT_VALUE_FIELD = "response_time"


class RuleType(IntEnum):
    """Which preset fills in what a rule leaves out; the numbers are those of the contract."""

    ERROR_THRESHOLD = 1
    LATENCY_THRESHOLD = 2
    ERROR_RATE = 3
    CUSTOM = 4


# Filter and condition of each type.
PRESETS: Mapping[RuleType, tuple[str, str]] = {
    RuleType.ERROR_THRESHOLD: ("level >= ERROR", "count > threshold"),
    RuleType.LATENCY_THRESHOLD: ("response_time > 2000.0", "count > threshold"),
    RuleType.ERROR_RATE: ("status_code >= 500", "count > threshold"),
    RuleType.CUSTOM: ("", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A rule as a client writes it: anything may be missing or wrong."""

    id: str = ""
    name: str = ""
    description: str = ""
    type: RuleType | None = None
    scope: str = ""
    filter: str = ""
    group_by: Sequence[str] = ()
    value_field: str = ""
    condition: str = ""
    threshold: float | None = None
    # How long a window is, in one of two ways; minutes go first.
    window_minutes: int | None = None
    window: timedelta | None = None
    lateness: timedelta | None = None
    severity: Severity | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    enabled: bool | None = None
    revision: int = 0
    selection_revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that can be evaluated: complete and allowed. `complete` makes it."""

    id: str
    name: str
    description: str
    type: RuleType
    scope: str
    filter: str
    group_by: tuple[str, ...]
    value_field: str
    condition: str
    threshold: float
    window: timedelta
    lateness: timedelta
    severity: Severity
    labels: Mapping[str, str]
    enabled: bool
    revision: int
    selection_revision: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not allowed, and in which field, named as in JSON ("windowMinutes", "groupBy[1]")."""

    field: str
    description: str


class RuleError(ValueError):
    """A rule is not allowed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.description}" for problem in problems))
        self.problems = tuple(problems)


def complete(draft: Draft) -> Rule:
    """Fill in what the type presets; RuleError with every problem when the rule is not allowed."""
    if found := problems(draft):
        raise RuleError(found)
    filled: Any = _filled(draft)
    kept = {one.name: getattr(filled, one.name) for one in fields(Rule)}
    minutes = filled.window_minutes
    window = filled.window if minutes is None else timedelta(minutes=minutes)
    return Rule(**{**kept, "threshold": float(filled.threshold), "window": window})


def problems(draft: Draft) -> list[Problem]:
    """Everything that is not allowed, in the order of the contract's fields; empty when the rule can be kept."""
    return [Problem(name, description) for name, description in _found(_filled(draft))]


def draft_of(rule: Rule) -> Draft:
    """Give the rule as a client could have written it, to change it and `complete` it again."""
    return Draft(**{one.name: getattr(rule, one.name) for one in fields(Rule)})


def starts_afresh(old: Rule, new: Rule) -> bool:
    """Whether the new rule selects or groups otherwise, so that what was counted means nothing for it.

    So it is for a condition that reads totals which were not counted for the old one.
    """
    return _selection(old) != _selection(new) or _reads_total(old) < _reads_total(new)


def _filled(draft: Draft) -> Draft:
    """The draft with everything in it that has a preset or a default."""
    filter_, condition = PRESETS.get(draft.type or RuleType.CUSTOM, ("", ""))
    return replace(
        draft,
        scope=_said(draft.scope),
        filter=_said(draft.filter) or filter_,
        condition=_said(draft.condition) or condition,
        group_by=tuple(draft.group_by) or DEFAULT_GROUP_BY,
        value_field=draft.value_field or DEFAULT_VALUE_FIELD,
        lateness=DEFAULT_LATENESS if draft.lateness is None else draft.lateness,
        labels=dict(draft.labels),
        enabled=draft.enabled is not False,
    )


def _said(text: str) -> str:
    """The text as it was written, because mistakes are counted in it; nothing when it is blank."""
    return text if text.strip() else ""


def _found(draft: Draft) -> Iterator[tuple[str, str]]:
    is_custom = draft.type is RuleType.CUSTOM
    yield from restrictions.in_name(draft.name)
    yield from restrictions.in_description(draft.description)
    yield from restrictions.in_choice("type", draft.type, [one.name for one in RuleType])
    yield from restrictions.in_expression("scope", draft.scope, check_filter, required=False)
    yield from restrictions.in_expression("filter", draft.filter, check_filter, required=is_custom)
    yield from restrictions.in_grouping(draft.group_by)
    yield from restrictions.in_value_field(draft.value_field)
    yield from restrictions.in_expression("condition", draft.condition, check_condition, required=is_custom)
    yield from restrictions.in_threshold(draft.threshold)
    yield from restrictions.in_window(draft.window_minutes, draft.window)
    yield from restrictions.in_lateness(draft.lateness or timedelta(0))
    yield from restrictions.in_choice("severity", draft.severity, [one.name for one in Severity])
    yield from restrictions.in_labels(draft.labels)


def _selection(rule: Rule) -> tuple[object, ...]:
    return _meaning(rule.scope), _meaning(rule.filter), rule.group_by, rule.value_field, rule.window


def _reads_total(rule: Rule) -> bool:
    return reads_total(check_condition(rule.condition))


def _meaning(text: str) -> Expression | None:
    return check_filter(text) if text else None
