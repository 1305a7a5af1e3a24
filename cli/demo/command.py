"""tocsin demo: start, make trouble, look, stop."""

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import grpc
import typer

from cli.client import Exit
from cli.demo.report import is_accounted_for, show_alerts, show_complaints, show_files
from cli.demo.rest import Rest, RestError
from cli.demo.scenario import batches
from cli.demo.steps import FileSent, Seen, await_judged, fired, make_trouble, send_file, watch
from cli.output import complain, console
from stack.console import STACK_ERRORS, print_step
from stack.local_system import default_folder, start_stack, stop_stack
from stack.ports import Ports
from stack.wiring import Wiring

Log = Annotated[
    Path | None,
    typer.Option("--log", exists=True, dir_okay=False, help="A log file to send; absent: those of the servers."),
]


def demo(log: Log = None) -> None:
    """Start the real system on free ports, let it find trouble and tell about it, and stop it.

    It always runs on servers of its own: TOCSIN_KAFKA, TOCSIN_POSTGRES and TOCSIN_REDIS are left alone.
    Ends with 0 only when exactly the expected alerts came and each was delivered once to each channel of its route.
    """
    # Beside the folder of `tocsin up`, never inside: whoever stops that one stops all that lies in it.
    home = default_folder()
    folder = home.with_name(f"{home.name}-demo")
    stop_stack(print_step, folder=folder, purge=True)
    try:
        # Made-up trouble has no place among somebody's own events and alerts.
        wiring = start_stack(print_step, folder=folder, ports=Ports.free(), external={})
        is_good = _show(wiring, folder, log)
    except (RestError, http.client.HTTPException, grpc.RpcError, *STACK_ERRORS) as error:
        complain(f"the demo ended early: {error}")
        is_good = False
    finally:
        stop_stack(print_step, folder=folder)
    if not is_good:
        complain(f"not as expected; the logs are in {folder / 'logs'}")
        raise typer.Exit(Exit.REFUSED)
    console.print("All as expected.", style="bold green")


def _show(wiring: Wiring, folder: Path, log: Path | None) -> bool:
    edge = Rest(f"127.0.0.1:{wiring.ports.edge}")
    sinks = Rest(f"127.0.0.1:{wiring.ports.sinks}")
    seen = _trouble(edge, sinks)
    show_alerts(seen)
    show_complaints(seen.complaints)
    before = fired(edge)
    files = _files(folder, log)
    sent = [send_file(f"127.0.0.1:{wiring.ports.edge}", path) for path in files]
    expected = sum(len(batch) for batch in batches()) + sum(one.tally.accepted for one in sent)
    is_judged = await_judged(_judged(wiring.ports.evaluator_admin), expected)
    show_files(sent, fired(edge) - before)
    if not is_judged:
        complain(f"the evaluator has not judged all {expected:,} events")
    return not seen.complaints and is_judged and _all_accounted_for(sent)


def _trouble(edge: Rest, sinks: Rest) -> Seen:
    with console.status("sending trouble") as status:
        accepted = make_trouble(edge, status.update)
        print_step(f"{accepted} events accepted over REST in {len(batches())} batches")
        return watch(edge, sinks, status.update)


def _files(folder: Path, log: Path | None) -> list[Path]:
    """The file that was asked for, or what Kafka and PostgreSQL have just written."""
    if log is not None:
        return [log]
    return [path for name in ("kafka", "postgres") if (path := folder / "logs" / f"{name}.log").is_file()]


def _all_accounted_for(files: list[FileSent]) -> bool:
    lost = [sent.name for sent in files if not is_accounted_for(sent)]
    for name in lost:
        complain(f"{name}: not every line is accounted for")
    if not files:
        complain("there is no log of Kafka or PostgreSQL to send; --log names another")
    return not lost and bool(files)


def _judged(port: int) -> Callable[[], float]:
    """How many events the evaluator on this admin port has judged."""

    def ask() -> float:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("events_evaluated_total")]
        return sum(map(float, values))

    return ask
