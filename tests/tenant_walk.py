"""What it takes to call every rpc for the things of somebody else, from the descriptors: a new rpc is walked, too."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

TODAY = datetime.now(UTC)
RULE = {"name": "mine", "type": "ERROR_THRESHOLD", "threshold": 1, "windowMinutes": 5, "severity": "LOW"}
# What an rpc needs besides the name or id of what it is about.
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "UpdateAlertRule": {"alertRule": {"threshold": 2}},
    "ReplaceAlertRule": {"alertRule": RULE},
    "AssignIncident": {"assignee": "ann"},
    "CommentIncident": {"comment": "here"},
    "CreateOverride": {
        "override": {
            "person": "ann",
            "startTime": TODAY.isoformat(),
            "endTime": (TODAY + timedelta(days=1)).isoformat(),
        }
    },
    "GetRouting": {"version": 1},
    "RollbackRouting": {"version": 1},
}
# These make what is not there, of the caller's own tenant.
CREATING = {"ReplaceService", "ReplacePerson", "ReplaceSchedule", "ReplaceEscalationPolicy"}


def request_of(method: MethodDescriptor, known: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return a request for what somebody else has: its ids by the rpc's or the service's name."""
    ids = known.get(method.name) or known.get(method.containing_service.name, {})
    request: dict[str, Any] = {}
    for field in method.input_type.fields:
        if field.json_name in ids and field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            request[field.json_name] = [ids[field.json_name]] if field.is_repeated else ids[field.json_name]
    return request | dict(NEEDED.get(method.name, {}))


def names_one(method: MethodDescriptor) -> bool:
    """Return whether an rpc is about one thing, which its request names."""
    named = {"id", "name", "schedule", "version"} & {field.name for field in method.input_type.fields}
    is_about_one = bool(named) or method.name in {"ConfirmLearnedEdge", "IgnoreLearnedEdge"}
    return is_about_one and not (method.name.startswith("List") and "schedule" not in named)


def shown(response: Message) -> dict[str, Any]:
    """Return what a response has, without what says nothing of anybody's data."""
    found: dict[str, Any] = MessageToDict(response)
    return {name: value for name, value in found.items() if name not in {"nextPageToken", "graph"}}


def rest_call(method: MethodDescriptor, request: Mapping[str, Any]) -> tuple[str, str, Any] | None:
    """Return verb, path and body with which a request is sent as REST; None where the rpc has no path."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if verb is None:
        return None
    left = dict(request)
    path = re.sub(r"\{([^}]+)\}", lambda match: str(left.pop(match[1])), getattr(rule, verb))
    if rule.body == "*":
        return verb.upper(), path, left
    body = left.pop(_json_name(method, rule.body), {}) if rule.body else None
    return verb.upper(), f"{path}?{urlencode(left, doseq=True)}" if left else path, body


def _json_name(method: MethodDescriptor, field: str) -> str:
    return str(method.input_type.fields_by_name[field].json_name)
