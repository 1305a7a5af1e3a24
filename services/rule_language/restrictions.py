"""What each field of a rule may hold; every function yields all that is wrong, as (field, description)."""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum

from services.domain.matchers import RESERVED_LABELS
from services.rule_language.checking import Expression
from services.rule_language.diagnostics import ExpressionError
from services.rule_language.environment import EVENT_FIELDS

Problems = Iterator[tuple[str, str]]

MAX_NAME = 128
MAX_DESCRIPTION = 4096
MAX_GROUP_BY = 4
MAX_ATTRIBUTE = 128
MAX_MINUTES = 1440
MAX_WINDOW = timedelta(hours=24)
MAX_LATENESS = timedelta(hours=1)
MAX_LABELS = 16
MAX_LABEL_KEY = 64
MAX_LABEL_VALUE = 256

GROUPING_FIELDS = ("service", "level", "host", "status_code")
VALUE_FIELDS = ("response_time", "status_code")
ATTRIBUTE_PREFIX = "attributes."

_REQUIRED = "is required"
# Names of attributes are like those of fields by chance: user.tier like service.
_SIMILAR = 0.75


def check_name(name: str) -> Problems:
    """Require a name of 1 to 128 characters, not all of them blank."""
    if not name.strip():
        yield "name", _REQUIRED
    elif len(name) > MAX_NAME:
        yield "name", f"has {len(name)} characters, at most {MAX_NAME} are allowed"


def check_description(description: str) -> Problems:
    """Limit a description to 4096 characters."""
    if len(description) > MAX_DESCRIPTION:
        yield "description", f"has {len(description)} characters, at most {MAX_DESCRIPTION} are allowed"


def check_choice(field: str, chosen: int | None, choices: type[IntEnum]) -> Problems:
    """Require one of the choices."""
    if not isinstance(chosen, choices):
        found = "is required:" if chosen is None else f"found {chosen}, expected"
        yield field, f"{found} one of {', '.join(choices.__members__)}"


def check_expression(field: str, text: str, check: Callable[[str], Expression], *, required: bool) -> Problems:
    """Check an expression, if there is one; a required one may not be blank."""
    if not text.strip():
        if required:
            yield field, "is required: a rule of type CUSTOM has no preset for it"
        return
    try:
        check(text)
    except ExpressionError as error:
        yield field, str(error)


def check_grouping(group_by: Sequence[str]) -> Problems:
    """Limit the grouping to four different fields."""
    if len(group_by) > MAX_GROUP_BY:
        yield "groupBy", f"has {len(group_by)} fields, at most {MAX_GROUP_BY} are allowed"
    for index, name in enumerate(group_by):
        if not _is_allowed(name, GROUPING_FIELDS):
            yield f"groupBy[{index}]", _unknown_field(name, GROUPING_FIELDS)
        elif name in group_by[:index]:
            yield f"groupBy[{index}]", f'"{name}" is listed already'


def check_value_field(name: str) -> Problems:
    """Require a field that can hold a number."""
    if not _is_allowed(name, VALUE_FIELDS):
        yield "valueField", _unknown_field(name, VALUE_FIELDS)


def check_threshold(threshold: float | None) -> Problems:
    """Require a finite number of at least 0."""
    if threshold is None:
        yield "threshold", _REQUIRED
    elif not math.isfinite(threshold) or threshold < 0:
        yield "threshold", f"is {threshold:g}, must be finite and not negative"


def check_window(minutes: int | None, window: timedelta | None) -> Problems:
    """Require a length in one of two forms, up to a day."""
    if minutes is not None:
        if not 1 <= minutes <= MAX_MINUTES:
            yield "windowMinutes", f"is {minutes}, must be 1 to {MAX_MINUTES}"
    elif window is None:
        yield "windowMinutes", "is required, or window as a duration"
    elif not timedelta(seconds=1) <= window <= MAX_WINDOW or window % timedelta(seconds=1):
        yield "window", f"is {_seconds(window)}, must be whole seconds, 1s to {_seconds(MAX_WINDOW)}"


def check_lateness(lateness: timedelta) -> Problems:
    """Limit the lateness to an hour."""
    if not timedelta(0) <= lateness <= MAX_LATENESS:
        yield "lateness", f"is {_seconds(lateness)}, must be 0s to {_seconds(MAX_LATENESS)}"


def check_labels(labels: Mapping[str, str]) -> Problems:
    """Limit the labels to sixteen, with short keys and values."""
    if len(labels) > MAX_LABELS:
        yield "labels", f"has {len(labels)} entries, at most {MAX_LABELS} are allowed"
    for key, value in labels.items():
        if not 1 <= len(key) <= MAX_LABEL_KEY:
            yield f"labels[{key}]", f"has a key of {len(key)} characters, 1 to {MAX_LABEL_KEY} are allowed"
        if len(value) > MAX_LABEL_VALUE:
            yield f"labels[{key}]", f"has {len(value)} characters, at most {MAX_LABEL_VALUE} are allowed"


def check_reserved_labels(labels: Mapping[str, str]) -> Problems:
    """Refuse the labels that every alert has of itself."""
    for key in labels:
        if key in RESERVED_LABELS:
            yield f"labels[{key}]", f'"{key}" is set for each alert from the rule\'s own; choose another name'


def _is_allowed(name: str, fields: Sequence[str]) -> bool:
    key = name.removeprefix(ATTRIBUTE_PREFIX)
    return name in fields or (key != name and 1 <= len(key) <= MAX_ATTRIBUTE)


def _unknown_field(name: str, fields: Sequence[str]) -> str:
    similar = difflib.get_close_matches(name, fields, n=1, cutoff=_SIMILAR)
    may_be_attribute = name not in EVENT_FIELDS and _is_allowed(ATTRIBUTE_PREFIX + name, fields)
    meant = similar[0] if similar else ATTRIBUTE_PREFIX + name if may_be_attribute else ""
    hint = f'; did you mean "{meant}"?' if meant else ""
    if "," in name:
        hint = "; several fields are a list, as in [service, host]"
    return f'unknown field "{name}"; expected one of {", ".join(fields)}, {ATTRIBUTE_PREFIX}NAME{hint}'


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.15g}s"
