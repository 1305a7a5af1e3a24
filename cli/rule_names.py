"""Find a rule by what people type: its name, its id, or the beginning of its id."""

import difflib
from collections.abc import Sequence
from typing import NoReturn
from uuid import UUID

import grpc
import typer

from cli.client import RPC_TIMEOUT_S, ExitCode, list_rows
from cli.output import ErrorDetail, ErrorReport, OutputFormat, print_error
from tocsin.rules.v1 import alert_rule_service_pb2 as service
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

_MAX_CANDIDATES = 10


def find_rule_id(channel: grpc.Channel, text: str, output: OutputFormat) -> str:
    """Return the id of the rule that a name, an id or the beginning of an id stands for.

    A whole id is returned as it is: alerts may belong to a rule that was deleted. Without a rule, or with several, the
    command ends with exit code 1 and an error that names them.
    """
    if _is_id(text):
        return text
    rules = all_rules(AlertRuleServiceStub(channel))
    matches = match_rules(rules, text)
    if len(matches) != 1:
        _exit_without_rule(text, matches, [rule.name for rule in rules], output)
    return matches[0].id


def all_rules(stub: AlertRuleServiceStub, *, timeout_s: float = RPC_TIMEOUT_S) -> list[AlertRule]:
    """Return all rules; `timeout_s` is for each page."""
    request = service.ListAlertRulesRequest()
    return list_rows(stub.ListAlertRules, request, lambda page: page.alert_rules, timeout_s=timeout_s)


def match_rules(rules: Sequence[AlertRule], text: str) -> list[AlertRule]:
    """Return the rule of this name; else all whose names differ in case only, else all whose ids begin so."""
    exact = [rule for rule in rules if rule.name == text]
    same = [rule for rule in rules if rule.name.casefold() == text.casefold()]
    return exact or same or [rule for rule in rules if text and rule.id.startswith(text.lower())]


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _exit_without_rule(text: str, matches: Sequence[AlertRule], names: Sequence[str], output: OutputFormat) -> NoReturn:
    details = [ErrorDetail(field=rule.id, description=rule.name) for rule in matches[:_MAX_CANDIDATES]]
    if matches:
        report = ErrorReport(
            code="FAILED_PRECONDITION",
            message=f'{len(matches)} rules match "{text}"; give more of the id',
            details=details,
        )
    else:
        containing = [name for name in names if text and text.casefold() in name.casefold()]
        similar = difflib.get_close_matches(text, names, n=1) or containing[:1]
        hint = f'; did you mean "{similar[0]}"?' if similar else "; `tocsin rules list` shows all"
        report = ErrorReport(code="NOT_FOUND", message=f'no rule has the name or id "{text}"{hint}')
    print_error(report, output, source="rule")
    raise typer.Exit(ExitCode.REFUSED)
