"""What REST offers, for docs/rest.md: from the contracts' http options, and from the comments in their sources."""

import re
from collections.abc import Iterator
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from services.contract.public_services import PUBLIC_SERVICES

_PROTO = Path(__file__).resolve().parent.parent / "proto"
_POOL = descriptor_pool.Default()
SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    _POOL.FindServiceByName(name) for name in PUBLIC_SERVICES if name.startswith("tocsin.")
)
# What the body is, by the field that takes it.
_BODIES = {
    "": "",
    "alert_rule": "a [rule](rules.md)",
    "body": "[events](events.md)",
    "silence": "a [silence](silences.md)",
    "person": "a [person](on_call.md)",
    "schedule": "a [schedule](on_call.md)",
    "policy": "an [escalation policy](on_call.md)",
    "override": "an [override](on_call.md)",
    "service": "a [service](catalog.md)",
    "change": "a [change](catalog.md#changes)",
    "key": "a [key](security.md#keys)",
}
_RPC = re.compile(r"((?:^  //[^\n]*\n)+)^  rpc (\w+)\(", re.MULTILINE)
_SENTENCE = re.compile(r".*?[.:](?= |$)")


def rest_rows() -> list[tuple[str, str, str, str]]:
    """Return method and path, the query parameters, the body, and what the rpc does, of each rpc with a path."""
    return [row for service in SERVICES for row in _rows_of(service)]


def _rows_of(service: ServiceDescriptor) -> Iterator[tuple[str, str, str, str]]:
    comments = {name: text for text, name in _RPC.findall((_PROTO / service.file.name).read_text())}
    for method in service.methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        if verb := rule.WhichOneof("pattern"):
            path = f"`{verb.upper()} {getattr(rule, verb)}`"
            yield path, *_parameters(method, rule, getattr(rule, verb)), _first_sentence(comments[method.name])


def _parameters(method: MethodDescriptor, rule: http_pb2.HttpRule, path: str) -> tuple[str, str]:
    """Return the names of the query parameters, and of what the body has."""
    fields = method.input_type.fields
    free = [f"`{field.json_name}`" for field in fields if field.name != rule.body and f"{{{field.name}}}" not in path]
    if rule.body == "*":
        return "", ", ".join(free)
    body = _BODIES[rule.body]
    return ", ".join(free), body


def _first_sentence(comment: str) -> str:
    text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
    match = _SENTENCE.match(text)
    return (match[0] if match else text).rstrip(":.") + "."
