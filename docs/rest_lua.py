"""What REST takes, as tables of Lua for Envoy's refusals: query parameters, fields of bodies, words of enums.

`make gen` writes envoy/methods.lua, which stack/envoy.py puts before envoy/refusals.lua.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from google.api import annotations_pb2, field_behavior_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from docs.rest_methods import SERVICES

_HEAD = """\
-- Written by `make gen` from proto/: what the bodies and queries of REST may have, by the names of JSON.

"""
_OF_THE_SERVER = field_behavior_pb2.OUTPUT_ONLY


def lua_tables() -> str:
    """Return envoy/methods.lua."""
    methods = [method for service in SERVICES for method in service.methods]
    messages: dict[str, str] = {}
    rows = [row for method in methods for row in _method_rows(method, messages)]
    enums: dict[str, str] = {}
    for method in methods:
        if method.GetOptions().HasExtension(annotations_pb2.http):
            _add_enums(method.input_type, enums, set())
    return (
        f"{_HEAD}-- The values of enums, by the last two parts of their names.\nlocal ENUM_VALUES = {{\n"
        + "".join(f'  ["{name}"] = "{values}",\n' for name, values in sorted(enums.items()))
        + "}\n\nlocal MESSAGES = {\n"
        + "".join(f'  ["{name}"] = {row},\n' for name, row in sorted(messages.items()))
        + "}\n\nlocal METHODS = {\n"
        + "".join(f"  {row},\n" for row in rows)
        + "}\n\n"
    )


def _method_rows(method: MethodDescriptor, messages: dict[str, str]) -> Iterator[str]:
    main = method.GetOptions().Extensions[annotations_pb2.http]
    for rule in [main, *main.additional_bindings]:
        if verb := rule.WhichOneof("pattern"):
            yield _row_of_path(method, rule, verb, messages)


def _row_of_path(method: MethodDescriptor, rule: http_pb2.HttpRule, verb: str, messages: dict[str, str]) -> str:
    path = getattr(rule, verb)
    in_path = {field.name for field in method.input_type.fields if f"{{{field.name}}}" in path}
    others = [field for field in method.input_type.fields if field.name not in in_path | {rule.body}]
    if rule.body == "*":
        body = _add(method.input_type, messages, in_path)
        others = []
    elif rule.body:
        body = _add(method.input_type.fields_by_name[rule.body].message_type, messages)
    else:
        body = ""
    return f'{{verb = "{verb.upper()}", path = "{_pattern(path)}", query = "{_names(others)}", body = "{body}"}}'


def _add(message: Descriptor, messages: dict[str, str], given: Collection[str] = ()) -> str:
    """Add the row of a message and of those in it, and return its name; what the path has is given."""
    name = message.full_name.partition(".v1.")[2]
    # What others define has a form of its own in JSON, and ingest reads its bodies itself.
    if not name or name in messages:
        return name
    fields = message.fields
    set_by_server = [field for field in fields if _is_set_by_the_server(field) or field.name in given]
    messages[name] = ""
    objects = [field for field in fields if _is_object(field) and field not in set_by_server]
    inner = {field: _add(field.message_type, messages) for field in objects}
    pairs = ", ".join(f'{each} = "{kind}"' for field, kind in inner.items() if kind for each in _spellings(field))
    settable = _names(field for field in fields if field not in set_by_server)
    messages[name] = f'{{settable = "{settable}", of_the_server = "{_names(set_by_server)}", inner = {{{pairs}}}}}'
    return name


def _add_enums(message: Descriptor, enums: dict[str, str], seen: set[str]) -> None:
    """Add the enums of our own that a message takes, also in messages within it; a message is looked at once."""
    if message.full_name in seen or not message.full_name.startswith("tocsin."):
        return
    seen.add(message.full_name)
    for field in message.fields:
        if field.enum_type is not None:
            name = ".".join(field.enum_type.full_name.split(".")[-2:])
            enums[name] = ", ".join(value.name for value in field.enum_type.values if value.number)
        if field.message_type is not None:
            _add_enums(field.message_type, enums, seen)


def _is_set_by_the_server(field: FieldDescriptor) -> bool:
    return _OF_THE_SERVER in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _is_object(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.message_type.GetOptions().map_entry


def _spellings(field: FieldDescriptor) -> list[str]:
    return list(dict.fromkeys([field.json_name, field.name]))


def _names(fields: Iterable[FieldDescriptor]) -> str:
    return " ".join(field.json_name for field in fields)


def _pattern(path: str) -> str:
    """Return the path as a pattern of Lua."""
    escaped = re.sub(r"[-.%]", r"%\g<0>", path)
    return "^" + re.sub(r"\{\w+\}", "[^/]+", escaped) + "$"
