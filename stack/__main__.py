"""`python -m stack up | down | status`: the local system without the `tocsin` command, and servers for test runs.

`up` keeps the options, ports and settings of the last start that are not given. Exit codes: 0 done, 1 refused, 2 wrong
usage; of `status`: 0 all runs, 1 something that should run does not, 3 nothing runs.
"""

import argparse
import signal
import sys
from pathlib import Path

from stack.console import (
    STACK_ERRORS,
    bring_down,
    bring_up,
    exit_code_of,
    format_states,
    terminal,
    words_of_stack_error,
)
from stack.local_system import stack_status
from stack.start_options import RequestedOptions
from stack.testing import Servers

_FAILED, _INTERRUPTED = 1, 130


def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.act(chosen))
    except STACK_ERRORS as failure:
        terminal.print(words_of_stack_error(failure), style="red", soft_wrap=True)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start everything and leave it running")
    starting.add_argument("--otlp", metavar="HOST:PORT", help='where traces go; "" ends that')
    starting.add_argument(
        "--routes", metavar="FILE", help='where notifications go, instead of to local sinks; "" ends it'
    )
    starting.add_argument(
        "--sinks", action=argparse.BooleanOptionalAction, help="run the local sinks beside a routes file too"
    )
    starting.add_argument(
        "--secure", action=argparse.BooleanOptionalAction, help="with TLS, certificates, keys and passwords"
    )
    starting.add_argument("--servers-only", action="store_true", help="Kafka, PostgreSQL and Redis, no services")
    starting.set_defaults(act=_up)
    stopping = commands.add_parser("down", help="stop everything")
    stopping.add_argument("--purge", action="store_true", help="remove all data as well")
    stopping.set_defaults(act=_down)
    commands.add_parser("status", help="list what runs, and what should and does not").set_defaults(act=_status)
    shared = commands.add_parser("test-servers", help="keep servers running that several test runs share")
    shared.add_argument("folder", type=Path)
    shared.set_defaults(act=_test_servers)
    return parser


def _up(chosen: argparse.Namespace) -> int:
    bring_up(
        RequestedOptions(otlp=chosen.otlp, routes=chosen.routes, sinks=chosen.sinks, secure=chosen.secure),
        servers_only=chosen.servers_only,
    )
    return 0


def _down(chosen: argparse.Namespace) -> int:
    bring_down(purge=chosen.purge)
    return 0


def _status(_: argparse.Namespace) -> int:
    states = stack_status()
    terminal.print("\n".join(format_states(states)), soft_wrap=True)
    return exit_code_of(states)


def _test_servers(chosen: argparse.Namespace) -> int:
    servers = Servers(chosen.folder, terminal.print)
    signals = {signal.SIGINT, signal.SIGTERM}
    try:
        servers.start_shared()
        # Blocked, or SIGTERM would end this process before it stops the servers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        terminal.print(f"TOCSIN_TEST_SERVERS={chosen.folder}  (Ctrl-C or SIGTERM ends them)")
        signal.sigwait(signals)
    finally:
        servers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
