"""Whether rules are evaluated: marks in tables, and what `tocsin rules show` and `tocsin status` say of it."""

from collections.abc import Iterable, Sequence

import grpc
from rich.text import Text

from cli.client import open_channel
from cli.output import format_timestamp, print_whole_table, stdout
from cli.rule_names import all_rules
from services.chassis.printable import printable
from tocsin.rules.v1.alert_rule_pb2 import AlertRule, RuleProblem
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub
from tocsin.rules.v1.rule_statistics_service_pb2 import RuleHistoryEntry

_STYLE = "bold red"
_STATUS_TIMEOUT_S = 2.0


def format_enabled(rule: AlertRule) -> Text:
    """Say whether a rule is enabled, or that evaluators have set it aside."""
    if rule.problems:
        return Text("SET ASIDE", style=_STYLE)
    return Text("yes" if rule.enabled else "no")


def print_set_aside(rules: Iterable[AlertRule]) -> None:
    """Print a line for each rule that is set aside."""
    for rule in rules:
        for problem in rule.problems:
            since = format_timestamp(problem.set_aside_time)
            text = f'rule "{rule.name}" is set aside by {problem.instance} since {since}: {_reason(problem)}'
            stdout.print(Text(printable(f"{text}: {problem.description}"), style=_STYLE), soft_wrap=True)


def print_beyond_limit(rules: Iterable[AlertRule]) -> None:
    """Print a line for each rule that had more groups than a limit allows."""
    for rule in rules:
        if events := rule.beyond_limit_event_count:
            text = f'rule "{rule.name}" has more groups than its limit or its tenant\'s: {events:,} events in ~other'
            stdout.print(Text(printable(text), style="yellow"), soft_wrap=True)


def print_problems(rule: AlertRule) -> None:
    """Print why which evaluators do not evaluate a rule."""
    if rule.problems:
        print_whole_table(
            ["Since", "Instance", "Reason", "Problem", "Tried again"],
            [
                [
                    format_timestamp(problem.set_aside_time),
                    problem.instance,
                    Text(_reason(problem), style=_STYLE),
                    problem.description,
                    format_timestamp(problem.retry_time) if problem.HasField("retry_time") else "when it is edited",
                ]
                for problem in rule.problems
            ],
            title="Set aside: it is not evaluated, and its open alerts stay as they are",
        )


def print_history(history: Sequence[RuleHistoryEntry]) -> None:
    """Print what happened to a rule, the newest first."""
    print_whole_table(
        ["Time", "What", "Instance", "Reason", "Problem"],
        [
            [
                format_timestamp(entry.create_time),
                RuleHistoryEntry.Kind.Name(entry.kind),
                entry.instance or "-",
                RuleProblem.Reason.Name(entry.reason) if entry.reason else "-",
                entry.description or "-",
            ]
            for entry in history
        ],
        title="History",
    )


def set_aside_rules(server: str) -> list[AlertRule]:
    """Return the rules that are set aside; none when the manager does not answer, which other lines say."""
    with open_channel(server) as channel:
        try:
            rules = all_rules(AlertRuleServiceStub(channel), timeout_s=_STATUS_TIMEOUT_S)
        except grpc.RpcError:
            return []
    return [rule for rule in rules if rule.problems]


def _reason(problem: RuleProblem) -> str:
    return RuleProblem.Reason.Name(problem.reason)
