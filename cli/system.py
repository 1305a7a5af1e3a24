"""tocsin up, down, status: the whole system on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Exit
from cli.output import Form, Output, complain, console, print_json
from stack.console import STACK_ERRORS, bring_down, bring_up, format_states
from stack.local_system import stack_status


def up(
    otlp: Annotated[str, typer.Option(help="Where traces go, as host:port of an OTLP gRPC receiver.")] = "",
    routes: Annotated[
        Path | None, typer.Option(exists=True, help="A routes file; absent: notifications go to local sinks.")
    ] = None,
    *,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Kafka, PostgreSQL and Redis alone.")] = False,
) -> None:
    """Start Kafka, PostgreSQL, Redis, Envoy and the services, as far as they do not run yet."""
    with _failing_in_words():
        bring_up(otlp=otlp, routes=routes, servers_only=servers_only)


def down(*, purge: Annotated[bool, typer.Option("--purge", help="Also remove all data.")] = False) -> None:
    """Stop everything that `tocsin up` started."""
    with _failing_in_words():
        bring_down(purge=purge)


def status(output: Output = Form.TABLE) -> None:
    """Show what runs. Ends with 3 when nothing does."""
    states = stack_status()
    if output is Form.JSON:
        print_json([asdict(state) | {"log": str(state.log)} for state in states])
    else:
        console.print("\n".join(format_states(states)), soft_wrap=True)
    if not states:
        raise typer.Exit(Exit.UNREACHABLE)


@contextmanager
def _failing_in_words() -> Iterator[None]:
    try:
        yield
    except STACK_ERRORS as failure:
        complain(str(failure))
        raise typer.Exit(Exit.REFUSED) from None
