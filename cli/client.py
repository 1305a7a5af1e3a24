"""Calling the services, and saying what went wrong in words."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, NoReturn

import grpc
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.output import Detail, Form, Problem, tell
from services.contract.timestamps import timedelta_of
from stack.ports import Ports


class Exit(IntEnum):
    """What the command's exit codes mean."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3


def default_server(environ: Mapping[str, str] = os.environ) -> str:
    """The edge on this machine, on the port that TOCSIN_PORT_EDGE moves it to."""
    return f"127.0.0.1:{environ.get('TOCSIN_PORT_EDGE') or Ports().edge}"


Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="TOCSIN_SERVER",
        help="Where Tocsin answers gRPC: host:port. Without it and without TOCSIN_SERVER: 127.0.0.1, on the port of "
        "TOCSIN_PORT_EDGE.",
    ),
]
DEFAULT_SERVER = default_server()
# Seconds that a call may take.
DEADLINE = 15.0

_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


@contextmanager
def connected(server: str, form: Form = Form.TABLE) -> Iterator[grpc.Channel]:
    """A channel to the server; a call that fails inside ends the command with a clear text and exit code."""
    with grpc.insecure_channel(server) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            fail(error, server, form)


def fail(error: grpc.RpcError, server: str, form: Form = Form.TABLE) -> NoReturn:
    """End the command: 3 when the server could not be reached or could not answer, 1 when it refused."""
    tell(problem_of(error), form, where=server)
    raise typer.Exit(Exit.UNREACHABLE if error.code() in _UNREACHABLE else Exit.REFUSED) from None


def problem_of(error: grpc.RpcError) -> Problem:
    """What the server says is wrong."""
    details = [Detail(field=field, description=description) for field, description in violations(error)]
    return Problem(code=error.code().name, message=error.details() or "", details=details)


def violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    """Each field that the server found wrong, with what it expected."""
    found = error_details_pb2.BadRequest()
    for detail in _details(error):
        if detail.Unpack(found):
            return [(violation.field, violation.description) for violation in found.field_violations]
    return []


def retry_delay(error: grpc.RpcError) -> float | None:
    """The seconds after which the server wants to be asked again, None when it says nothing."""
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
