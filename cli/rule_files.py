"""Rules in YAML and JSON files, with the names of the REST interface."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.document_files import load_values
from cli.output import ErrorDetail, ErrorReport, OutputFormat
from cli.rule_values import read_rule
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

# Of these fields one is required.
_LENGTH = frozenset({"window", "windowMinutes", "window_minutes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRule:
    """A rule of a file, its place in the file, the names of the fields that the file sets, and what cannot be read."""

    place: str
    rule: AlertRule
    fields: Sequence[str]
    problems: Sequence[tuple[str, str]] = ()

    @property
    def label(self) -> str:
        """The rule's name in quotes; where it has none, its place."""
        return f'"{self.rule.name}"' if self.rule.name else self.place

    def error_details(self, report: ErrorReport | None = None) -> list[ErrorDetail]:
        """Return what is wrong with this rule: in the file, and what the server reports of other fields."""
        problems = list(self.problems)
        if report is not None and not any(field == "" for field, _ in problems):
            unread = {field for field, _ in problems}
            unread |= _LENGTH if unread & _LENGTH else frozenset()
            found = [(detail.field, detail.description) for detail in report.details] or [("", report.message)]
            problems += [(field, why) for field, why in found if _root(field) not in unread]
        return [
            ErrorDetail(field=f"{self.place}.{field}" if field else self.place, rule=self.rule.name, description=why)
            for field, why in problems
        ]


def load_rules(path: Path, output: OutputFormat = OutputFormat.TABLE, *, prefix: str = "") -> list[FileRule]:
    """Load the rules of a file ("-" is standard input): one mapping, a list, `rules:` with a list, several documents.

    A file without rules, or that is not YAML, ends the command with exit code 2; a rule has its own problems. The place
    of each rule begins with the prefix.
    """
    values = load_values(path, output, key="rules", noun="rule", text_mappings=("labels",))
    return name_duplicates(parse_rules(values, prefix=prefix))


def parse_rules(values: Sequence[Any], *, prefix: str = "") -> list[FileRule]:
    """Read values as rules."""
    read = [(f"{prefix}rules[{index}]", read_rule(value)) for index, value in enumerate(values)]
    return [
        FileRule(place=place, rule=given.rule, fields=given.fields, problems=given.problems) for place, given in read
    ]


def name_duplicates(rules: Sequence[FileRule]) -> list[FileRule]:
    """Return the rules; each whose name an earlier one has is a problem of its file."""
    first: dict[str, FileRule] = {}
    return [_name_duplicate(rule, first.setdefault(rule.rule.name, rule)) for rule in rules]


def _name_duplicate(rule: FileRule, first: FileRule) -> FileRule:
    if first is rule or not rule.rule.name:
        return rule
    problem = ("name", f"this name is used already by {first.place}; each rule needs a name of its own")
    return rule if problem in rule.problems else replace(rule, problems=[*rule.problems, problem])


def _root(field: str) -> str:
    return field.split("[", maxsplit=1)[0].split(".", maxsplit=1)[0]
