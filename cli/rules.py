"""tocsin rules: what to watch for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.field_mask_pb2 import FieldMask

from cli.client import DEADLINE, DEFAULT_SERVER, Exit, Server, connected, problem_of
from cli.output import (
    SEVERITY_STYLE,
    Form,
    Output,
    Problem,
    as_json,
    console,
    number,
    print_fields,
    print_json,
    print_table,
    show,
    styled,
    tell,
)
from cli.rule_files import Given, refuse, rules_of
from tocsin.rules.v1 import alert_rule_service_pb2 as service
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

app = typer.Typer(no_args_is_help=True, help="Manage alert rules.")

RuleId = Annotated[str, typer.Argument(help="The rule's id, as `tocsin rules list` shows it.")]
RuleFile = Annotated[Path, typer.Argument(help="A YAML or JSON file with one or more rules; - is standard input.")]

# What the server says against one rule, after which the others can go on.
_OF_THE_RULE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS)


@app.command("list")
def list_rules(output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Show all rules."""
    rules: list[AlertRule] = []
    request = service.ListAlertRulesRequest()
    with connected(server, output) as channel:
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
    with connected(server, output) as channel:
        answer = AlertRuleServiceStub(channel).GetAlertRule(service.GetAlertRuleRequest(id=rule_id), timeout=DEADLINE)
    show(answer.alert_rule, output, lambda: print_fields(as_json(answer.alert_rule)))


@app.command()
def create(file: RuleFile, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Add the rules of a file: none when one is not allowed, all but those whose names are taken.

    Ends with 1 when a rule was not added; each is named.
    """
    given = rules_of(file, output)
    added: list[AlertRule] = []
    with connected(server, output) as channel:
        stub = AlertRuleServiceStub(channel)
        _end_if_any(_refused(given, lambda rule: _checked(stub, rule)), "not allowed", file, output)
        try:
            taken = _refused(given, lambda rule: added.append(_added(stub, rule)))
        finally:
            # Whatever comes between, what was added is told.
            _print_rules(added, output)
    _end_if_any(taken, "not added", file, output)


@app.command()
def update(rule_id: RuleId, file: RuleFile, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Change the fields of a rule that a file gives, also to nothing; the others stay."""
    rules = rules_of(file, output)
    if len(rules) != 1:
        refuse(file, f"there must be exactly one rule in it, there are {len(rules)}", form=output)
    (given,) = rules
    if given.rule.id not in {"", rule_id}:
        refuse(file, f"it is of the rule {given.rule.id}, not of {rule_id}", form=output)
    request = service.UpdateAlertRuleRequest(
        id=rule_id, alert_rule=given.rule, update_mask=FieldMask(paths=given.fields)
    )
    with connected(server, output) as channel:
        answer = AlertRuleServiceStub(channel).UpdateAlertRule(request, timeout=DEADLINE)
    _print_rule(answer.alert_rule, output)


@app.command()
def delete(rule_id: RuleId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Remove a rule; its open alerts are resolved soon after."""
    with connected(server, output) as channel:
        AlertRuleServiceStub(channel).DeleteAlertRule(service.DeleteAlertRuleRequest(id=rule_id), timeout=DEADLINE)
    if output is Form.JSON:
        print_json({"id": rule_id, "deleted": True})
    else:
        console.print(f"deleted {rule_id}")


@app.command()
def enable(rule_id: RuleId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Start evaluating a rule."""
    with connected(server, output) as channel:
        request = service.EnableAlertRuleRequest(id=rule_id)
        answer = AlertRuleServiceStub(channel).EnableAlertRule(request, timeout=DEADLINE)
    _print_rule(answer.alert_rule, output)


@app.command()
def disable(rule_id: RuleId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Stop evaluating a rule; its open alerts are resolved soon after."""
    with connected(server, output) as channel:
        request = service.DisableAlertRuleRequest(id=rule_id)
        answer = AlertRuleServiceStub(channel).DisableAlertRule(request, timeout=DEADLINE)
    _print_rule(answer.alert_rule, output)


@app.command()
def validate(file: RuleFile, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Check the rules of a file without keeping them, and show them with everything filled in.

    Ends with 1 when a rule is not allowed; each is named.
    """
    given = rules_of(file, output)
    allowed: list[AlertRule] = []
    with connected(server, output) as channel:
        stub = AlertRuleServiceStub(channel)
        wrong = _refused(given, lambda rule: allowed.append(_checked(stub, rule)))
    _print_rules(allowed, output)
    _end_if_any(wrong, "not allowed", file, output)


def _checked(stub: AlertRuleServiceStub, rule: AlertRule) -> AlertRule:
    return stub.ValidateAlertRule(service.ValidateAlertRuleRequest(alert_rule=rule), timeout=DEADLINE).alert_rule


def _added(stub: AlertRuleServiceStub, rule: AlertRule) -> AlertRule:
    return stub.CreateAlertRule(service.CreateAlertRuleRequest(alert_rule=rule), timeout=DEADLINE).alert_rule


def _refused(given: Sequence[Given], call: Callable[[AlertRule], object]) -> list[tuple[Given, Problem]]:
    """Call with each rule; the rules that the server refused, and why. Raises grpc.RpcError for any other failure."""
    refused = []
    for each in given:
        try:
            call(each.rule)
        except grpc.RpcError as error:
            if error.code() not in _OF_THE_RULE:
                raise
            refused.append((each, problem_of(error)))
    return refused


def _end_if_any(refused: Sequence[tuple[Given, Problem]], what: str, file: Path, output: Form) -> None:
    """End the command when some rules were refused, naming each."""
    if not refused:
        return
    names = [f'"{given.rule.name}"' for given, _ in refused]
    details = [detail for given, found in refused for detail in given.objections(found)]
    problem = Problem(code=refused[0][1].code, message=f"{what}: {', '.join(names)}", details=details)
    tell(problem, output, where=str(file))
    raise typer.Exit(Exit.REFUSED)


def _print_rule(rule: AlertRule, output: Form) -> None:
    show(rule, output, lambda: _print_rules([rule], output))


def _print_rules(rules: list[AlertRule], output: Form) -> None:
    if output is Form.JSON:
        print_json([as_json(rule) for rule in rules])
        return
    print_table(
        ["ID", "Name", "Severity", "Enabled", "Threshold", "Window", "By", "Condition", "Filter"],
        [
            [
                rule.id or "-",
                rule.name,
                styled(AlertRule.Severity.Name(rule.severity), SEVERITY_STYLE),
                "yes" if rule.enabled else "no",
                number(rule.threshold),
                _window(rule),
                ", ".join(rule.group_by),
                rule.condition,
                rule.filter,
            ]
            for rule in rules
        ],
        cut={"Name", "By", "Condition", "Filter"},
    )


def _window(rule: AlertRule) -> str:
    return f"{rule.window_minutes} min" if rule.WhichOneof("length") == "window_minutes" else f"{rule.window.seconds} s"
