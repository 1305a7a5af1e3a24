"""tocsin notifications: what did not reach anybody."""

from typing import Annotated

import typer

from cli.client import DEADLINE, DEFAULT_SERVER, Server, connected
from cli.output import Form, Output, as_json, moment, plain, print_json, print_table, show
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
    with connected(server) as channel:
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
    with connected(server) as channel:
        answer = NotificationServiceStub(channel).RetryFailedNotification(request, timeout=DEADLINE)
    _print_failed([answer.failed_notification], output)


@app.command()
def breakers(output: Output = Form.TABLE, server: Server = DEFAULT_SERVER) -> None:
    """Show each channel's circuit breaker."""
    with connected(server) as channel:
        request = service.ListCircuitBreakersRequest()
        answer = NotificationServiceStub(channel).ListCircuitBreakers(request, timeout=DEADLINE)
    show(answer, output, lambda: _print_breakers(list(answer.circuit_breakers)))


def _print_failed(rows: list[FailedNotification], output: Form) -> None:
    if output is Form.JSON:
        print_json([as_json(row) for row in rows])
        return
    print_table(
        ["ID", "Channel", "Alert", "Status", "Attempts", "Last error", "Failed"],
        [
            [
                row.id,
                plain(row.channel),
                row.alert_id,
                FailedNotification.Status.Name(row.status),
                str(row.attempt_count),
                plain(row.last_error),
                moment(row.create_time),
            ]
            for row in rows
        ],
    )


def _print_breakers(rows: list[CircuitBreaker]) -> None:
    print_table(
        ["Channel", "State", "Failures", "Opens at", "Next probe"],
        [
            [
                plain(row.channel),
                f"[{_STATES[CircuitBreaker.State.Name(row.state)]}]{CircuitBreaker.State.Name(row.state)}[/]",
                str(row.failure_count),
                str(row.failure_threshold),
                moment(row.probe_time),
            ]
            for row in rows
        ],
    )
