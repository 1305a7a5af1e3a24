"""tocsin notifications: deliveries that failed, and the circuit breakers of the channels."""

from typing import Annotated

import typer

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, new_request_id, open_channel
from cli.output import (
    OutputFormat,
    OutputOption,
    format_styled,
    format_timestamp,
    json_of,
    print_json,
    print_message,
    print_table,
)
from tocsin.notifications.v1 import notification_service_pb2 as service
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, FailedNotification
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub

app = typer.Typer(no_args_is_help=True, help="See failed deliveries and circuit breakers; retry deliveries.")

_BREAKER_STYLE = {"CLOSED": "green", "OPEN": "bold red", "HALF_OPEN": "yellow"}


@app.command("failed")
def list_failed(
    channel_name: Annotated[str, typer.Option("--channel", help="Only of this channel.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show deliveries that failed after all attempts, the newest first."""
    request = service.ListFailedNotificationsRequest(channel=channel_name, page_size=limit)
    with open_channel(server, output) as channel:
        response = NotificationServiceStub(channel).ListFailedNotifications(request, timeout=RPC_TIMEOUT_S)
    _print_failed(list(response.failed_notifications), output)


@app.command("retry")
def retry_failed(
    notification_id: Annotated[str, typer.Argument(help="The id, as `tocsin notifications failed` shows it.")],
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Retry a failed delivery at once."""
    request = service.RetryFailedNotificationRequest(id=notification_id, request_id=new_request_id())
    with open_channel(server, output) as channel:
        response = NotificationServiceStub(channel).RetryFailedNotification(request, timeout=RPC_TIMEOUT_S)
    row = response.failed_notification
    print_message(row, output, lambda: _print_failed([row], output))


@app.command("breakers")
def list_breakers(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show the circuit breaker of each channel."""
    request = service.ListCircuitBreakersRequest()
    with open_channel(server, output) as channel:
        response = NotificationServiceStub(channel).ListCircuitBreakers(request, timeout=RPC_TIMEOUT_S)
    _print_breakers(list(response.circuit_breakers), output)


def _print_failed(rows: list[FailedNotification], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json([json_of(row) for row in rows])
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
                format_timestamp(row.create_time),
                row.alert_id,
            ]
            for row in rows
        ],
        cut={"Channel", "Last error"},
    )


def _print_breakers(rows: list[CircuitBreaker], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json([json_of(row) for row in rows])
        return
    print_table(
        ["Channel", "State", "Failures", "Opens at", "Next probe"],
        [
            [
                row.channel,
                format_styled(CircuitBreaker.State.Name(row.state), _BREAKER_STYLE),
                str(row.failure_count),
                str(row.failure_threshold),
                format_timestamp(row.probe_time),
            ]
            for row in rows
        ],
    )
