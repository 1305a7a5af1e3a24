"""Have the server check the rules of a file: all that is wrong is printed at once, and what is surely not meant."""

from collections.abc import Callable, Sequence

import grpc
import typer

from cli.client import RPC_TIMEOUT_S, ExitCode, error_report_of
from cli.output import ErrorDetail, ErrorReport, OutputFormat, print_error, print_warnings
from cli.rule_files import FileRule
from tocsin.rules.v1 import alert_rule_service_pb2 as service
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

# With these codes the server refuses one rule; the others of a file may still be added.
_REFUSED_RULE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS)

Refusals = dict[str, ErrorReport]
WarnedResponse = service.ValidateAlertRuleResponse | service.UpdateAlertRuleResponse


def check_rules(
    stub: AlertRuleServiceStub, rules: Sequence[FileRule], source: str, output: OutputFormat
) -> list[AlertRule]:
    """Return the rules with everything filled in, and print warnings.

    A rule that cannot be read ends the command with exit code 2, one that the server refuses with 1.
    """
    validated: list[service.ValidateAlertRuleResponse] = []

    def validate(rule: AlertRule) -> None:
        request = service.ValidateAlertRuleRequest(alert_rule=rule)
        validated.append(stub.ValidateAlertRule(request, timeout=RPC_TIMEOUT_S))

    try:
        refusals = call_each(rules, validate)
    except grpc.RpcError:
        # What is wrong in a file is said also when the server cannot be asked.
        exit_if_wrong(rules, {}, "not allowed", source, output)
        raise
    exit_if_wrong(rules, refusals, "not allowed", source, output)
    warn(validated, output)
    return [response.alert_rule for response in validated]


def warn(responses: Sequence[WarnedResponse], output: OutputFormat) -> None:
    """Print what the server found that is allowed and surely not meant."""
    warnings = [
        ErrorDetail(field=warning.field, rule=response.alert_rule.name, description=warning.description)
        for response in responses
        for warning in response.warnings
    ]
    print_warnings(warnings, output)


def call_each(rules: Sequence[FileRule], call: Callable[[AlertRule], object]) -> Refusals:
    """Call with each rule; return why the server refused some, by their places. Other failures raise grpc.RpcError."""
    refusals = {}
    for file_rule in rules:
        try:
            call(file_rule.rule)
        except grpc.RpcError as error:
            if error.code() not in _REFUSED_RULE:
                raise
            refusals[file_rule.place] = error_report_of(error)
    return refusals


def exit_if_wrong(
    rules: Sequence[FileRule], refusals: Refusals, verdict: str, source: str, output: OutputFormat
) -> None:
    """End the command with an error that names each rule that cannot be read or was refused."""
    wrong = [rule for rule in rules if rule.problems or rule.place in refusals]
    if not wrong:
        return
    details = [detail for rule in wrong for detail in rule.error_details(refusals.get(rule.place))]
    is_unread = any(rule.problems for rule in wrong)
    code = "INVALID_ARGUMENT" if is_unread else next(iter(refusals.values())).code
    message = f"{verdict}: {', '.join(rule.label for rule in wrong)}"
    print_error(ErrorReport(code=code, message=message, details=details), output, source=source)
    raise typer.Exit(ExitCode.USAGE if is_unread else ExitCode.REFUSED)
