"""Read a rule as people write it: lenient where that is harmless, and every problem in words, with its field."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from cli.file_values import FileValueError, is_output, mapping_of, span_of, text_of, unknown_field
from services.contract.timestamps import duration_of
from services.domain.found_values import expected
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_FIELDS: Mapping[str, FieldDescriptor] = {
    name: field for field in AlertRule.DESCRIPTOR.fields for name in (field.json_name, field.name)
}
_LENGTH = ("window", "window_minutes")
_ENUMS = {"type": AlertRule.Type, "severity": AlertRule.Severity}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRule:
    """What could be read of a rule, the proto names of the fields it sets, and what is wrong, by field."""

    rule: AlertRule
    fields: Sequence[str]
    problems: Sequence[tuple[str, str]]


def read_rule(values: Any) -> ReadRule:
    """Read the values of a rule; what is wrong is left out of it."""
    rule, problems = AlertRule(), []
    if not isinstance(values, Mapping):
        return ReadRule(rule=rule, fields=(), problems=[("", expected("a mapping with name, type, …", values))])
    fields = {str(name): _FIELDS[str(name)] for name in values if str(name) in _FIELDS}
    problems += [(str(name), unknown_field(str(name), AlertRule)) for name in values if str(name) not in fields]
    problems += _doubled({name: field for name, field in fields.items() if values[name] is not None})
    for name, field in fields.items():
        # Nothing stands for a field without a value; what only the server sets is ignored.
        if values[name] is None or (is_output(field) and field.name != "id"):
            continue
        try:
            _READERS[field.name](rule, values[name])
        except FileValueError as problem:
            problems.append((name, str(problem)))
        except UnicodeEncodeError:
            problems.append((name, "has characters that UTF-8 cannot hold"))
    settable = dict.fromkeys(field.name for field in fields.values() if not is_output(field))
    return ReadRule(rule=rule, fields=list(settable), problems=problems)


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
    setattr(rule, name, text_of(value))


def _expression(rule: AlertRule, name: str, value: Any) -> None:
    # true and false are expressions.
    _text(rule, name, str(value).lower() if isinstance(value, bool) else value)


def _choice(rule: AlertRule, name: str, value: Any) -> None:
    choices = {each.name: each.number for each in _ENUMS[name].DESCRIPTOR.values if each.number}
    number = choices.get(re.sub("[ -]", "_", value.strip().upper())) if isinstance(value, str) else None
    if number is None:
        raise FileValueError(expected(f"one of {', '.join(choices)}", value))
    setattr(rule, name, number)


def _grouping(rule: AlertRule, value: Any) -> None:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileValueError(expected("a list of fields such as [service, host]", value))
    rule.group_by.extend(names)


def _threshold(rule: AlertRule, value: Any) -> None:
    rule.threshold = _number(value, "a number")


def _minutes(rule: AlertRule, value: Any) -> None:
    wanted = "a whole number of minutes such as 5 (with a unit, the field is window: 90s)"
    minutes = _number(value, wanted)
    if minutes % 1 or not -(2**31) <= minutes < 2**31:
        raise FileValueError(expected(wanted, value))
    rule.window_minutes = int(minutes)


def _number(value: Any, wanted: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise FileValueError(expected(wanted, value))
    return number


def _duration(rule: AlertRule, name: str, value: Any) -> None:
    getattr(rule, name).CopyFrom(duration_of(span_of(value)))


def _labels(rule: AlertRule, value: Any) -> None:
    rule.labels.update(mapping_of(value, "label", "{team: payments}"))


def _enabled(rule: AlertRule, value: Any) -> None:
    if not isinstance(value, bool):
        raise FileValueError(expected("true or false", value))
    rule.enabled = value


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
