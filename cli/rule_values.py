"""Read a rule as people write it: lenient where that is harmless, and every problem in words, with its field."""

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor

from services.contract.timestamps import duration_of
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_FIELDS: Mapping[str, FieldDescriptor] = {
    name: field for field in AlertRule.DESCRIPTOR.fields for name in (field.json_name, field.name)
}
_LENGTH = ("window", "window_minutes")
_DURATION = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ENUMS = {"type": AlertRule.Type, "severity": AlertRule.Severity}
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRule:
    """What could be read of a rule, the proto names of the fields it sets, and what is wrong, by field."""

    rule: AlertRule
    fields: Sequence[str]
    problems: Sequence[tuple[str, str]]


class _ValueError(ValueError):
    """A value is not what its field takes; the text says what is expected and what was found."""


def read_rule(values: Any) -> ReadRule:
    """Read the values of a rule; what is wrong is left out of it."""
    rule, problems = AlertRule(), []
    if not isinstance(values, Mapping):
        return ReadRule(rule=rule, fields=(), problems=[("", _expected("a mapping with name, type, …", values))])
    fields = {str(name): _FIELDS[str(name)] for name in values if str(name) in _FIELDS}
    problems += [(str(name), _unknown(str(name))) for name in values if str(name) not in fields]
    problems += _doubled({name: field for name, field in fields.items() if values[name] is not None})
    for name, field in fields.items():
        # Nothing stands for a field without a value; what only the server sets is ignored.
        if values[name] is None or _is_output(field, besides="id"):
            continue
        try:
            _READERS[field.name](rule, values[name])
        except _ValueError as problem:
            problems.append((name, str(problem)))
        except UnicodeEncodeError:
            problems.append((name, "has characters that UTF-8 cannot hold"))
    settable = dict.fromkeys(field.name for field in fields.values() if not _is_output(field))
    return ReadRule(rule=rule, fields=list(settable), problems=problems)


def _is_output(field: FieldDescriptor, *, besides: str = "") -> bool:
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behavior and field.name != besides


def _unknown(name: str) -> str:
    similar = difflib.get_close_matches(name, _FIELDS, n=1)
    return "unknown field" + (f'; did you mean "{similar[0]}"?' if similar else "")


def _doubled(fields: Mapping[str, FieldDescriptor]) -> Iterator[tuple[str, str]]:
    """Yield what says the same thing twice."""
    names: dict[str, list[str]] = {}
    for name, field in fields.items():
        names.setdefault(field.name, []).append(name)
    for first, *others in names.values():
        if others:
            yield first, f"these names are of one field: {', '.join([first, *others])}"
    if all(length in names for length in _LENGTH):
        (window, *_), (minutes, *_) = (names[length] for length in _LENGTH)
        yield window, f"{window} and {minutes} both say how long a window is; give one of them"


def _text(rule: AlertRule, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _ValueError(_expected("a string", value))
    setattr(rule, name, str(value))


def _expression(rule: AlertRule, name: str, value: Any) -> None:
    # true and false are expressions.
    _text(rule, name, str(value).lower() if isinstance(value, bool) else value)


def _choice(rule: AlertRule, name: str, value: Any) -> None:
    choices = {each.name: each.number for each in _ENUMS[name].DESCRIPTOR.values if each.number}
    number = choices.get(re.sub("[ -]", "_", value.strip().upper())) if isinstance(value, str) else None
    if number is None:
        raise _ValueError(_expected(f"one of {', '.join(choices)}", value))
    setattr(rule, name, number)


def _grouping(rule: AlertRule, value: Any) -> None:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _ValueError(_expected("a list of fields such as [service, host]", value))
    rule.group_by.extend(names)


def _threshold(rule: AlertRule, value: Any) -> None:
    rule.threshold = _number(value, "a number")


def _minutes(rule: AlertRule, value: Any) -> None:
    expected = "a whole number of minutes such as 5 (with a unit, the field is window: 90s)"
    minutes = _number(value, expected)
    if minutes % 1 or not -(2**31) <= minutes < 2**31:
        raise _ValueError(_expected(expected, value))
    rule.window_minutes = int(minutes)


def _number(value: Any, expected: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _ValueError(_expected(expected, value))
    return number


def _duration(rule: AlertRule, name: str, value: Any) -> None:
    expected = "a duration with its unit, such as 90s, 2m or 1h30m"
    if not isinstance(value, str) or not _DURATION.fullmatch(text := value.replace(" ", "")):
        raise _ValueError(_expected(expected, value))
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    try:
        span = timedelta(seconds=-seconds if text.startswith("-") else seconds)
    except OverflowError:
        raise _ValueError(_expected(expected, value)) from None
    getattr(rule, name).CopyFrom(duration_of(span))


def _labels(rule: AlertRule, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _ValueError(_expected("names and values such as {team: payments}", value))
    texts = {str(key): _label(each) for key, each in value.items()}
    if wrong := [key for key, text in texts.items() if text is None]:
        raise _ValueError(f"label values are strings: {', '.join(wrong)}")
    rule.labels.update({key: text for key, text in texts.items() if text is not None})


def _label(value: Any) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case _:
            return None


def _enabled(rule: AlertRule, value: Any) -> None:
    if not isinstance(value, bool):
        raise _ValueError(_expected("true or false", value))
    rule.enabled = value


def _expected(what: str, found: Any) -> str:
    return f"expected {what}, found {_shown(found)}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f'"{value}"' if len(value) <= _MAX_SHOWN else f'"{value[:_MAX_SHOWN]}…"'
        case _:
            return str(value)[:_MAX_SHOWN]


def _named(read: Callable[[AlertRule, str, Any], None], name: str) -> Callable[[AlertRule, Any], None]:
    return lambda rule, value: read(rule, name, value)


# By proto name; what only the server sets is not read.
_READERS: Mapping[str, Callable[[AlertRule, Any], None]] = {
    **{name: _named(_text, name) for name in ("id", "etag", "name", "description", "value_field")},
    **{name: _named(_expression, name) for name in ("scope", "filter", "condition")},
    **{name: _named(_choice, name) for name in ("type", "severity")},
    **{name: _named(_duration, name) for name in ("window", "lateness")},
    "group_by": _grouping,
    "threshold": _threshold,
    "window_minutes": _minutes,
    "labels": _labels,
    "enabled": _enabled,
}
