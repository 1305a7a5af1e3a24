"""A routing tree in a YAML or JSON file, as people write it, and back.

The file is the root: its receivers, its routes, and beside them the inhibition rules. An empty list of receivers or of
correlation labels takes away what would be inherited.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from cli.document_files import load_values, reject_file
from cli.file_values import FileValueError, span_of, text_of
from cli.output import ErrorDetail, OutputFormat
from services.contract.timestamps import duration_of, timedelta_of
from services.domain.found_values import expected, unknown_name
from tocsin.routing.v1.routing_tree_pb2 import Correlation, InhibitionRule, Route, RoutingTree

_RULES = "inhibition"
_ROUTE_FIELDS = (
    "matchers",
    "receivers",
    "policy",
    "continue",
    "correlation",
    "bundling",
    "inhibitDependents",
    "routes",
)
_RULE_FIELDS = ("source", "target", "equal")
_CORRELATION_FIELDS = ("labels", "window")
# The names of the contract that a file has otherwise, in the fields of the server's problems.
_NAMES = {
    "bundlingInterval": "bundling",
    "inhibitsDependents": "inhibitDependents",
    "continues": "continue",
    "withoutReceivers": "receivers",
    "withoutLabels": "labels",
}
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
# Of a tree; deeper ones the server refuses.
_MAX_LEVELS = 20


def load_tree(path: Path, output: OutputFormat) -> RoutingTree:
    """Load the tree of a file ("-" is standard input); one that cannot be read ends the command with exit code 2."""
    values = load_values(path, output, key="", noun="routing tree", text_mappings=())
    if len(values) > 1:
        reject_file(path, "the file has several documents or a list, expected one routing tree", output=output)
    tree, problems = read_tree(values[0])
    if problems:
        details = [ErrorDetail(field=field, description=description) for field, description in problems]
        reject_file(path, "not a routing tree", details, output=output)
    return tree


def read_tree(values: Any) -> tuple[RoutingTree, list[tuple[str, str]]]:
    """Return the tree that values stand for, and what cannot be read of it, by the field of the file."""
    reader = _Reader()
    tree = RoutingTree()
    # Set, also when it is empty.
    tree.root.SetInParent()
    given = dict(values) if isinstance(values, Mapping) else values
    rules = given.pop(_RULES, None) if isinstance(given, dict) else None
    reader.route("", given, tree.root, known=(*_ROUTE_FIELDS, _RULES))
    for place, each in reader.items(_RULES, rules, "a list of rules"):
        reader.rule(place, each, tree.inhibition_rules.add())
    return tree, reader.problems


def file_field(field: str) -> str:
    """Return the field of the file that the server's field of a request stands for."""
    names = [
        _NAMES.get(name.partition("[")[0], name.partition("[")[0]) + "".join(name.partition("[")[1:])
        for name in field.removeprefix("tree.").split(".")
    ]
    if names[0] == "root":
        del names[0]
    elif names[0].startswith("inhibitionRules"):
        names[0] = names[0].replace("inhibitionRules", _RULES)
    return ".".join(names) or "the file"


def tree_document(tree: RoutingTree) -> dict[str, Any]:
    """Return a tree as a file has it."""
    document = _route_document(tree.root)
    if tree.inhibition_rules:
        document[_RULES] = [
            {"source": list(rule.source), "target": list(rule.target)}
            | ({"equal": list(rule.equal)} if rule.equal else {})
            for rule in tree.inhibition_rules
        ]
    return document


def span_text(duration: Duration) -> str:
    """Return a duration as a file has it: 90s, 10m, 1h30m."""
    rest = timedelta_of(duration).total_seconds()
    if rest != int(rest) or rest <= 0:
        return f"{rest:g}s"
    text = ""
    for unit, seconds in _UNITS:
        count, rest = divmod(int(rest), seconds)
        text += f"{count}{unit}" if count else ""
    return text


