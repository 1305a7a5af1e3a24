"""tocsin rules: what to watch for."""

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import Message

from cli.client import DEADLINE, DEFAULT_SERVER, Server, connected
from cli.output import (
    SEVERITY_STYLE,
    Form,
    Output,
    as_json,
    console,
    plain,
    print_json,
    print_table,
    show,
    styled,
)
from cli.rule_files import rules_of
from tocsin.rules.v1 import alert_rule_service_pb2 as service
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

app = typer.Typer(no_args_is_help=True, help="Manage alert rules.")

RuleId = Annotated[str, typer.Argument(help="The rule's id, as `tocsin rules list` shows it.")]
RuleFile = Annotated[Path, typer.Argument(help="A YAML or JSON file with one or more rules; - is standard input.")]


@app.command("list")
def list_rules(output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Show all rules."""
    rules: list[AlertRule] = []
    request = service.ListAlertRulesRequest()
    with connected(server) as channel:
        stub = AlertRuleServiceStub(channel)
        while True:
            page = stub.ListAlertRules(request, timeout=DEADLINE)
            rules += page.alert_rules
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    _print_rules(rules, output)


@app.command()
def get(rule_id: RuleId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Show one rule with everything filled in."""
    with connected(server) as channel:
        answer = AlertRuleServiceStub(channel).GetAlertRule(service.GetAlertRuleRequest(id=rule_id), timeout=DEADLINE)
    show(answer.alert_rule, output, lambda: _print_fields(answer.alert_rule))


@app.command()
def create(file: RuleFile, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Add the rules of a file."""
    kept = []
    with connected(server) as channel:
        stub = AlertRuleServiceStub(channel)
        for rule in rules_of(file):
            answer = stub.CreateAlertRule(service.CreateAlertRuleRequest(alert_rule=rule), timeout=DEADLINE)
            kept.append(answer.alert_rule)
    _print_rules(kept, output)


@app.command()
def update(rule_id: RuleId, file: RuleFile, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Change the fields of a rule that a file gives; the others stay."""
    (rule,) = _just_one(file)
    request = service.UpdateAlertRuleRequest(id=rule_id, alert_rule=rule)
    with connected(server) as channel:
        answer = AlertRuleServiceStub(channel).UpdateAlertRule(request, timeout=DEADLINE)
    _print_rules([answer.alert_rule], output)


@app.command()
def delete(rule_id: RuleId, server: Server = DEFAULT_SERVER) -> None:
    """Remove a rule; its open alerts are resolved."""
    with connected(server) as channel:
        AlertRuleServiceStub(channel).DeleteAlertRule(service.DeleteAlertRuleRequest(id=rule_id), timeout=DEADLINE)
    console.print(f"deleted {rule_id}", markup=False)


@app.command()
def enable(rule_id: RuleId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Start evaluating a rule."""
    with connected(server) as channel:
        request = service.EnableAlertRuleRequest(id=rule_id)
        answer = AlertRuleServiceStub(channel).EnableAlertRule(request, timeout=DEADLINE)
    _print_rules([answer.alert_rule], output)


@app.command()
def disable(rule_id: RuleId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Stop evaluating a rule; its open alerts are resolved."""
    with connected(server) as channel:
        request = service.DisableAlertRuleRequest(id=rule_id)
        answer = AlertRuleServiceStub(channel).DisableAlertRule(request, timeout=DEADLINE)
    _print_rules([answer.alert_rule], output)


@app.command()
def validate(file: RuleFile, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Check the rules of a file without keeping them, and show them with everything filled in."""
    checked = []
    with connected(server) as channel:
        stub = AlertRuleServiceStub(channel)
        for rule in rules_of(file):
            answer = stub.ValidateAlertRule(service.ValidateAlertRuleRequest(alert_rule=rule), timeout=DEADLINE)
            checked.append(answer.alert_rule)
    _print_rules(checked, output)


def _just_one(file: Path) -> list[AlertRule]:
    rules = rules_of(file)
    if len(rules) != 1:
        raise typer.BadParameter(f"{file} must hold exactly one rule, it holds {len(rules)}")
    return rules


def _print_rules(rules: list[AlertRule], output: Form) -> None:
    if output is Form.JSON:
        print_json([as_json(rule) for rule in rules])
        return
    print_table(
        ["ID", "Name", "Severity", "Filter", "Condition", "Threshold", "Window", "By", "Enabled"],
        [
            [
                rule.id or "-",
                plain(rule.name),
                styled(AlertRule.Severity.Name(rule.severity), SEVERITY_STYLE),
                plain(rule.filter),
                plain(rule.condition),
                f"{rule.threshold:g}",
                _window(rule),
                plain(", ".join(rule.group_by)),
                "yes" if rule.enabled else "no",
            ]
            for rule in rules
        ],
    )


def _print_fields(rule: Message) -> None:
    print_table(["Field", "Value"], [[name, plain(value)] for name, value in as_json(rule).items()])


def _window(rule: AlertRule) -> str:
    return f"{rule.window_minutes} min" if rule.WhichOneof("length") == "window_minutes" else f"{rule.window.seconds} s"
