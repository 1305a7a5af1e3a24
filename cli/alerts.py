"""tocsin alerts: what is wrong now, and what was."""

import getpass
import os
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from cli.client import DEADLINE, DEFAULT_SERVER, Server, connected
from cli.output import (
    SEVERITY_STYLE,
    STATE_STYLE,
    Form,
    Output,
    as_json,
    cell,
    console,
    moment,
    number,
    print_json,
    print_table,
    show,
    styled,
)
from services.domain.alert import State
from tocsin.alerts.v1 import alert_service_pb2 as service
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

app = typer.Typer(no_args_is_help=True, help="See alerts and act on them.")


class Severity(StrEnum):
    """How urgent an alert is; the contract's words."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


def user_name() -> str:
    """Who runs the command; where the machine has no name for them, the user's number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


AlertId = Annotated[str, typer.Argument(help="The alert's id, as `tocsin alerts list` shows it.")]
Actor = Annotated[
    str, typer.Option("--actor", default_factory=user_name, show_default="your user name", help="Who does it.")
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="What to say about it.")]
Severities = Annotated[
    list[Severity] | None,
    typer.Option("--severity", case_sensitive=False, help="Only this severity; may be repeated."),
]
RuleFilter = Annotated[str, typer.Option("--rule", help="Only alerts of the rule with this id.")]
ResourceFilter = Annotated[str, typer.Option("--resource", help="Only alerts of this resource.")]

_COLUMNS = ["ID", "State", "Severity", "Rule", "Resource", "Count", "Fired", "Repeats"]


@app.command("list")
def list_alerts(  # each option is a filter of the rpc
    *,
    states: Annotated[
        list[State] | None,
        typer.Option("--state", case_sensitive=False, help="Only this state; may be repeated."),
    ] = None,
    severities: Severities = None,
    rule: RuleFilter = "",
    resource: ResourceFilter = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 50,
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Show alerts, the newest first."""
    request = service.ListAlertsRequest(
        states=[Alert.State.Value(state) for state in states or []],
        severities=_numbers(severities),
        rule_id=rule,
        resource=resource,
    )
    alerts: list[Alert] = []
    with connected(server, output) as channel:
        stub = AlertServiceStub(channel)
        while len(alerts) < limit:
            request.page_size = min(500, limit - len(alerts))
            page = stub.ListAlerts(request, timeout=DEADLINE)
            alerts += page.alerts
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    _print_alerts(alerts, output)


@app.command("show")
def show_alert(alert_id: AlertId, output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Show one alert with its evidence and history."""
    with connected(server, output) as channel:
        answer = AlertServiceStub(channel).GetAlert(service.GetAlertRequest(id=alert_id), timeout=DEADLINE)
    show(answer, output, lambda: _print_whole(answer))


@app.command()
def ack(
    alert_id: AlertId,
    actor: Actor,
    comment: Comment = "",
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Take an alert on."""
    request = service.AcknowledgeAlertRequest(id=alert_id, actor=actor, comment=comment)
    with connected(server, output) as channel:
        answer = AlertServiceStub(channel).AcknowledgeAlert(request, timeout=DEADLINE)
    show(answer.alert, output, lambda: _print_alerts([answer.alert], output))


@app.command()
def resolve(
    alert_id: AlertId,
    actor: Actor,
    comment: Comment = "",
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """End an alert by hand."""
    request = service.ResolveAlertRequest(id=alert_id, actor=actor, comment=comment)
    with connected(server, output) as channel:
        answer = AlertServiceStub(channel).ResolveAlert(request, timeout=DEADLINE)
    show(answer.alert, output, lambda: _print_alerts([answer.alert], output))


@app.command()
def watch(
    severities: Severities = None,
    rule: RuleFilter = "",
    resource: ResourceFilter = "",
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Follow alerts until Ctrl-C: first the open ones, then each change. JSON comes one alert a line."""
    request = service.WatchAlertsRequest(severities=_numbers(severities), rule_id=rule, resource=resource)
    with connected(server, output) as channel:
        try:
            for answer in AlertServiceStub(channel).WatchAlerts(request):
                _print_change(answer.alert, output)
        except KeyboardInterrupt:
            raise typer.Exit from None


def _numbers(severities: list[Severity] | None) -> "list[AlertRule.Severity.ValueType]":
    return [AlertRule.Severity.Value(severity) for severity in severities or []]


def _print_alerts(alerts: list[Alert], output: Form) -> None:
    if output is Form.JSON:
        print_json([as_json(alert) for alert in alerts])
    else:
        print_table(_COLUMNS, [_row(alert) for alert in alerts], cut={"Rule", "Resource"})


def _row(alert: Alert) -> list[str | Text]:
    return [
        alert.id,
        styled(Alert.State.Name(alert.state), STATE_STYLE),
        styled(AlertRule.Severity.Name(alert.severity), SEVERITY_STYLE),
        alert.rule_name,
        alert.resource,
        str(alert.window.count),
        moment(alert.fire_time),
        str(alert.repeat_count),
    ]


def _print_change(alert: Alert, output: Form) -> None:
    if output is Form.JSON:
        print_json(as_json(alert), indent=None)
    else:
        name, state, severity, rule, resource, count, *_ = _row(alert)
        parts = [moment(alert.update_time), state, severity, rule, resource, f"count {count}", name]
        console.print(Text("  ").join(cell(part) for part in parts))


def _print_whole(answer: service.GetAlertResponse) -> None:
    alert = answer.alert
    _print_alerts([alert], Form.TABLE)
    condition = f"{alert.window.condition} (threshold {number(alert.window.threshold)})"
    window = f"{moment(alert.window.start_time)} to {moment(alert.window.end_time)}"
    console.print(cell(f"condition {condition} in the window {window}"))
    print_table(
        ["Time", "Level", "Service", "Message", "Trace"],
        [
            [
                moment(event.event_time),
                LogEvent.Level.Name(event.level),
                event.service,
                event.message,
                event.trace_id,
            ]
            for event in alert.samples
        ],
        title="Evidence",
        cut={"Service", "Message"},
    )
    print_table(
        ["Time", "What", "Channel", "Who", "Comment", "Trace"],
        [
            [
                moment(entry.create_time),
                AlertHistoryEntry.Kind.Name(entry.kind),
                entry.channel,
                entry.actor,
                entry.comment,
                entry.trace_id,
            ]
            for entry in answer.history
        ],
        title="History",
        cut={"Who", "Comment"},
    )
