"""tocsin up, down, status: the whole system on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.client import ExitCode
from cli.output import OutputFormat, OutputOption, print_data, print_to_stderr, stdout
from stack.console import STACK_ERRORS, bring_down, bring_up, format_states
from stack.local_system import stack_status


def start_system(
    otlp: Annotated[str, typer.Option(help="Where traces go: host:port of an OTLP gRPC receiver.")] = "",
    routes: Annotated[
        Path | None, typer.Option(exists=True, help="A routes file. Without it notifications go to local sinks.")
    ] = None,
    *,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Only Kafka, PostgreSQL and Redis.")] = False,
) -> None:
    """Start Kafka, PostgreSQL, Redis, Envoy and the services, as far as they do not run yet."""
    with _exit_on_failure():
        bring_up(otlp=otlp, routes=routes, servers_only=servers_only)


def stop_system(*, purge: Annotated[bool, typer.Option("--purge", help="Also remove all data.")] = False) -> None:
    """Stop everything that `tocsin up` started."""
    with _exit_on_failure():
        bring_down(purge=purge)


def show_status(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show what runs. Exit code 3 when nothing does."""
    states = stack_status()
    if output.is_data:
        print_data([asdict(state) | {"log": str(state.log)} for state in states], output)
    else:
        stdout.print("\n".join(format_states(states)), soft_wrap=True)
    if not states:
        raise typer.Exit(ExitCode.UNREACHABLE)


@contextmanager
def _exit_on_failure() -> Iterator[None]:
    try:
        yield
    except STACK_ERRORS as failure:
        print_to_stderr(str(failure))
        raise typer.Exit(ExitCode.REFUSED) from None
