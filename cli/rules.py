"""tocsin rules: what to watch for."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from cli.client import (
    DEFAULT_SERVER,
    RPC_TIMEOUT_S,
    ServerOption,
    new_request_id,
    open_channel,
)
from cli.document_files import reject_file
from cli.file_changes import DryRunOption
from cli.lookup import complete_rule
from cli.output import (
    SEVERITY_STYLE,
    OutputFormat,
    OutputOption,
    format_number,
    format_styled,
    format_timestamp,
    json_of,
    print_data,
    print_fields,
    print_message,
    print_table,
    short_ids,
    stdout,
)
from cli.rule_apply import apply_rules, ordered_fields, settable_fields
from cli.rule_checks import call_each, check_rules, exit_if_wrong, warn
from cli.rule_files import load_rules
from cli.rule_names import all_rules, find_rule_id
from cli.rule_status import format_enabled, print_beyond_limit, print_history, print_problems, print_set_aside
from tocsin.rules.v1 import alert_rule_service_pb2 as service
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub
from tocsin.rules.v1.rule_statistics_service_pb2 import GetRuleStatisticsRequest, GetRuleStatisticsResponse
from tocsin.rules.v1.rule_statistics_service_pb2_grpc import RuleStatisticsServiceStub

app = typer.Typer(no_args_is_help=True, help="Manage alert rules.")

_WHOLE_IDS: Mapping[str, str] = MappingProxyType({})

RuleName = Annotated[
    str,
    typer.Argument(
        metavar="RULE", help="The rule's name, its id, or enough of the id's beginning.", autocompletion=complete_rule
    ),
]
RuleFile = Annotated[Path, typer.Argument(help="A YAML or JSON file with one or more rules; - is standard input.")]


@app.command("list")
def list_rules(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show all rules; below them, which ones evaluators have set aside, and which have more groups than they may."""
    with open_channel(server, output) as channel:
        rules = all_rules(AlertRuleServiceStub(channel))
    # Among all rules the beginning of an id is enough to name one.
    _print_rules(rules, output, ids={} if output is OutputFormat.WIDE else short_ids(rule.id for rule in rules))
    if not output.is_data:
        print_set_aside(rules)
        print_beyond_limit(rules)


