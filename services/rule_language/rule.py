"""A rule as a value: what a client may leave out, what its type presets, and what is not allowed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import IntEnum
from typing import Any

from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT
from services.rule_language import restrictions
from services.rule_language.checking import Expression, check_condition, check_filter, reads_total

DEFAULT_LATENESS = timedelta(seconds=30)
DEFAULT_GROUP_BY = ("service",)
DEFAULT_VALUE_FIELD = "response_time"


class RuleType(IntEnum):
    """The type of a rule, which presets what the rule leaves out; the numbers are those of the contract."""

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
    # A number that is none of them is refused.
    type: RuleType | int | None = None
    scope: str = ""
    filter: str = ""
    group_by: Sequence[str] = ()
    value_field: str = ""
    condition: str = ""
    threshold: float | None = None
    # How long a window is, in one of two forms; minutes take precedence.
    window_minutes: int | None = None
    window: timedelta | None = None
    lateness: timedelta | None = None
    severity: Severity | int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    enabled: bool | None = None
    revision: int = 0
    selection_revision: int = 0
    tenant: str = SOLE_TENANT


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
    # Only whose events it selects.
    tenant: str = SOLE_TENANT


@dataclass(frozen=True, slots=True)
class RuleProblem:
    """What is not allowed, and in which field, named as in JSON ("windowMinutes", "groupBy[1]")."""

    field: str
    description: str


class RuleError(ValueError):
    """A rule is not allowed."""

    def __init__(self, problems: Sequence[RuleProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.description}" for problem in problems))
        self.problems = tuple(problems)


def complete(draft: Draft, *, is_stored: bool = False) -> Rule:
    """Return the rule with presets filled in; raise RuleError with every problem when it is not allowed.

    A stored rule may be older than a restriction that only concerns what is written now.
    """
    if problems_found := problems(draft, is_stored=is_stored):
        raise RuleError(problems_found)
    filled: Any = _with_presets(draft)
    kept = {each.name: getattr(filled, each.name) for each in fields(Rule)}
    minutes = filled.window_minutes
    window = filled.window if minutes is None else timedelta(minutes=minutes)
    return Rule(**{**kept, "threshold": float(filled.threshold), "window": window})


def problems(draft: Draft, *, is_stored: bool = False) -> list[RuleProblem]:
    """Return everything that is not allowed, in the order of the contract's fields."""
    filled = _with_presets(draft)
    written = () if is_stored else restrictions.check_reserved_labels(filled.labels)
    return [RuleProblem(name, description) for name, description in (*_all_problems(filled), *written)]


def draft_of(rule: Rule) -> Draft:
    """Return the rule as a client could have written it, to change it and `complete` it again."""
    return Draft(**{each.name: getattr(rule, each.name) for each in fields(Rule)})


def changes_selection(old: Rule, new: Rule) -> bool:
    """Whether the new rule selects or groups differently, so that the old counts cannot be used for it.

    A condition that reads totals, where the old one read none, changes the selection too: they were not counted.
    """
    return _selection(old) != _selection(new) or _reads_total(old) < _reads_total(new)


def _with_presets(draft: Draft) -> Draft:
    """Return the draft with all presets and defaults filled in."""
    preset = draft.type if isinstance(draft.type, RuleType) else RuleType.CUSTOM
    filter_, condition = PRESETS.get(preset, ("", ""))
    return replace(
        draft,
        scope=_text(draft.scope),
        filter=_text(draft.filter) or filter_,
        condition=_text(draft.condition) or condition,
        group_by=tuple(draft.group_by) or DEFAULT_GROUP_BY,
        value_field=draft.value_field or DEFAULT_VALUE_FIELD,
        lateness=DEFAULT_LATENESS if draft.lateness is None else draft.lateness,
        labels=dict(draft.labels),
        enabled=draft.enabled is not False,
    )


def _text(text: str) -> str:
    """Return the text unchanged, because diagnostics count its columns; an empty string when it is blank."""
    return text if text.strip() else ""


def _all_problems(draft: Draft) -> Iterator[tuple[str, str]]:
    is_custom = draft.type is RuleType.CUSTOM
    yield from restrictions.check_name(draft.name)
    yield from restrictions.check_description(draft.description)
    yield from restrictions.check_choice("type", draft.type, RuleType)
    yield from restrictions.check_expression("scope", draft.scope, check_filter, required=False)
    yield from restrictions.check_expression("filter", draft.filter, check_filter, required=is_custom)
    yield from restrictions.check_grouping(draft.group_by)
    yield from restrictions.check_value_field(draft.value_field)
    yield from restrictions.check_expression("condition", draft.condition, check_condition, required=is_custom)
    yield from restrictions.check_threshold(draft.threshold)
    yield from restrictions.check_window(draft.window_minutes, draft.window)
    yield from restrictions.check_lateness(draft.lateness or timedelta(0))
    yield from restrictions.check_choice("severity", draft.severity, Severity)
    yield from restrictions.check_labels(draft.labels)


def _selection(rule: Rule) -> tuple[object, ...]:
    return _meaning(rule.scope), _meaning(rule.filter), rule.group_by, rule.value_field, rule.window


def _reads_total(rule: Rule) -> bool:
    return reads_total(check_condition(rule.condition))


def _meaning(text: str) -> Expression | None:
    return check_filter(text) if text else None
