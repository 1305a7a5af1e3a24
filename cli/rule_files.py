"""Rules in YAML and JSON files, with the names of the REST interface."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from google.protobuf import json_format

from cli.client import Exit
from cli.output import complain
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def rules_of(path: Path) -> list[AlertRule]:
    """Every rule in a file ("-" is standard input): one object, a list, or several YAML documents.

    A file that holds anything else, or a field that rules do not have, ends the command with exit code 2.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        return [_rule(value) for value in _objects(text)]
    except (OSError, ValueError, yaml.YAMLError, json_format.ParseError) as error:
        complain(f"{path}: {error}")
        raise typer.Exit(Exit.USAGE) from None


def _objects(text: str) -> Iterator[Any]:
    # JSON is a part of YAML, so one reader serves both.
    for document in yaml.safe_load_all(text):
        yield from document if isinstance(document, list) else [document]


def _rule(value: Any) -> AlertRule:
    if not isinstance(value, dict):
        raise ValueError(f"a rule must be an object with name, type, ..., got {type(value).__name__}")  # noqa: TRY004
    rule = AlertRule()
    json_format.ParseDict(value, rule)
    return rule
