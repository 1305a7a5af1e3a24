"""Rules in YAML and JSON files, with the names of the REST interface."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer
from google.api import field_behavior_pb2
from google.protobuf import json_format

from cli.client import Exit
from cli.output import Detail, Form, Problem, tell
from services.chassis.strict_yaml import load_documents
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One rule of a file: where it stands, what it says, and which of the fields that people set it gives."""

    place: str
    rule: AlertRule
    fields: Sequence[str]

    def objections(self, found: Problem) -> list[Detail]:
        """What is wrong with this rule, told so that it is found among others."""
        if not found.details:
            return [Detail(field=self.place, rule=self.rule.name, description=found.message)]
        return [
            Detail(field=f"{self.place}.{one.field}", rule=self.rule.name, description=one.description)
            for one in found.details
        ]


def rules_of(path: Path, form: Form = Form.TABLE) -> list[Given]:
    """Every rule in a file ("-" is standard input): one object, a list, or several YAML documents.

    A file that holds none or anything else, or a field that rules do not have, ends the command with exit code 2.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        values = list(_objects(text))
    except (OSError, ValueError) as error:
        refuse(path, str(error), form=form)
    if not values:
        refuse(path, "there is no rule in it", form=form)
    given, wrong = read(values)
    if wrong:
        refuse(path, f"{len(wrong)} of {len(values)} rules cannot be read", wrong, form=form)
    return given


def read(values: Sequence[Any]) -> tuple[list[Given], list[Detail]]:
    """The rules that some values say, and what is wrong with the other values."""
    given, wrong = [], []
    for index, value in enumerate(values):
        place = f"rules[{index}]"
        try:
            given.append(_given(place, value))
        except (ValueError, json_format.ParseError) as error:
            name = str(value.get("name", "")) if isinstance(value, dict) else ""
            wrong.append(Detail(field=place, rule=name, description=str(error)))
    return given, wrong


def refuse(path: Path, message: str, details: Sequence[Detail] = (), *, form: Form) -> NoReturn:
    """End the command, since a file is not as it must be."""
    tell(Problem(code="INVALID_ARGUMENT", message=message, details=details), form, where=str(path))
    raise typer.Exit(Exit.USAGE) from None


def _objects(text: str) -> Iterator[Any]:
    # JSON is a part of YAML, so one reader serves both.
    for document in load_documents(text):
        if isinstance(document, list):
            yield from document
        elif document is not None:
            yield document


def _given(place: str, value: Any) -> Given:
    if not isinstance(value, dict):
        raise ValueError(f"a rule must be an object with name, type, ..., got {type(value).__name__}")  # noqa: TRY004
    if twice := _said_twice(value):
        raise ValueError(f"these names are of one field: {', '.join(twice)}")
    rule = AlertRule()
    json_format.ParseDict(value, rule)
    return Given(place=place, rule=rule, fields=list(_settable(value)))


def _said_twice(names: Iterable[str]) -> list[str]:
    """The names of a field that is called by two of its names, camelCase and snake_case."""
    known = AlertRule.DESCRIPTOR.fields_by_camelcase_name
    given = set(names)
    fields = {name: field.name for name, field in known.items() if name in given and name != field.name}
    return [name for camel, snake in fields.items() if snake in given for name in (camel, snake)]


def _settable(names: Iterable[str]) -> Iterator[str]:
    """The fields of these names, as proto calls them, without those that the server sets."""
    known = AlertRule.DESCRIPTOR
    for name in names:
        field = known.fields_by_camelcase_name.get(name) or known.fields_by_name[name]
        behaviour = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.OUTPUT_ONLY not in behaviour:
            yield field.name
