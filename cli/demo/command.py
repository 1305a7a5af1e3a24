"""tocsin demo: start the system, send a scenario and log files, show what came of it, stop."""

import http.client
from pathlib import Path
from typing import Annotated

import grpc
import typer

from cli.client import ExitCode
from cli.demo.incident_act import ACT_EVENTS, ActError, ActResult, play
from cli.demo.report import has_every_line, print_demo_alerts, print_files, print_incident_act
from cli.demo.scenario import event_batches
from cli.demo.steps import (
    DemoResult,
    RestClient,
    RestError,
    SentFile,
    await_evaluated,
    await_results,
    count_alerts,
    send_log_file,
    send_scenario,
)
from cli.output import print_to_stderr, stdout
from stack.console import STACK_ERRORS, print_step, words_of_stack_error
from stack.local_system import default_folder, start_stack, stop_stack
from stack.ports import Ports
from stack.wiring import Wiring

LogOption = Annotated[
    Path | None,
    typer.Option(
        "--log", exists=True, dir_okay=False, help="A log file to send. Without it: those of Kafka and PostgreSQL."
    ),
]


def demo(log: LogOption = None) -> None:
    """Start the real system on free ports, send it two scenarios, show the alerts and deliveries, and stop it.

    First three services fail for reasons of their own. Then a database fails, and six services that depend on it: one
    incident, one page, the next ones when nobody acknowledges, and an end that all are told of.

    It always runs on servers of its own: TOCSIN_KAFKA, TOCSIN_POSTGRES and TOCSIN_REDIS are ignored.
    Exit code 0 only when exactly the expected alerts fired and each was delivered once to each channel of its route.
    """
    # Beside the folder of `tocsin up`, never inside: `tocsin down` stops everything inside its folder.
    home = default_folder()
    folder = home.with_name(f"{home.name}-demo")
    stop_stack(print_step, folder=folder, purge=True)
    try:
        # An invented scenario has no place among the user's own events and alerts.
        wiring = start_stack(print_step, folder=folder, ports=Ports.free(), external={})
        is_as_expected = _run(wiring, folder, log)
    except (ActError, RestError, http.client.HTTPException, grpc.RpcError, *STACK_ERRORS) as error:
        print_to_stderr(f"the demo ended early: {words_of_stack_error(error)}")
        is_as_expected = False
    finally:
        stop_stack(print_step, folder=folder)
    if not is_as_expected:
        print_to_stderr(f"not as expected; the logs are in {folder / 'logs'}")
        raise typer.Exit(ExitCode.REFUSED)
    stdout.print("All as expected.", style="bold green")


def _run(wiring: Wiring, folder: Path, log: Path | None) -> bool:
    """Run all steps, and return whether everything is as expected."""
    edge, sinks = (RestClient(f"127.0.0.1:{port}") for port in (wiring.ports.edge, wiring.ports.sinks))
    result = _run_scenario(edge, sinks)
    print_demo_alerts(result)
    act = _run_incident_act(edge, sinks)
    print_incident_act(act)
    differences = [*result.differences, *act.differences]
    for difference in differences:
        print_to_stderr(difference)
    alerts_before = count_alerts(edge)
    files = [send_log_file(f"127.0.0.1:{wiring.ports.edge}", path) for path in _files_to_send(folder, log)]
    events = sum(map(len, event_batches())) + ACT_EVENTS + sum(file.summary.accepted for file in files)
    is_evaluated = await_evaluated(wiring.ports.evaluator_admin, events)
    print_files(files, count_alerts(edge) - alerts_before)
    if not is_evaluated:
        print_to_stderr(f"the evaluator has not evaluated all {events:,} events")
    return not differences and is_evaluated and _have_every_line(files)


def _run_scenario(edge: RestClient, sinks: RestClient) -> DemoResult:
    with stdout.status("sending the scenario") as status:
        accepted = send_scenario(edge, status.update)
        print_step(f"{accepted} events accepted over REST in {len(event_batches())} batches")
        return await_results(edge, sinks, status.update)


def _run_incident_act(edge: RestClient, sinks: RestClient) -> ActResult:
    with stdout.status("a database fails") as status:
        return play(edge, sinks, status.update)


def _files_to_send(folder: Path, log: Path | None) -> list[Path]:
    """Return the user's file, or what Kafka and PostgreSQL have just logged."""
    if log is not None:
        return [log]
    return [path for name in ("kafka", "postgres") if (path := folder / "logs" / f"{name}.log").is_file()]


def _have_every_line(files: list[SentFile]) -> bool:
    incomplete = [file.name for file in files if not has_every_line(file)]
    for name in incomplete:
        print_to_stderr(f"{name}: some lines became neither events nor parts of events, and were not refused")
    if not files:
        print_to_stderr("there is no log of Kafka or PostgreSQL to send; --log names another file")
    return not incomplete and bool(files)
