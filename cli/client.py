"""Calls to the services, and how a failed call ends the command."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import uuid4

import grpc
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.credentials import channel_with_credentials, sends_key_in_plaintext
from cli.output import ErrorDetail, ErrorReport, OutputFormat, print_error, print_to_stderr
from services.contract.paging import MAX_PAGE_SIZE
from services.contract.timestamps import timedelta_of
from stack.local_system import default_folder
from stack.ports import port_variable
from stack.wiring import stored_wiring


class ExitCode(IntEnum):
    """What the exit codes of all commands mean."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3


def default_server(environ: Mapping[str, str] = os.environ) -> str:
    """Return the address of the edge on this machine: on the port of TOCSIN_PORT_EDGE, else that of the last `up`."""
    port = environ.get(port_variable("edge")) or stored_wiring(default_folder(environ)).ports.edge
    return f"127.0.0.1:{port}"


def require_host_and_port(server: str) -> str:
    """Return the address of a server: a URL would be looked up as a name, and a name alone would mean port 443."""
    if ":" not in server or server.startswith(("http://", "https://")):
        raise typer.BadParameter(f'expected host:port, found "{server}"')
    return server


ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="TOCSIN_SERVER",
        callback=require_host_and_port,
        help="Address of Tocsin, host:port. Without it, that of the last `tocsin up` here.",
    ),
]
DEFAULT_SERVER = default_server()
RPC_TIMEOUT_S = 15.0

_Row = TypeVar("_Row")
# A channel whose server was away for long tries again that often.
_RECONNECT_MS = 5_000

# Calls with a request_id, which the server recognises when they are repeated.
_REPEATABLE = {
    "tocsin.rules.v1.AlertRuleService": (
        "CreateAlertRule",
        "UpdateAlertRule",
        "ReplaceAlertRule",
        "EnableAlertRule",
        "DisableAlertRule",
    ),
    "tocsin.catalog.v1.CatalogService": ("ApplyServices",),
    "tocsin.catalog.v1.LearnedEdgeService": ("ConfirmLearnedEdge", "IgnoreLearnedEdge"),
    "tocsin.changes.v1.ChangeService": ("RecordChange",),
    "tocsin.alerts.v1.AlertService": ("AcknowledgeAlert", "ResolveAlert"),
    "tocsin.silences.v1.SilenceService": ("CreateSilence", "ExpireSilence"),
    "tocsin.oncall.v1.OnCallService": ("ApplyOnCall", "CreateOverride"),
    "tocsin.routing.v1.RoutingService": ("SetRouting", "RollbackRouting"),
    "tocsin.notifications.v1.NotificationService": ("RetryFailedNotification",),
    "tocsin.access.v1.AccessService": ("RevokeKey",),
}
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.2s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method} for service, methods in _REPEATABLE.items() for method in methods
            ],
            "retryPolicy": _RETRY_POLICY,
        }
    ]
}

# How the gRPC library's own words begin where no server answered, and what those that follow mean.
_NO_CONNECTION = ("failed to connect to all addresses", "errors resolving", "Received http2 header")
_MEANINGS = {
    "errors resolving": "this host or port cannot be found",
    "Connection refused": "nothing listens there",
    "Tls handshake failed": "there is no TLS, or a certificate that --ca-file does not trust",
    "HTTP/2": "what answers there is not Tocsin",
    "http2": "what answers there is not Tocsin",
    "": "the connection was closed; a server with TLS needs --ca-file",
}
# Other words of the library, by how they begin.
_OTHER_WORDS = {
    "Deadline Exceeded": "no answer in time",
    "Stream removed": "the connection was closed",
    "Socket closed": "the connection was closed",
    "Method not found!": "what answers there does not know this call: a service in place of Envoy, or an older release",
}
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


@contextmanager
def open_channel(server: str, output: OutputFormat = OutputFormat.TABLE) -> Iterator[grpc.Channel]:
    """Open a channel to the server; a call that fails inside ends the command with an error and an exit code."""
    options = [("grpc.service_config", json.dumps(_SERVICE_CONFIG)), ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS)]
    if sends_key_in_plaintext(server):
        print_to_stderr(f"warning: the key goes to {server} in plaintext; --ca-file calls by TLS")
    with channel_with_credentials(server, options) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            _exit_with(error, server, output)


def list_rows(
    call: Any,
    request: Any,
    rows_of: Callable[[Any], Iterable[_Row]],
    *,
    limit: int | None = None,
    timeout_s: float = RPC_TIMEOUT_S,
) -> list[_Row]:
    """Return the rows of a list rpc, page by page: all of them, or the first `limit`; `timeout_s` is for each page.

    `request` is changed: its page size and page token are set for each call.
    """
    rows: list[_Row] = []
    while limit is None or len(rows) < limit:
        request.page_size = MAX_PAGE_SIZE if limit is None else min(MAX_PAGE_SIZE, limit - len(rows))
        page = call(request, timeout=timeout_s)
        rows += rows_of(page)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    return rows


def new_request_id() -> str:
    """Return an id by which the server recognises repetitions of one call."""
    return str(uuid4())


def _exit_with(error: grpc.RpcError, server: str, output: OutputFormat) -> NoReturn:
    """End the command: 3 when the server cannot be reached or cannot answer, 1 when it refuses."""
    report = error_report_of(error)
    if output.is_data and (error.details() or "").startswith(_NO_CONNECTION):
        report = replace(report, message=f"{server}: {report.message}")
    print_error(report, output, source=server)
    raise typer.Exit(ExitCode.UNREACHABLE if error.code() in _UNREACHABLE else ExitCode.REFUSED) from None


def error_report_of(error: grpc.RpcError) -> ErrorReport:
    """Return what the server says is wrong."""
    details = [ErrorDetail(field=field, description=description) for field, description in field_violations(error)]
    return ErrorReport(code=error.code().name, message=_message_of(error), details=details)


def words_of_call_error(error: grpc.RpcError) -> str:
    """Return the server's sentence, or what is known where none answered."""
    message = error.details() or ""
    if message.startswith(_NO_CONNECTION):
        return next(meaning for words, meaning in _MEANINGS.items() if words in message)
    return next((meaning for words, meaning in _OTHER_WORDS.items() if message.startswith(words)), message)


def _message_of(error: grpc.RpcError) -> str:
    hint = "; `tocsin status` shows what runs on this machine, --server or TOCSIN_SERVER names another"
    is_without_server = (error.details() or "").startswith(_NO_CONNECTION)
    return words_of_call_error(error) + (hint if is_without_server else "")


def field_violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    """Return each field that the server found wrong, with a description."""
    bad_request = error_details_pb2.BadRequest()
    for detail in _details(error):
        if detail.Unpack(bad_request):
            return [(violation.field, violation.description) for violation in bad_request.field_violations]
    return []


def failure_reason_of(error: grpc.RpcError) -> str:
    """Return the stable reason that the server gives, empty when it gives none."""
    info = error_details_pb2.ErrorInfo()
    for detail in _details(error):
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def retry_delay_of(error: grpc.RpcError) -> float | None:
    """Return the seconds after which the server wants a retry, None when it names none."""
    info = error_details_pb2.RetryInfo()
    for detail in _details(error):
        if detail.Unpack(info):
            return timedelta_of(info.retry_delay).total_seconds()
    return None


def _details(error: grpc.RpcError) -> list:  # type: ignore[type-arg]  # google.protobuf.Any, untyped here
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a failed call is a Call as well
    except (ValueError, AttributeError):
        return []
    return list(status.details) if status else []
