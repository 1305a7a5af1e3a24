"""What is allowed in a rule and surely not meant.

A warning is given only where it is certain: a rule that is never true never fires, whatever comes. So the analysis
looks at the ranges of fields and at what a conjunction demands of each, and says nothing where that does not decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from services.domain.event_fields import MAX_STATUS, MIN_STATUS
from services.domain.level import Level
from services.rule_language.checking import Expression, check_condition, check_filter, reads_total
from services.rule_language.possible_values import NumberRange, Ranges
from services.rule_language.rule import Rule
from services.rule_language.satisfiability import always_holds, can_hold, ranges_where

_INT_MAX = 2**63 - 1
_INF = float("inf")
# In shorter windows much of what belongs together lies on both sides of a border.
_SHORT_WINDOW = timedelta(minutes=1)

_EVENTS: Ranges = {
    "level": NumberRange(low=Level.TRACE.value, high=Level.FATAL.value),
    "status_code": NumberRange(low=MIN_STATUS, high=MAX_STATUS, may_be_absent=True),
    "response_time": NumberRange(low=0.0, high=_INF, may_be_absent=True),
}

_ALL = NumberRange(low=-_INF, high=_INF)

_EVENT_RANGES = (
    f"its parts exclude each other, or ask for a level outside of {Level.TRACE.name} to {Level.FATAL.name}, "
    f"a status_code outside of {MIN_STATUS} to {MAX_STATUS}, or a negative response_time"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWarning:
    """What is surely not meant, and in which field, named as in JSON."""

    field: str
    description: str


def find_warnings(rule: Rule) -> list[RuleWarning]:
    """Return what is allowed in a rule and surely not meant, in the order of the contract's fields."""
    condition = check_condition(rule.condition)
    of_condition = list(_condition_warnings(rule, condition))
    of_window = [] if of_condition else _window_warnings(rule, condition)
    return [*_selection_warnings(rule), *of_condition, *_threshold_warnings(rule, condition), *of_window]


def _selection_warnings(rule: Rule) -> Iterator[RuleWarning]:
    filter_ = check_filter(rule.filter).tree
    scope = check_filter(rule.scope).tree if rule.scope else None
    if scope is not None and not can_hold([scope], _EVENTS):
        yield RuleWarning(field="scope", description=f"no event can meet it: {_EVENT_RANGES}")
    elif not can_hold([filter_], _EVENTS):
        yield RuleWarning(field="filter", description=f"no event can meet it: {_EVENT_RANGES}")
    elif scope is not None and not can_hold([scope, filter_], _EVENTS):
        yield RuleWarning(field="filter", description="no event of the scope can meet it")


def _condition_warnings(rule: Rule, condition: Expression) -> Iterator[RuleWarning]:
    windows = _windows(rule)
    if not can_hold([condition.tree], _numbers(rule)):
        hint = "; rate is a share from 0 to 1: 0.05 is 5 %" if "rate" in condition.names else ""
        yield RuleWarning(field="condition", description=f"is never true, so the rule never fires{hint}")
    elif not can_hold([condition.tree], windows):
        description = f"is never true, so the rule never fires: it selects only events with {_bounds_of_values(rule)}"
        yield RuleWarning(field="condition", description=description)
    elif always_holds(condition.tree, windows):
        yield RuleWarning(field="condition", description="is always true, so each group fires with its first event")
    elif _values_always_meet(rule, condition):
        description = (
            f"is true with the first event that the rule selects: it selects only events with {_bounds_of_values(rule)}"
        )
        yield RuleWarning(field="condition", description=description)
    elif not rule.scope and not reads_total(condition) and _holds_only_when_empty(condition, windows):
        yield RuleWarning(
            field="condition",
            description="holds only where the filter selects nothing, and without a scope that is every group with "
            "other events; a group without any event is not seen. A scope says which events a group must have",
        )


