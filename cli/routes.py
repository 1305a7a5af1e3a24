"""tocsin routes: whether the notifier takes a routes file, and which channels an alert would go to."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.alerts import SeverityChoice, parse_labels
from cli.client import ExitCode
from cli.output import ErrorDetail, ErrorReport, OutputFormat, OutputOption, print_data, print_error, stdout
from stack.local_system import default_folder
from stack.program import StartError
from stack.routes_check import RoutesReport, ask_notifier
from stack.sink_addresses import BESIDE_PREFIX, sink_variables
from stack.start_options import StartOptions
from stack.start_plan import current_ports

app = typer.Typer(no_args_is_help=True, help="Check a routes file, and try where an alert would go. Nothing is sent.")

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The routes file.")]
SinksOption = Annotated[bool, typer.Option("--sinks", help="With the variables that `up --sinks` gives to it.")]


@app.command("check")
def check_file(file: FileArgument, *, sinks: SinksOption = False, output: OutputOption = OutputFormat.TABLE) -> None:
    """Check a routes file as the notifier reads it, with the variables of this shell; print all problems.

    Exit code 1 when there are some.
    """
    _report(file, output, sinks=sinks)
    if output.is_data:
        print_data({"problems": []}, output)
    else:
        stdout.print(f"{file}: the notifier takes it", soft_wrap=True)


@app.command("test")
def show_channels(
    file: FileArgument,
    severity: Annotated[SeverityChoice, typer.Option(case_sensitive=False, help="Of the alert.")],
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Of the alert's rule; may be repeated.")
    ] = None,
    *,
    sinks: SinksOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show which channels an alert with this severity and these labels would go to."""
    options = [f"--severity={severity}", *(f"--label={one}" for one in parse_labels(label))]
    report = _report(file, output, *options, sinks=sinks)
    if output.is_data:
        print_data([asdict(channel) | {"fallback": list(channel.fallback)} for channel in report.channels], output)
        return
    if not report.channels:
        stdout.print("no channel: the file has no routes", soft_wrap=True)
    for channel in report.channels:
        fallback = f"  (when it fails: {', '.join(channel.fallback)})" if channel.fallback else ""
        stdout.print(f"{channel.name}{fallback}", soft_wrap=True)


def _report(file: Path, output: OutputFormat, *alert: str, sinks: bool) -> RoutesReport:
    """Return the notifier's report; its problems end the command."""
    choices = StartOptions(routes=file, sinks=sinks)
    home = default_folder()
    variables = sink_variables(choices, current_ports(home, os.environ), home / "data" / "sinks")
    try:
        report = ask_notifier(file, variables, *alert)
    except StartError as failure:
        print_error(ErrorReport(code="INTERNAL", message=str(failure)), output, source=str(file))
        raise typer.Exit(ExitCode.REFUSED) from None
    if report.problems:
        details = [_detail(problem) for problem in report.problems]
        names_sinks = not sinks and any(f"refers to {BESIDE_PREFIX}" in problem for problem in report.problems)
        hint = "; --sinks sets the variables of the local sinks" if names_sinks else ""
        message = f"the notifier does not take this file{hint}"
        print_error(ErrorReport(code="INVALID_ARGUMENT", message=message, details=details), output, source=str(file))
        raise typer.Exit(ExitCode.REFUSED)
    return report


def _detail(problem: str) -> ErrorDetail:
    """Split a problem into the place in the file and what is wrong there."""
    place, _, description = problem.partition(": ")
    return ErrorDetail(field=place, description=description)
