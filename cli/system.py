"""tocsin up, down, status: the whole system on this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Exit
from cli.output import Form, Output, complain, console, plain, print_json, print_table
from stack import up as stack
from stack.claim import ClaimError
from stack.doors import doors
from stack.jars import JarsError
from stack.processes import StartError

# What can go wrong while the system starts; each has a text for a person.
START_ERRORS = (StartError, JarsError, ClaimError)


def up(
    otlp: Annotated[str, typer.Option(help="Where traces go, as host:port of an OTLP gRPC receiver.")] = "",
    routes: Annotated[
        Path | None, typer.Option(exists=True, help="A routes file; absent: notifications go to local sinks.")
    ] = None,
) -> None:
    """Start Kafka, PostgreSQL, Redis, Envoy and the services, as far as they do not run yet."""
    try:
        wiring = stack.up(_say, otlp=otlp, routes=routes)
    except (OSError, *START_ERRORS) as error:
        complain(str(error))
        raise typer.Exit(Exit.REFUSED) from None
    rows = [[door.name, plain(door.address), plain(door.example)] for door in doors(wiring)]
    print_table(["Door", "Address", "Try"], rows)


def down(*, purge: Annotated[bool, typer.Option("--purge", help="Also remove all data.")] = False) -> None:
    """Stop everything that `tocsin up` started."""
    stopped = stack.down(_say, purge=purge)
    _say(f"{stopped} programs stopped" if stopped else "nothing was running")


def status(output: Output = Form.TABLE) -> None:
    """Show what runs. Ends with 3 when nothing does."""
    states = stack.status()
    if output is Form.JSON:
        print_json([asdict(state) | {"log": str(state.log)} for state in states])
    else:
        print_table(["Program", "Pid", "Log"], [[one.name, str(one.pid), plain(one.log)] for one in states])
    if not states:
        raise typer.Exit(Exit.UNREACHABLE)


def _say(text: str) -> None:
    console.print(f"· {text}", markup=False, highlight=False)
