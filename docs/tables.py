"""Write the tables of the documents from the code that they describe: settings, ports, topics, log formats, rules.

With them it writes envoy/methods.lua.

`python docs/tables.py` writes; with `--check` it compares instead and exits 1 when a document is stale.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from google.api import field_behavior_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from cli.parsing.event import ParseNote
from cli.parsing.field_names import DIALECTS, FIELD_NAMES
from cli.parsing.field_uses import JSON_NAMES, UNITS
from cli.parsing.format_types import LineFormat
from cli.parsing.formats import CONTAINER_FORMATS, FORMATS
from cli.parsing.levels import LEVEL_WORDS
from cli.parsing.timestamps import TIMESTAMP_FORMATS
from docs.event_fields import EVENT_FIELDS
from docs.rest_lua import lua_tables
from docs.rest_methods import rest_rows
from docs.rule_fields import GROUPING_VALUES, RULE_FIELDS, SEVERITY_MEANINGS
from services.access.methods import own_methods
from services.chassis.settings import SettingDoc, describe_settings
from services.chassis.settings_loader import FILE_SUFFIX
from services.contract import topics
from services.contract.alert_rules import write_alert_rule
from services.contract.public_services import PUBLIC_SERVICES
from services.domain.roles import Role
from services.domain.severity import Severity
from services.evaluator.settings import Settings as EvaluatorSettings
from services.ingest.settings import Settings as IngestSettings
from services.manager.settings import Settings as ManagerSettings
from services.notifier.settings import Settings as NotifierSettings
from services.rule_language import restrictions
from services.rule_language.rule import PRESETS, Draft, RuleType, complete
from stack.envoy import PREFIX, EnvoySettings
from stack.ports import Ports
from stack.topics import TOPICS, Topic
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
METHODS = ROOT / "envoy" / "methods.lua"

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

SERVICES = {
    "INGEST_": IngestSettings,
    "EVALUATOR_": EvaluatorSettings,
    "MANAGER_": ManagerSettings,
    "NOTIFIER_": NotifierSettings,
}

ENDPOINTS = {
    "kafka": "Kafka",
    "kafka_controller": "Kafka's controller",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "edge": "Envoy: REST, gRPC, gRPC-Web of all services; `/health` of ingest",
    "edge_evaluator": "Envoy: `/health` of the evaluator",
    "edge_manager": "Envoy: rules and alerts; `/health` of the manager",
    "edge_notifier": "Envoy: notifications, `/actuator/circuitbreakers`; `/health` of the notifier",
    "mesh": "Envoy: calls between services; `/stats/prometheus`",
    "envoy_admin": "Envoy's administration, on the loopback interface only",
    "ingest": "ingest: gRPC",
    "evaluator": "evaluator: gRPC",
    "manager": "manager: gRPC",
    "notifier": "notifier: gRPC",
    "ingest_admin": "ingest: `/metrics`, `/health`",
    "evaluator_admin": "evaluator: `/metrics`, `/health`",
    "manager_admin": "manager: `/metrics`, `/health`",
    "notifier_admin": "notifier: `/metrics`, `/health`",
    "sinks": "the local sinks of Slack, PagerDuty and webhook; what they were sent",
    "sinks_smtp": "the local sink of e-mail",
}

CONTENTS = {
    topics.LOG_EVENTS: ("`LogBatch`, without a key", "ingest", "evaluator: match"),
    topics.LOG_EVENTS_DEAD_LETTER: (
        "`DeadLetter`: what could not be read, and why",
        "evaluator: match, manager, notifier",
        "people",
    ),
    topics.WINDOW_PARTIALS: ("`PartialBatch`", "evaluator: match", "evaluator: window"),
    topics.WINDOW_SNAPSHOTS: (
        "what the open windows have counted so far",
        "evaluator: window",
        "evaluator: window, at start",
    ),
    topics.WINDOW_STATE: ("the evaluator's open alerts", "evaluator: window", "evaluator: window, at start"),
    topics.ALERTS: ("`AlertTransition` by rule and resource", "evaluator: window", "manager"),
    topics.NOTIFICATIONS: ("`Notification` by alert", "manager", "notifier"),
    topics.NOTIFICATION_RESULTS: ("`NotificationResult` by alert", "notifier", "manager"),
    topics.AUDIT_LOG: ("`AuditRecord` by tenant", "all services", "manager"),
}

GROUPS = (
    (topics.MATCH_GROUP, "evaluator: match", topics.LOG_EVENTS),
    (topics.WINDOW_GROUP, "evaluator: window", topics.WINDOW_PARTIALS),
    (topics.TRANSITION_GROUP, "manager", topics.ALERTS),
    (topics.RESULT_GROUP, "manager", topics.NOTIFICATION_RESULTS),
    (topics.AUDIT_GROUP, "manager", topics.AUDIT_LOG),
    (topics.NOTIFICATION_GROUP, "notifier", topics.NOTIFICATIONS),
)


def tables() -> dict[str, str]:
    """Return every table of docs/operations.md by its name."""
    described = {prefix: describe_settings(kind, prefix) for prefix, kind in SERVICES.items()}
    shared = _shared(described)
    own = {
        f"settings {prefix.rstrip('_').lower()}": _settings(
            each for each in docs if each.name.removeprefix(prefix) not in shared
        )
        for prefix, docs in described.items()
    }
    return {
        "settings of all services": _settings(shared.values()),
        **own,
        "settings of the gateway": _settings(describe_settings(EnvoySettings, PREFIX)),
        "ports": _ports(),
        "topics": _topics(),
        "consumer groups": _table(
            ("group", "service", "topic"), ((f"`{group}`", who, f"`{topic}`") for group, who, topic in GROUPS)
        ),
    }


def log_tables() -> dict[str, str]:
    """Return the tables of docs/log_formats.md by their names."""
    dialects = (
        (who, f"`{mark}`", ", ".join(f"`{name}` is {field}" for name, field in names.items()))
        for who, (mark, names) in DIALECTS.items()
    )
    levels = ((level.name, _codes(words.split())) for level, words in LEVEL_WORDS.items())
    return {
        "formats": _formats(FORMATS),
        "container formats": _formats(CONTAINER_FORMATS),
        "names": _table(("field", "names, the clearest first"), map(_names, FIELD_NAMES.items())),
        "dialects": _table(("program", "known by", "names"), dialects),
        "levels": _table(("level", "words"), levels),
        "timestamps": _table(("example",), ((f"`{example}`",) for example in TIMESTAMP_FORMATS)),
        "notes": _table(("name", "events that"), ((f"`{note.name}`", note.value) for note in ParseNote)),
    }


def event_tables() -> dict[str, str]:
    """Return the tables of docs/events.md by their names."""
    rows = []
    for field in LogEvent.DESCRIPTOR.fields:
        meaning, bound, example, unfit = EVENT_FIELDS[field.json_name]
        needed = "**required**" if field_behavior_pb2.REQUIRED in _behavior(field) else "optional"
        rows.append((f"`{field.json_name}`", _type_of(field), needed, bound, f"`{example}`", meaning, unfit))
    head = ("field", "type", "needed", "bound", "example", "meaning", "a value that does not fit")
    return {"event fields": _table(head, rows)}


def rule_tables() -> dict[str, str]:
    """Return the tables of docs/rules.md by their names."""
    values = [*restrictions.GROUPING_FIELDS, f"{restrictions.ATTRIBUTE_PREFIX}NAME"]
    return {
        "fields": _rule_fields(),
        "types": _table(
            ("type", "filter", "condition"),
            (
                (f"`{each.name}`", *(f"`{text}`" if text else "**required**" for text in PRESETS[each]))
                for each in RuleType
            ),
        ),
        "severities": _table(
            ("severity", "meaning"), ((f"`{each.name}`", SEVERITY_MEANINGS[each]) for each in sorted(Severity))
        ),
        "grouping": _table(("value", "groups by"), ((f"`{value}`", GROUPING_VALUES[value]) for value in values)),
    }


def rest_tables() -> dict[str, str]:
    """Return the table of docs/rest.md by its name."""
    return {"methods": _table(("request", "query", "body", "does"), rest_rows())}


def role_tables() -> dict[str, str]:
    """Return the table of docs/security.md by its name: which rpcs each role opens."""
    by_service: dict[str, dict[str, list[str]]] = {}
    for path, needed in own_methods().items():
        service, _, method = path.lstrip("/").rpartition("/")
        # Reflection is gRPC's; the page says what it needs.
        if service in PUBLIC_SERVICES:
            listed = f"{method} ({', '.join(sorted(needed.services))})" if needed.services else method
            by_service.setdefault(service.rpartition(".")[2], {}).setdefault(needed.role.value, []).append(listed)
    rows = (
        (f"`{service}`", f"`{role.value}`", ", ".join(roles[role.value]))
        for service, roles in by_service.items()
        for role in Role
        if role.value in roles
    )
    return {"roles": _table(("service", "role", "rpcs (and the services that may call them too)"), rows)}


DOCUMENTS = {
    "operations.md": tables,
    "events.md": event_tables,
    "log_formats.md": log_tables,
    "rules.md": rule_tables,
    "rest.md": rest_tables,
    "security.md": role_tables,
}


def filled(document: str, made: Callable[[], dict[str, str]] = tables) -> str:
    """Return the document with its tables filled in; raise ValueError when it lacks the place of one."""
    for name, table in made().items():
        begin, end = f"<!-- table: {name} -->", "<!-- end -->"
        pattern = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        document, places = pattern.subn(lambda _, new=f"{begin}\n{table}\n{end}": new, document)  # type: ignore[misc]
        if places != 1:
            raise ValueError(f"{begin} occurs {places} times in the document")
    return document


def _shared(described: dict[str, list[SettingDoc]]) -> dict[str, SettingDoc]:
    """Return the settings that every service has, without prefix; a default that differs is listed for each service."""
    by_name = [{each.name.removeprefix(prefix): each for each in docs} for prefix, docs in described.items()]
    found = {}
    for name, first in by_name[0].items():
        if all(name in each for each in by_name):
            defaults = [each[name].default for each in by_name]
            text = defaults[0] if len(set(defaults)) == 1 else ", ".join(each or "" for each in defaults)
            found[name] = dataclasses.replace(first, name=f"…_{name}", default=text)
    return found


def _settings(docs: Iterable[SettingDoc]) -> str:
    listed = list(docs)
    secrets = {each.name for each in listed if each.type == "secret"}
    # Each secret stands for its file too: they are explained once, above the tables.
    rows = (
        (f"`{each.name}`" + (f", `{FILE_SUFFIX}`" if each.name in secrets else ""), _default(each), each.help)
        for each in listed
        if each.name.removesuffix(FILE_SUFFIX) == each.name or each.name.removesuffix(FILE_SUFFIX) not in secrets
    )
    return _table(("setting", "default", "meaning"), rows)


def _default(doc: SettingDoc) -> str:
    if doc.required:
        return "**required**"
    # Paths beside the sources are shown relative to them.
    return (doc.default or "empty").replace(f"{ROOT}/", "")


def _ports() -> str:
    ports = Ports()
    rows = (
        (str(getattr(ports, field.name)), ENDPOINTS[field.name], f"`TOCSIN_PORT_{field.name.upper()}`")
        for field in dataclasses.fields(Ports)
    )
    return _table(("port", "what answers", "moved by"), rows)


def _topics() -> str:
    rows = ((f"`{each.name}`", str(each.partitions), _kept(each), *CONTENTS[each.name]) for each in TOPICS)
    return _table(("topic", "partitions", "kept", "value", "written by", "read by"), rows)


def _kept(topic: Topic) -> str:
    if topic.config["cleanup.policy"] == "compact":
        return "the last of each key"
    kept = timedelta(milliseconds=int(topic.config["retention.ms"]))
    # Never rounded: people create topics with these numbers.
    if kept > _DAY and not kept % _DAY:
        return f"{kept // _DAY} days"
    if kept % _HOUR:
        raise ValueError(f"{topic.name} is kept {kept}, which is not a whole number of hours")
    return f"{kept // _HOUR} hours"


def _rule_fields() -> str:
    """Describe every field of a rule that a client may set, in the order of the contract."""
    draft = Draft(name="a", type=RuleType.ERROR_THRESHOLD, threshold=0, window_minutes=1, severity=Severity.LOW)
    defaults = json_format.MessageToDict(write_alert_rule(complete(draft)))
    rows = []
    for field in AlertRule.DESCRIPTOR.fields:
        if _is_set_by_the_server(field):
            continue
        meaning, bound, example = RULE_FIELDS[field.json_name]
        default = _default_of_rule(field, defaults.get(field.json_name))
        rows.append((f"`{field.json_name}`", _type_of(field), default, bound, f"`{example}`", meaning))
    return _table(("field", "type", "default", "bound", "example", "meaning"), rows)


def _is_set_by_the_server(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.OUTPUT_ONLY in _behavior(field) or field.name == "etag"


def _behavior(field: FieldDescriptor) -> list[int]:
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _default_of_rule(field: FieldDescriptor, default: object) -> str:
    if field_behavior_pb2.REQUIRED in _behavior(field):
        return "**required**"
    if field.json_name in {"filter", "condition"}:
        return "by type"
    if field.containing_oneof is not None and field.containing_oneof.name == "length":
        return "one of the two is **required**"
    return f"`{json.dumps(default)}`" if default is not None else _NOTHING.get(field.json_name, "empty")


# What a field means that is left out and stays empty.
_NOTHING = {"scope": "all events"}


def _type_of(field: FieldDescriptor) -> str:
    match field.message_type, field.enum_type:
        case None, None:
            word = _TYPES[field.type]
        case None, enum:
            return f"one of {', '.join(value.name for value in enum.values if value.number)}"
        case message, _:
            times = {"Duration": "duration", "Timestamp": "time"}
            word = "map of strings" if message.GetOptions().map_entry else times[message.name]
    return f"list of {word}s" if field.name == "group_by" else word


_TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_INT32: "integer",
}


def _names(field: tuple[str, str]) -> tuple[str, str]:
    """Return a field as the contract's JSON names it, with the unit of its names, and the names."""
    raw, names = field
    unit = f", in {UNITS[raw]}" if raw in UNITS else ""
    return f"`{JSON_NAMES[raw]}`{unit}" if raw in JSON_NAMES else f"attribute `{raw}`", _codes(names.split())


def _formats(kinds: Iterable[LineFormat]) -> str:
    rows = ((f"`{each.name}`", each.writers, f"`` {each.example} ``") for each in kinds)
    return _table(("format", "written by", "a line"), rows)


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main() -> int:
    """Write the tables, or check them; return the exit code."""
    right = {DOCS / name: filled((DOCS / name).read_text(), made) for name, made in DOCUMENTS.items()}
    right[METHODS] = lua_tables()
    stale = any(not path.exists() or path.read_text() != text for path, text in right.items())
    if "--check" not in sys.argv[1:]:
        for path, text in right.items():
            path.write_text(text)
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