class _Reader:
    """Reads values as parts of a tree; `problems` has what could not be read."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def route(self, place: str, value: Any, route: Route, *, known: Sequence[str] = _ROUTE_FIELDS) -> None:
        fields = self._mapping(place, value, "a route with matchers, receivers, …", known)
        readers: Mapping[str, Callable[[str, Any], None]] = {
            "matchers": lambda at, each: route.matchers.extend(self._texts(at, each)),
            "receivers": lambda at, each: self._receivers(at, each, route),
            "policy": lambda _, each: setattr(route, "policy", text_of(each)),
            "continue": lambda _, each: setattr(route, "continues", _switch(each)),
            "correlation": lambda at, each: self._correlation(at, each, route.correlation),
            "bundling": lambda _, each: route.bundling_interval.CopyFrom(duration_of(span_of(each))),
            "inhibitDependents": lambda _, each: setattr(route, "inhibits_dependents", _switch(each)),
            "routes": lambda at, each: self._routes(at, each, route),
        }
        self._read(place, fields, readers)

    def rule(self, place: str, value: Any, rule: InhibitionRule) -> None:
        fields = self._mapping(place, value, "a rule with source, target and equal", _RULE_FIELDS)
        readers: Mapping[str, Callable[[str, Any], None]] = {
            "source": lambda at, each: rule.source.extend(self._texts(at, each)),
            "target": lambda at, each: rule.target.extend(self._texts(at, each)),
            "equal": lambda at, each: rule.equal.extend(self._texts(at, each)),
        }
        self._read(place, fields, readers)

    def items(self, place: str, value: Any, wanted: str) -> list[tuple[str, Any]]:
        """Return the items of a list with their places; none where there is no value."""
        if value is not None and not isinstance(value, list):
            self.problems.append((place, expected(wanted, value)))
            return []
        return [(f"{place}[{index}]", each) for index, each in enumerate(value or [])]

    def _routes(self, place: str, value: Any, route: Route) -> None:
        if place.count(".") > _MAX_LEVELS:
            raise FileValueError(f"is deeper than {_MAX_LEVELS} levels")
        for at, each in self.items(place, value, "a list of routes"):
            self.route(at, each, route.routes.add())

    def _receivers(self, place: str, value: Any, route: Route) -> None:
        route.receivers.extend(self._texts(place, value))
        route.without_receivers = value == []

    def _correlation(self, place: str, value: Any, correlation: Correlation) -> None:
        fields = self._mapping(place, value, "labels and window", _CORRELATION_FIELDS)
        correlation.without_labels = fields.get("labels") == []
        readers: Mapping[str, Callable[[str, Any], None]] = {
            "labels": lambda at, each: correlation.labels.extend(self._texts(at, each)),
            "window": lambda _, each: correlation.window.CopyFrom(duration_of(span_of(each))),
        }
        self._read(place, fields, readers)

    def _texts(self, place: str, value: Any) -> list[str]:
        """Return the texts of a list; a text alone stands for a list of one."""
        texts = []
        for at, each in self.items(place, [value] if isinstance(value, str) else value, "a text or a list of texts"):
            try:
                texts.append(text_of(each))
            except FileValueError as problem:
                self.problems.append((at, str(problem)))
        return texts

    def _mapping(self, place: str, value: Any, wanted: str, known: Sequence[str]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.problems.append((place or "the file", expected(wanted, value)))
            return {}
        fields = {str(name): each for name, each in value.items()}
        self.problems += [(_join(place, name), unknown_name(name, known)) for name in fields if name not in known]
        return fields

    def _read(self, place: str, fields: Mapping[str, Any], readers: Mapping[str, Callable[[str, Any], None]]) -> None:
        for name, read in readers.items():
            # Nothing stands for a field without a value.
            if fields.get(name) is None:
                continue
            try:
                read(_join(place, name), fields[name])
            except FileValueError as problem:
                self.problems.append((_join(place, name), str(problem)))
            except UnicodeEncodeError:
                self.problems.append((_join(place, name), "has characters that UTF-8 cannot hold"))


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FileValueError(expected("true or false", value))
    return value


def _route_document(route: Route) -> dict[str, Any]:
    has_receivers = route.receivers or route.without_receivers
    fields: dict[str, Any] = {
        "matchers": list(route.matchers) or None,
        "receivers": list(route.receivers) if has_receivers else None,
        "policy": route.policy if route.HasField("policy") else None,
        "continue": route.continues or None,
        "correlation": _correlation_document(route.correlation) or None,
        "bundling": span_text(route.bundling_interval) if route.HasField("bundling_interval") else None,
        "inhibitDependents": route.inhibits_dependents if route.HasField("inhibits_dependents") else None,
        "routes": [_route_document(below) for below in route.routes] or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _correlation_document(correlation: Correlation) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if correlation.labels or correlation.without_labels:
        document["labels"] = list(correlation.labels)
    if correlation.HasField("window"):
        document["window"] = span_text(correlation.window)
    return document
