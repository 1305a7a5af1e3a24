"""tocsin up, down, status: the whole system on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.client import DEFAULT_SERVER, ExitCode
from cli.output import OutputFormat, OutputOption, print_data, print_to_stderr, stdout
from cli.rule_status import print_set_aside, set_aside_rules
from stack.console import STACK_ERRORS, bring_down, bring_up, exit_code_of, format_states, words_of_stack_error
from stack.local_system import stack_status
from stack.start_options import RequestedOptions


def _existing_file(path: str | None) -> str | None:
    """Refuse a path without a file; an empty one stands for none."""
    if path and not Path(path).is_file():
        raise typer.BadParameter(f"there is no file {path!r}")
    return path


def start_system(
    otlp: Annotated[
        str | None, typer.Option(help='Where traces go: host:port of an OTLP gRPC receiver; "" ends that.')
    ] = None,
    routes: Annotated[
        str | None,
        typer.Option(
            callback=_existing_file,
            help='A routes file; "" ends its use. Without one notifications go to local sinks.',
        ),
    ] = None,
    *,
    sinks: Annotated[
        bool | None, typer.Option("--sinks/--no-sinks", help="Run the local sinks beside a routes file too.")
    ] = None,
    secure: Annotated[
        bool | None,
        typer.Option("--secure/--no-secure", help="With TLS, certificates, keys and passwords, made on the spot."),
    ] = None,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Only Kafka, PostgreSQL and Redis.")] = False,
) -> None:
    """Start Kafka, PostgreSQL, Redis, Envoy and the services, as far as they do not run yet.

    Options, and ports and settings in the environment, stay as they were at the last start until they are given again;
    an empty value removes one.
    """
    with _exit_on_failure():
        bring_up(RequestedOptions(otlp=otlp, routes=routes, sinks=sinks, secure=secure), servers_only=servers_only)


def stop_system(*, purge: Annotated[bool, typer.Option("--purge", help="Also remove all data.")] = False) -> None:
    """Stop everything that `tocsin up` started."""
    with _exit_on_failure():
        bring_down(purge=purge)


def show_status(output: OutputOption = OutputFormat.TABLE) -> None:
    """Show what runs and serves, and what does not; and the rules that evaluators have set aside.

    Exit code 1 when something does not run or serve, 3 when nothing runs.
    """
    with _exit_on_failure():
        states = stack_status()
    if output.is_data:
        print_data([asdict(state) | {"log": str(state.log)} for state in states], output)
    else:
        stdout.print("\n".join(format_states(states)), soft_wrap=True)
        if any(state.name == "manager" and state.pid and not state.problem for state in states):
            print_set_aside(set_aside_rules(DEFAULT_SERVER))
    if code := exit_code_of(states):
        raise typer.Exit(code)


@contextmanager
def _exit_on_failure() -> Iterator[None]:
    try:
        yield
    except STACK_ERRORS as failure:
        print_to_stderr(words_of_stack_error(failure))
        raise typer.Exit(ExitCode.REFUSED) from None