def _threshold_warnings(rule: Rule, condition: Expression) -> Iterator[RuleWarning]:
    if rule.threshold and "threshold" not in condition.names:
        description = "the condition does not read it: write `threshold` there in place of a number, or 0 here"
        yield RuleWarning(field="threshold", description=description)
    elif not rule.threshold.is_integer() and always_holds(condition.tree, _windows(rule) | {"count": _at_least(1)}):
        description = "a count is an integer, so the first event meets the condition; a share is `rate > threshold`"
        yield RuleWarning(field="threshold", description=description)


def _window_warnings(rule: Rule, condition: Expression) -> Iterator[RuleWarning]:
    needs_several = not can_hold([condition.tree], _windows(rule) | {"count": _exactly(1)})
    if rule.window < _SHORT_WINDOW and needs_several and "count" in condition.names:
        seconds = rule.window // timedelta(seconds=1)
        yield RuleWarning(
            field="window",
            description=f"each window of {seconds} s begins to count at 0, so events on both sides of a border are "
            "counted apart; a longer window has fewer borders",
        )


def _holds_only_when_empty(condition: Expression, windows: Ranges) -> bool:
    return not can_hold([condition.tree], {**windows, "count": _at_least(1)})


def _values_always_meet(rule: Rule, condition: Expression) -> bool:
    """Return whether the condition holds of each window with an event, because of what the rule selects."""
    some = {"count": _at_least(1)}
    return always_holds(condition.tree, _numbers(rule) | some | _values(rule, is_empty=False)) and not always_holds(
        condition.tree, _numbers(rule) | some
    )


def _windows(rule: Rule) -> dict[str, NumberRange]:
    """Return what the numbers of a window can be, also of an empty one; the others can be anything."""
    return _numbers(rule) | _values(rule, is_empty=True)


def _values(rule: Rule, *, is_empty: bool) -> dict[str, NumberRange]:
    """Return what the numbers can be that the value field gives; `is_empty`: also where no event is selected.

    The rounding of sums is not followed: of the same value many times, the average may miss it by its last digit.
    """
    found = _value_range(rule)
    if found is None:
        return {}
    low, high, may_lack = float(found.low), float(found.high), found.may_be_absent or is_empty
    # A sum grows with each value that is not negative; without any it is 0.
    least = -_INF if low < 0 else 0.0 if may_lack else low
    greatest = _INF if high > 0 else 0.0 if may_lack else high
    each = NumberRange(low=low, high=high, may_be_absent=may_lack)
    return {"avg": each, "min": each, "max": each, "sum": NumberRange(low=least, high=greatest)}


def _value_range(rule: Rule) -> NumberRange | None:
    """Return what the value field of the selected events can be; None where nothing is known."""
    selection = [check_filter(text).tree for text in (rule.scope, rule.filter) if text]
    found = (ranges_where(selection, _EVENTS) or {}).get(rule.value_field)
    return found if isinstance(found, NumberRange) else None


def _bounds_of_values(rule: Rule) -> str:
    found = _value_range(rule) or _ALL
    bounds = [f"{words} {end}" for words, end in (_lower(found.low), _upper(found.high)) if end != "inf"]
    return f"a {rule.value_field} {' and '.join(bounds)}"


def _lower(number: float) -> tuple[str, str]:
    """Return a bound for people: of `> 2000` it is the next number above 2000."""
    shown = f"{number:.15g}"
    return "above" if float(shown) < number else "of at least", shown


def _upper(number: float) -> tuple[str, str]:
    shown = f"{number:.15g}"
    return "below" if float(shown) > number else "of at most", shown


def _numbers(rule: Rule) -> dict[str, NumberRange]:
    """Return what the numbers of a window can be that depend on no value."""
    return {
        "count": _at_least(0),
        "total": _at_least(0),
        "rate": NumberRange(low=0.0, high=1.0),
        "threshold": _exactly(rule.threshold),
    }


def _at_least(count: int) -> NumberRange:
    return NumberRange(low=count, high=_INT_MAX)


def _exactly(number: float) -> NumberRange:
    return NumberRange(low=number, high=number)
