"""Write the tables of the documents from the code that they describe: settings, ports, topics, formats of log lines.

`python docs/tables.py` writes; with `--check` it compares instead and exits 1 when a document is stale.
"""

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from cli.parsing.event import ParseNote
from cli.parsing.field_names import DIALECTS, FIELD_NAMES
from cli.parsing.format_types import LineFormat
from cli.parsing.formats import CONTAINER_FORMATS, FORMATS
from cli.parsing.levels import LEVEL_WORDS
from cli.parsing.timestamps import TIMESTAMP_FORMATS
from services.chassis.settings import SettingDoc, describe_settings
from services.contract import topics
from services.evaluator.settings import Settings as EvaluatorSettings
from services.ingest.settings import Settings as IngestSettings
from services.manager.settings import Settings as ManagerSettings
from services.notifier.settings import Settings as NotifierSettings
from stack.envoy import PREFIX, EnvoySettings
from stack.ports import Ports
from stack.topics import TOPICS, Topic

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

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
    topics.WINDOW_STATE: ("the evaluator's open alerts", "evaluator: window", "evaluator: window, at start"),
    topics.ALERTS: ("`AlertTransition` by rule and resource", "evaluator: window", "manager"),
    topics.NOTIFICATIONS: ("`Notification` by alert", "manager", "notifier"),
    topics.NOTIFICATION_RESULTS: ("`NotificationResult` by alert", "notifier", "manager"),
}

GROUPS = (
    (topics.MATCH_GROUP, "evaluator: match", topics.LOG_EVENTS),
    (topics.WINDOW_GROUP, "evaluator: window", topics.WINDOW_PARTIALS),
    (topics.TRANSITION_GROUP, "manager", topics.ALERTS),
    (topics.RESULT_GROUP, "manager", topics.NOTIFICATION_RESULTS),
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
        "names": _table(("field", "names"), ((field, _codes(names.split())) for field, names in FIELD_NAMES.items())),
        "dialects": _table(("program", "known by", "names"), dialects),
        "levels": _table(("level", "words"), levels),
        "timestamps": _table(("example",), ((f"`{example}`",) for example in TIMESTAMP_FORMATS)),
        "notes": _table(("name", "events that"), ((f"`{note.name}`", note.value) for note in ParseNote)),
    }


DOCUMENTS = {"operations.md": tables, "log_formats.md": log_tables}


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
    return _table(("setting", "default", "meaning"), ((f"`{each.name}`", _default(each), each.help) for each in docs))


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
    stale = False
    for name, made in DOCUMENTS.items():
        document = (DOCS / name).read_text()
        right = filled(document, made)
        stale |= document != right
        if "--check" not in sys.argv[1:]:
            (DOCS / name).write_text(right)
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
