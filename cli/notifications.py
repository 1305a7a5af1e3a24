"""tocsin notifications: what did not reach anybody."""

from typing import Annotated

import typer

from cli.client import DEADLINE, DEFAULT_SERVER, Server, connected
from cli.output import Form, Output, as_json, moment, print_json, print_table, show, styled
from tocsin.notifications.v1 import notification_service_pb2 as service
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, FailedNotification
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub

app = typer.Typer(no_args_is_help=True, help="Look after deliveries.")

_STATES = {"CLOSED": "green", "OPEN": "bold red", "HALF_OPEN": "yellow"}


@app.command()
def failed(
    channel_name: Annotated[str, typer.Option("--channel", help="Only of this channel.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many at most.")] = 50,
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Show deliveries that failed in the end and wait, the newest first."""
    request = service.ListFailedNotificationsRequest(channel=channel_name, page_size=limit)
    with connected(server, output) as channel:
        answer = NotificationServiceStub(channel).ListFailedNotifications(request, timeout=DEADLINE)
    _print_failed(list(answer.failed_notifications), output)


@app.command()
def retry(
    notification_id: Annotated[str, typer.Argument(help="The id, as `tocsin notifications failed` shows it.")],
    output: Output = Form.TABLE,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Try a failed delivery again at once."""
    request = service.RetryFailedNotificationRequest(id=notification_id)
    with connected(server, output) as channel:
        answer = NotificationServiceStub(channel).RetryFailedNotification(request, timeout=DEADLINE)
    row = answer.failed_notification
    show(row, output, lambda: _print_failed([row], output))


@app.command()
def breakers(output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Show each channel's circuit breaker."""
    with connected(server, output) as channel:
        request = service.ListCircuitBreakersRequest()
        answer = NotificationServiceStub(channel).ListCircuitBreakers(request, timeout=DEADLINE)
    _print_breakers(list(answer.circuit_breakers), output)


def _print_failed(rows: list[FailedNotification], output: Form) -> None:
    if output is Form.JSON:
        print_json([as_json(row) for row in rows])
        return
    print_table(
        ["ID", "Channel", "Status", "Last error", "Attempts", "Failed", "Alert"],
        [
            [
                row.id,
                row.channel,
                FailedNotification.Status.Name(row.status),
                row.last_error,
                str(row.attempt_count),
                moment(row.create_time),
                row.alert_id,
            ]
            for row in rows
        ],
        cut={"Channel", "Last error"},
    )


def _print_breakers(rows: list[CircuitBreaker], output: Form) -> None:
    if output is Form.JSON:
        print_json([as_json(row) for row in rows])
        return
    print_table(
        ["Channel", "State", "Failures", "Opens at", "Next probe"],
        [
            [
                row.channel,
                styled(CircuitBreaker.State.Name(row.state), _STATES),
                str(row.failure_count),
                str(row.failure_threshold),
                moment(row.probe_time),
            ]
            for row in rows
        ],
    )
