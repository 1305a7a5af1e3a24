"""The OpenAPI 3.1 document of the REST interface: from the http options of the contracts, and from their comments.

Theory of operation. The descriptor set, with its source information, says all that is needed: messages become schemas
by the JSON mapping of proto3, rpcs with an http option become operations, and comments become descriptions. A field
that an http path names is a path parameter, the option's body names the request body, and what is left are query
parameters, as Envoy's transcoder reads them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.api import annotations_pb2, field_behavior_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

Json = dict[str, Any]

_SCALARS: Mapping[int, Json] = {
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64", "pattern": r"^-?\d+$"},
    FieldDescriptorProto.TYPE_UINT64: {"type": "string", "format": "uint64", "pattern": r"^\d+$"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "format": "byte"},
}
_WELL_KNOWN: Mapping[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"},
    ".google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, with commas between."},
    ".google.api.HttpBody": {},
}
_ERROR: Json = {
    "type": "object",
    "description": "Why a call was refused.",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "description": "The number of a gRPC status code."},
        "message": {"type": "string", "description": "What is wrong, in a sentence."},
        "details": {
            "type": "array",
            "description": "google.rpc messages: ErrorInfo with the reason, BadRequest with each wrong field.",
            "items": {"type": "object"},
        },
    },
}
_VARIABLE = re.compile(r"\{(\w+)\}")
_MESSAGE_FIELD, _MESSAGE_TYPE, _ENUM_FIELD, _FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 2, 3, 4, 4, 5, 6
_MESSAGE_ENUMS, _ENUM_VALUES, _SERVICE_METHODS = 4, 2, 2


def openapi_document(descriptors: FileDescriptorSet, version: str) -> Json:
    """Return the document of all rpcs with an http option, and of the messages that they use."""
    return _Writer([file for file in descriptors.file if file.package.startswith("tocsin.")]).document(version)


class _Writer:
    def __init__(self, files: list[FileDescriptorProto]) -> None:
        self._files = files
        self._comments: dict[str, str] = {}
        self._messages: dict[str, DescriptorProto] = {}
        self._enums: dict[str, EnumDescriptorProto] = {}
        self._schemas: dict[str, Json] = {}
        for file in files:
            self._index(file)

    def document(self, version: str) -> Json:
        paths: dict[str, Json] = {}
        tags: list[Json] = []
        for file in self._files:
            for service in file.service:
                name = f".{file.package}.{service.name}"
                operations = [each for method in service.method for each in self._operations(name, method)]
                for path, verb, operation in operations:
                    paths.setdefault(path, {})[verb] = operation
                if operations:
                    tags.append({"name": service.name, "description": self._comments.get(name, "")})
        return {
            "openapi": "3.1.0",
            "info": {"title": "Tocsin", "version": version, "description": "Alerting on log streams."},
            "tags": tags,
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": {"Error": _ERROR, **dict(sorted(self._schemas.items()))},
                "responses": {
                    "Error": {
                        "description": "The call was refused, or could not be answered.",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                    }
                },
            },
        }

    def _index(self, file: FileDescriptorProto) -> None:
        texts = {
            tuple(place.path): " ".join(place.leading_comments.split())
            for place in file.source_code_info.location
            if place.leading_comments
        }
        for at, message in enumerate(file.message_type):
            self._index_message(f".{file.package}", message, (_FILE_MESSAGES, at), texts)
        for at, enum in enumerate(file.enum_type):
            self._index_enum(f".{file.package}", enum, (_FILE_ENUMS, at), texts)
        for at, service in enumerate(file.service):
            name = f".{file.package}.{service.name}"
            self._comments[name] = texts.get((_FILE_SERVICES, at), "")
            for below, method in enumerate(service.method):
                path = (_FILE_SERVICES, at, _SERVICE_METHODS, below)
                self._comments[f"{name}.{method.name}"] = texts.get(path, "")

    def _index_message(
        self, scope: str, message: DescriptorProto, path: tuple[int, ...], texts: Mapping[tuple[int, ...], str]
    ) -> None:
        name = f"{scope}.{message.name}"
        self._messages[name] = message
        self._comments[name] = texts.get(path, "")
        for at, field in enumerate(message.field):
            self._comments[f"{name}.{field.name}"] = texts.get((*path, _MESSAGE_FIELD, at), "")
        for at, inner in enumerate(message.nested_type):
            self._index_message(name, inner, (*path, _MESSAGE_TYPE, at), texts)
        for at, enum in enumerate(message.enum_type):
            self._index_enum(name, enum, (*path, _MESSAGE_ENUMS, at), texts)

    def _index_enum(
        self, scope: str, enum: EnumDescriptorProto, path: tuple[int, ...], texts: Mapping[tuple[int, ...], str]
    ) -> None:
        name = f"{scope}.{enum.name}"
        self._enums[name] = enum
        values = [
            f"{value.name}: {texts.get((*path, _ENUM_VALUES, at), '')}"
            for at, value in enumerate(enum.value)
            if value.number
        ]
        self._comments[name] = "\n".join(filter(None, [texts.get(path, ""), *values]))

    def _operations(self, service: str, method: MethodDescriptorProto) -> Iterator[tuple[str, str, Json]]:
        rule = method.options.Extensions[annotations_pb2.http]
        for at, binding in enumerate([rule, *rule.additional_bindings]):
            verb = binding.WhichOneof("pattern")
            if verb is not None:
                suffix = f"_{at + 1}" if at else ""
                path = getattr(binding, verb)
                yield path, verb, self._operation(service, method, binding, path, suffix)

    def _operation(
        self, service: str, method: MethodDescriptorProto, rule: http_pb2.HttpRule, path: str, suffix: str
    ) -> Json:
        text = self._comments[f"{service}.{method.name}"]
        tag = service.rpartition(".")[2]
        operation: Json = {
            "operationId": f"{tag}_{method.name}{suffix}",
            "tags": [tag],
            "summary": re.match(r".*?[.:](?= |$)|.*", text)[0].rstrip(".:"),  # type: ignore[index]  # it always matches
            "description": text,
            "parameters": list(self._parameters(method.input_type, rule, path)),
            "responses": {
                "200": {"description": "Done.", "content": self._answer(method, rule.response_body)},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
        if rule.body:
            schema = self._body(method.input_type, rule, frozenset(_VARIABLE.findall(path)))
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        return operation

    def _parameters(self, message: str, rule: http_pb2.HttpRule, path: str) -> Iterator[Json]:
        variables = set(_VARIABLE.findall(path))
        for field in self._messages[message].field:
            described = {"description": self._comments[f"{message}.{field.name}"], "schema": self._field(field)}
            if field.name in variables:
                yield {"name": field.name, "in": "path", "required": True, **described}
            elif rule.body not in {"*", field.name}:
                is_required = field_behavior_pb2.REQUIRED in _behaviours(field)
                yield {"name": field.json_name, "in": "query", "required": is_required, **described}

    def _body(self, message: str, rule: http_pb2.HttpRule, in_path: frozenset[str]) -> Json:
        if rule.body == "*":
            # What stands in the path need not be in the body.
            return self._type(message) if not in_path else self._message(message, in_path)
        (field,) = [each for each in self._messages[message].field if each.name == rule.body]
        described = {"description": self._comments[f"{message}.{field.name}"]}
        schema = self._field(field)
        return {"allOf": [schema], **described} if "$ref" in schema else {**schema, **described}

    def _answer(self, method: MethodDescriptorProto, part: str) -> Json:
        fields = self._messages[method.output_type].field
        schema = next((self._field(field) for field in fields if field.name == part), None)
        if schema is None:
            schema = self._type(method.output_type)
        # Without a schema: a document of a type of its own, such as a calendar.
        if not schema:
            return {"*/*": {}}
        # Envoy writes a stream as an array that grows.
        return {
            "application/json": {"schema": {"type": "array", "items": schema} if method.server_streaming else schema}
        }

    def _field(self, field: FieldDescriptorProto) -> Json:
        entry = self._messages.get(field.type_name)
        if entry is not None and entry.options.map_entry:
            return {"type": "object", "additionalProperties": self._field(entry.field[1])}
        schema = dict(_SCALARS[field.type]) if field.type in _SCALARS else self._type(field.type_name)
        is_repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        return {"type": "array", "items": schema} if is_repeated else schema

    def _type(self, name: str) -> Json:
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        key = name.removeprefix(".")
        if key not in self._schemas:
            # Before its fields: a message may hold itself.
            self._schemas[key] = {}
            self._schemas[key].update(self._enum(name) if name in self._enums else self._message(name))
        return {"$ref": f"#/components/schemas/{key}"}

    def _enum(self, name: str) -> Json:
        values = [value.name for value in self._enums[name].value]
        return {"type": "string", "description": self._comments[name], "enum": values}

    def _message(self, name: str, without: frozenset[str] = frozenset()) -> Json:
        properties: Json = {}
        required: list[str] = []
        for field in self._messages[name].field:
            if field.name in without:
                continue
            schema = self._field(field)
            schema = {"allOf": [schema]} if "$ref" in schema else schema
            properties[field.json_name] = {**schema, "description": self._comments[f"{name}.{field.name}"]}
            behaviours = _behaviours(field)
            if field_behavior_pb2.OUTPUT_ONLY in behaviours:
                properties[field.json_name]["readOnly"] = True
            if field_behavior_pb2.REQUIRED in behaviours:
                required.append(field.json_name)
        described = {"type": "object", "description": self._comments[name], "properties": properties}
        return {**described, "required": required} if required else described


def _behaviours(field: FieldDescriptorProto) -> list[int]:
    return list(field.options.Extensions[field_behavior_pb2.field_behavior])
