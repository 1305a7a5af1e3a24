"""People, schedules and policies in YAML and JSON files, with the names of the REST interface."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration

from cli.document_files import load_values
from cli.file_values import FileValueError, is_output, span_of, text_of, unknown_field
from cli.output import ErrorDetail, OutputFormat
from services.contract.timestamps import duration_of
from services.domain.found_values import expected, unknown_name
from tocsin.oncall.v1.escalation_policy_pb2 import EscalationPolicy
from tocsin.oncall.v1.on_call_service_pb2 import ApplyOnCallRequest
from tocsin.oncall.v1.schedule_pb2 import Person, Schedule, WeeklyHours

OnCallMessage = Person | Schedule | EscalationPolicy
# By the keys of a file, which are fields of the request too.
KINDS: Mapping[str, type[OnCallMessage]] = {"people": Person, "schedules": Schedule, "policies": EscalationPolicy}
NOUNS: Mapping[str, str] = {"people": "person", "schedules": "schedule", "policies": "policy"}
_NOT_WRITTEN = frozenset({"etag", "createTime", "updateTime"})
_DEFAULT_ZONE = "UTC"
_DEFAULT_REPEAT_S = 300
_MINUTES_OF_DAY = 24 * 60
_TIMES_OF_DAY = (WeeklyHours.DESCRIPTOR.fields_by_name["start"], WeeklyHours.DESCRIPTOR.fields_by_name["end"])
_PLACE = re.compile(r"(people|schedules|policies)\[(\d+)\]\.?(.*)")


@dataclass(slots=True, kw_only=True)
class FileResource:
    """A person, schedule or policy of a file, its place there, and what cannot be read of it, by field."""

    key: str
    place: str
    message: OnCallMessage
    problems: list[tuple[str, str]] = field(default_factory=list)

    def detail(self, name: str, description: str) -> ErrorDetail:
        """Return what is wrong with a field of it."""
        place = f"{self.place}.{name}" if name else self.place
        return ErrorDetail(field=place, rule=self.message.name, description=description)


def load_resources(paths: Sequence[Path], output: OutputFormat) -> tuple[list[FileResource], list[ErrorDetail]]:
    """Load what files have, and what of their outermost values cannot be read.

    A file that is not YAML, or has nothing, ends the command with exit code 2.
    """
    resources: list[FileResource] = []
    problems: list[ErrorDetail] = []
    for path in paths:
        prefix = "" if len(paths) == 1 else f"{path}: "
        for value in load_values(path, output, key="", noun="person, schedule or policy", text_mappings=()):
            found, wrong = read_document(value, prefix)
            resources += found
            problems += wrong
    return resources, problems


def read_document(value: Any, prefix: str = "") -> tuple[list[FileResource], list[ErrorDetail]]:
    """Read a mapping with people, schedules and policies, and what of it cannot be read."""
    if not isinstance(value, Mapping):
        wanted = expected("a mapping with people, schedules or policies", value)
        return [], [ErrorDetail(field=f"{prefix}the file", description=wanted)]
    resources: list[FileResource] = []
    problems: list[ErrorDetail] = []
    for key, values in ((str(key), values) for key, values in value.items()):
        if key not in KINDS:
            problems.append(ErrorDetail(field=f"{prefix}{key}", description=unknown_name(key, list(KINDS))))
        elif values is not None and not isinstance(values, list):
            problems.append(ErrorDetail(field=f"{prefix}{key}", description=expected("a list", values)))
        else:
            resources += (_resource(key, f"{prefix}{key}[{n}]", each) for n, each in enumerate(values or []))
    return resources, problems


def request_of(resources: Sequence[FileResource]) -> ApplyOnCallRequest:
    """Return the request that applies these."""
    request = ApplyOnCallRequest()
    for each in resources:
        getattr(request, each.key).append(each.message)
    return request


def place_of(name: str, resources: Sequence[FileResource]) -> tuple[FileResource | None, str]:
    """Return the resource that a field of the request is of, and the field in it."""
    match = _PLACE.fullmatch(name)
    if match is None:
        return None, name
    return [each for each in resources if each.key == match[1]][int(match[2])], match[3]


def written_document(message: OnCallMessage) -> dict[str, Any]:
    """Return what people write of a resource, as a file has it."""
    document = json_format.MessageToDict(message)
    return {name: value for name, value in document.items() if name not in _NOT_WRITTEN}


def normalized(message: OnCallMessage) -> OnCallMessage:
    """Return a resource with what the server sets where it says nothing, to compare it with a stored one."""
    copy = type(message)()
    copy.CopyFrom(message)  # type: ignore[arg-type]  # both are of one type
    match copy:
        case Person():
            copy.time_zone = copy.time_zone or _DEFAULT_ZONE
        case Schedule():
            for layer in copy.layers:
                layer.start_time, layer.end_time = _wall_time(layer.start_time), _wall_time(layer.end_time)
        case EscalationPolicy():
            if not copy.HasField("repeat_delay"):
                copy.repeat_delay.seconds = _DEFAULT_REPEAT_S
            for step in copy.steps:
                step.delay.SetInParent()
                step.time_zone = step.time_zone or (_DEFAULT_ZONE if step.hours else "")
    return copy


def _wall_time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return text


def _resource(key: str, place: str, value: Any) -> FileResource:
    resource = FileResource(key=key, place=place, message=KINDS[key]())
    _read(value, resource.message, "", resource.problems)
    return resource


def _read(values: Any, message: Any, place: str, found: list[tuple[str, str]]) -> None:
    """Set the fields of a message; what is wrong is left out of it."""
    if not isinstance(values, Mapping):
        found.append((place, expected("a mapping", values)))
        return
    fields = {name: each for each in message.DESCRIPTOR.fields for name in (each.json_name, each.name)}
    given: dict[str, str] = {}
    for name, value in ((str(name), value) for name, value in values.items()):
        at = f"{place}.{name}" if place else name
        known = fields.get(name)
        if known is None:
            found.append((at, unknown_field(name, type(message))))
        elif (first := given.setdefault(known.name, name)) != name:
            found.append((at, f"these names are of one field: {first}, {name}"))
        elif value is not None and not is_output(known):
            _set(message, known, value, at, found)


def _set(message: Any, known: FieldDescriptor, value: Any, place: str, found: list[tuple[str, str]]) -> None:
    try:
        if known.message_type is not None and known.message_type.full_name == Duration.DESCRIPTOR.full_name:
            getattr(message, known.name).CopyFrom(duration_of(span_of(value)))
        elif known.message_type is not None:
            for n, each in enumerate(_items(value)):
                _read(each, getattr(message, known.name).add(), f"{place}[{n}]", found)
        elif known.is_repeated:
            values = _items(value) if isinstance(value, list) else [value]
            getattr(message, known.name).extend([_scalar(known, each) for each in values])
        else:
            setattr(message, known.name, _scalar(known, value))
    except FileValueError as problem:
        found.append((place, str(problem)))
    except UnicodeEncodeError:
        found.append((place, "has characters that UTF-8 cannot hold"))


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FileValueError(expected("a list", value))
    return value


def _scalar(known: FieldDescriptor, value: Any) -> Any:
    if known.enum_type is not None:
        numbers = {each.name: each.number for each in known.enum_type.values if each.number}
        number = numbers.get(value.strip().upper()) if isinstance(value, str) else None
        if number is None:
            raise FileValueError(expected(f"one of {', '.join(numbers)}", value))
        return number
    if known.type == known.TYPE_BOOL:
        if not isinstance(value, bool):
            raise FileValueError(expected("true or false", value))
        return value
    if known.type == known.TYPE_INT32:
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
            raise FileValueError(expected("a whole number such as 3", value))
        return value
    return _text(known, value)


def _text(known: FieldDescriptor, value: Any) -> str:
    """Return a text. YAML reads a time without quotes as a date, and 22:00 as the number of its minutes."""
    if isinstance(value, date):
        return value.isoformat()
    is_time_of_day = known in _TIMES_OF_DAY
    if is_time_of_day and isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MINUTES_OF_DAY:
        return f"{value // 60:02}:{value % 60:02}"
    return text_of(value)
