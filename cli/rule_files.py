"""Rules in YAML and JSON files, with the names of the REST interface."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer
from google.api import field_behavior_pb2
from google.protobuf import json_format

from cli.client import ExitCode
from cli.output import ErrorDetail, ErrorReport, OutputFormat, print_error
from services.chassis.strict_yaml import load_documents
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRule:
    """A rule of a file, its place in the file, and the names of the fields that the file sets."""

    place: str
    rule: AlertRule
    fields: Sequence[str]

    def error_details(self, report: ErrorReport) -> list[ErrorDetail]:
        """Return what is wrong with this rule, with its place and name."""
        if not report.details:
            return [ErrorDetail(field=self.place, rule=self.rule.name, description=report.message)]
        return [
            ErrorDetail(field=f"{self.place}.{detail.field}", rule=self.rule.name, description=detail.description)
            for detail in report.details
        ]


def load_rules(path: Path, output: OutputFormat = OutputFormat.TABLE) -> list[FileRule]:
    """Load the rules of a file ("-" is standard input): one object, a list, or several YAML documents.

    A file without rules, or with anything else than rules, ends the command with exit code 2.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        values = list(_values_of(text))
    except (OSError, ValueError) as error:
        reject_file(path, str(error), output=output)
    if not values:
        reject_file(path, "the file has no rule", output=output)
    rules, errors = parse_rules(values)
    if errors:
        reject_file(path, f"{len(errors)} of {len(values)} rules cannot be read", errors, output=output)
    return rules


def parse_rules(values: Sequence[Any]) -> tuple[list[FileRule], list[ErrorDetail]]:
    """Parse values as rules; return also what is wrong with those that are not rules."""
    rules, errors = [], []
    for index, value in enumerate(values):
        place = f"rules[{index}]"
        try:
            rules.append(_parse_rule(place, value))
        except (ValueError, json_format.ParseError) as error:
            name = str(value.get("name", "")) if isinstance(value, dict) else ""
            errors.append(ErrorDetail(field=place, rule=name, description=str(error)))
    return rules, errors


def reject_file(path: Path, message: str, details: Sequence[ErrorDetail] = (), *, output: OutputFormat) -> NoReturn:
    """End the command with what is wrong with a file."""
    report = ErrorReport(code="INVALID_ARGUMENT", message=message, details=details)
    print_error(report, output, source=str(path))
    raise typer.Exit(ExitCode.USAGE) from None


def _values_of(text: str) -> Iterator[Any]:
    # JSON is a part of YAML, so one parser reads both.
    for document in load_documents(text):
        if isinstance(document, list):
            yield from document
        elif document is not None:
            yield document


def _parse_rule(place: str, value: Any) -> FileRule:
    if not isinstance(value, dict):
        raise ValueError(f"a rule must be an object with name, type, ..., got {type(value).__name__}")  # noqa: TRY004
    if names := _duplicate_names(value):
        raise ValueError(f"these names are of one field: {', '.join(names)}")
    rule = AlertRule()
    json_format.ParseDict(value, rule)
    return FileRule(place=place, rule=rule, fields=list(_settable_fields(value)))


def _duplicate_names(names: Iterable[str]) -> list[str]:
    """Return both names of a field that has its camelCase and its snake_case name."""
    present = set(names)
    fields = AlertRule.DESCRIPTOR.fields_by_camelcase_name
    return [
        name
        for camel, field in fields.items()
        if camel != field.name and {camel, field.name} <= present
        for name in (camel, field.name)
    ]


def _settable_fields(names: Iterable[str]) -> Iterator[str]:
    """Return the proto names of these fields, without those that the server sets."""
    descriptor = AlertRule.DESCRIPTOR
    for name in names:
        field = descriptor.fields_by_camelcase_name.get(name) or descriptor.fields_by_name[name]
        behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.OUTPUT_ONLY not in behavior:
            yield field.name