@app.command("get")
def get_rule(name: RuleName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show all fields of one rule, with the defaults."""
    with open_channel(server, output) as channel:
        request = service.GetAlertRuleRequest(id=find_rule_id(channel, name, output))
        rule = AlertRuleServiceStub(channel).GetAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule
    print_message(rule, output, lambda: print_fields(ordered_fields(rule)))


@app.command("show")
def show_rule(name: RuleName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show all fields of one rule, what was counted of it since it was created, and its history.

    Counted are the events that its filter selected, those of them that came too late, those of groups beyond the limit,
    which are counted together as ~other, and the alerts that began to fire. evaluateTime is when events were last
    matched against it. A rule that evaluators have set aside says why, and the history says when that was before.
    Evaluators report all this every ten seconds.
    """
    with open_channel(server, output) as channel:
        rule_id = find_rule_id(channel, name, output)
        request = service.GetAlertRuleRequest(id=rule_id)
        rule = AlertRuleServiceStub(channel).GetAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule
        response = RuleStatisticsServiceStub(channel).GetRuleStatistics(
            GetRuleStatisticsRequest(id=rule_id), timeout=RPC_TIMEOUT_S
        )
    _print_with_statistics(rule, response, output)


@app.command("create")
def create_rules(
    file: RuleFile,
    *,
    is_dry_run: DryRunOption = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Add the rules of a file: none when one is invalid, else all whose names are not taken.

    Exit code 1 when a rule was not added, 2 when one cannot be read or two have one name; the error names each.
    """
    rules = load_rules(file, output)
    added: list[AlertRule] = []
    with open_channel(server, output) as channel:
        stub = AlertRuleServiceStub(channel)
        check_rules(stub, rules, str(file), output)
        try:
            refusals = call_each(rules, lambda rule: added.append(_create(stub, rule, is_dry_run)))
        finally:
            # Also when the server goes away in between; programs read an empty list.
            if added or output.is_data:
                _print_rules(added, output)
    exit_if_wrong(rules, refusals, "not added", str(file), output)


@app.command("update")
def update_rule(
    name: RuleName,
    file: RuleFile,
    *,
    is_dry_run: DryRunOption = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Set the fields of a rule that a file contains, also to nothing; the others stay."""
    rules = load_rules(file, output)
    if len(rules) != 1:
        reject_file(file, f"expected one rule, found {len(rules)}", output=output)
    exit_if_wrong(rules, {}, "not allowed", str(file), output)
    (file_rule,) = rules
    with open_channel(server, output) as channel:
        rule_id = find_rule_id(channel, name, output)
        if file_rule.rule.id not in {"", rule_id}:
            reject_file(file, f"expected the rule {rule_id}, found the rule {file_rule.rule.id}", output=output)
        request = service.UpdateAlertRuleRequest(
            id=rule_id,
            alert_rule=file_rule.rule,
            update_mask=FieldMask(paths=file_rule.fields),
            request_id=new_request_id(),
            validate_only=is_dry_run,
        )
        response = AlertRuleServiceStub(channel).UpdateAlertRule(request, timeout=RPC_TIMEOUT_S)
    warn([response], output)
    _print_rule(response.alert_rule, output)


app.command("apply")(apply_rules)


@app.command("delete")
def delete_rule(
    name: RuleName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Delete a rule; its open alerts are resolved soon after."""
    with open_channel(server, output) as channel:
        rule_id = find_rule_id(channel, name, output)
        request = service.DeleteAlertRuleRequest(id=rule_id)
        AlertRuleServiceStub(channel).DeleteAlertRule(request, timeout=RPC_TIMEOUT_S)
    if output.is_data:
        print_data({"id": rule_id, "deleted": True}, output)
    else:
        stdout.print(f"deleted {rule_id}")


@app.command("enable")
def enable_rule(
    name: RuleName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Evaluate a rule from now on."""
    with open_channel(server, output) as channel:
        rule_id = find_rule_id(channel, name, output)
        request = service.EnableAlertRuleRequest(id=rule_id, request_id=new_request_id())
        rule = AlertRuleServiceStub(channel).EnableAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule
    _print_rule(rule, output)


@app.command("disable")
def disable_rule(
    name: RuleName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Stop the evaluation of a rule; its open alerts are resolved soon after."""
    with open_channel(server, output) as channel:
        rule_id = find_rule_id(channel, name, output)
        request = service.DisableAlertRuleRequest(id=rule_id, request_id=new_request_id())
        rule = AlertRuleServiceStub(channel).DisableAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule
    _print_rule(rule, output)


@app.command("validate")
def validate_rules(
    file: RuleFile, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Check the rules of a file without adding them, and show them with everything that is filled in.

    Exit code 1 when a rule is not allowed, 2 when one cannot be read or two have one name. The error names all problems
    of each.
    """
    rules = load_rules(file, output)
    with open_channel(server, output) as channel:
        checked = check_rules(AlertRuleServiceStub(channel), rules, str(file), output)
    if output.is_data:
        print_data([json_of(rule) for rule in checked], output)
        return
    for file_rule, rule in zip(rules, checked, strict=True):
        print_fields(settable_fields(rule), notes=_origins(file_rule.rule, rule))


def _origins(given: AlertRule, filled: AlertRule) -> dict[str, str]:
    """Return what filled in the fields that a file leaves out, by their names in JSON."""
    set_fields = {field.json_name for field, _ in given.ListFields()} | {"window", "windowMinutes"}
    by_type = f"filled in by {AlertRule.Type.Name(filled.type)}"
    return {
        name: by_type if name in {"filter", "condition"} else "default"
        for name, value in settable_fields(filled).items()
        if name not in set_fields and value not in ("", {}, [])
    }


def _print_with_statistics(rule: AlertRule, response: GetRuleStatisticsResponse, output: OutputFormat) -> None:
    statistics = response.statistics
    counts = {
        "matchedEventCount": statistics.matched_event_count,
        "lateEventCount": statistics.late_event_count,
        "beyondLimitEventCount": statistics.beyond_limit_event_count,
        "firedAlertCount": statistics.fired_alert_count,
    }
    if output.is_data:
        times = (
            {"evaluateTime": statistics.evaluate_time.ToJsonString()} if statistics.HasField("evaluate_time") else {}
        )
        history = [json_of(entry) for entry in response.history]
        print_data(json_of(rule) | {"statistics": counts | times, "history": history}, output)
        return
    fields = {name: value for name, value in json_of(rule).items() if name != "problems"}
    print_fields(fields | counts | {"evaluateTime": format_timestamp(statistics.evaluate_time)})
    print_problems(rule)
    print_history(response.history)


def _create(stub: AlertRuleServiceStub, rule: AlertRule, is_dry_run: bool) -> AlertRule:  # noqa: FBT001
    request = service.CreateAlertRuleRequest(alert_rule=rule, request_id=new_request_id(), validate_only=is_dry_run)
    return stub.CreateAlertRule(request, timeout=RPC_TIMEOUT_S).alert_rule


def _print_rule(rule: AlertRule, output: OutputFormat) -> None:
    print_message(rule, output, lambda: _print_rules([rule], output))


def _print_rules(rules: list[AlertRule], output: OutputFormat, *, ids: Mapping[str, str] = _WHOLE_IDS) -> None:
    if output.is_data:
        print_data([json_of(rule) for rule in rules], output)
        return
    print_table(
        ["ID", "Name", "Severity", "Enabled", "Threshold", "Window", "Filter", "Condition", "By"],
        [
            [
                ids.get(rule.id, rule.id) or "-",
                rule.name,
                format_styled(AlertRule.Severity.Name(rule.severity), SEVERITY_STYLE),
                format_enabled(rule),
                format_number(rule.threshold),
                _format_window(rule),
                rule.filter,
                rule.condition,
                ", ".join(rule.group_by),
            ]
            for rule in rules
        ],
        cut={"Name", "By", "Condition", "Filter"},
        name="Name",
        wide=output is OutputFormat.WIDE,
    )


def _format_window(rule: AlertRule) -> str:
    return f"{rule.window_minutes} min" if rule.WhichOneof("length") == "window_minutes" else f"{rule.window.seconds} s"
