"""`python -m stack up | down | status`: the local system without the `tocsin` command, and servers for test runs."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stack.claim import ClaimError
from stack.doors import doors, server_doors
from stack.jars import JarsError
from stack.processes import StartError
from stack.shared import Servers
from stack.up import down, status, up

_FAILED, _INTERRUPTED = 1, 130

_console = Console(highlight=False)


def main(arguments: list[str]) -> int:
    """Do what the command line says and give the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.act(chosen))
    except (StartError, JarsError, ClaimError, OSError, ValueError) as failure:
        _console.print(str(failure), style="red", markup=False)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start everything and leave it running")
    starting.add_argument("--otlp", default="", metavar="HOST:PORT", help="where traces go")
    starting.add_argument("--routes", type=Path, help="where notifications go, instead of to local sinks")
    starting.add_argument("--servers-only", action="store_true", help="Kafka, PostgreSQL and Redis, no services")
    starting.set_defaults(act=_up)
    stopping = commands.add_parser("down", help="stop everything")
    stopping.add_argument("--purge", action="store_true", help="remove all data as well")
    stopping.set_defaults(act=_down)
    commands.add_parser("status", help="list what runs").set_defaults(act=_status)
    shared = commands.add_parser("test-servers", help="keep servers running that several test runs share")
    shared.add_argument("folder", type=Path)
    shared.set_defaults(act=_test_servers)
    return parser


def _up(chosen: argparse.Namespace) -> int:
    with _console.status("starting") as shown:

        def progress(text: str) -> None:
            shown.update(text)
            _console.print(f"  {text}", style="dim")

        how = {"otlp": chosen.otlp, "routes": chosen.routes, "servers_only": chosen.servers_only}
        connected = up(progress, **how)
    for door in server_doors(connected) if chosen.servers_only else doors(connected):
        # Never cut or wrapped: these lines are there to be copied.
        _console.print(f"[bold]{door.name:<13}[/] {door.address}\n{'':<13} [dim]{door.example}[/]", soft_wrap=True)
    return 0


def _down(chosen: argparse.Namespace) -> int:
    stopped = down(lambda text: _console.print(f"  {text}", style="dim"), purge=chosen.purge)
    if not stopped:
        _console.print("nothing was running")
    return 0


def _status(_: argparse.Namespace) -> int:
    running = status()
    table = Table("program", "pid", "log", box=None, pad_edge=False)
    for state in running:
        table.add_row(state.name, str(state.pid), str(state.log))
    _console.print(table if running else "nothing runs")
    return 0


def _test_servers(chosen: argparse.Namespace) -> int:
    servers = Servers(chosen.folder, _console.print)
    try:
        servers.announce()
        _console.print(f"TOCSIN_TEST_SERVERS={chosen.folder}  (Ctrl-C or SIGTERM ends them)")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        servers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
