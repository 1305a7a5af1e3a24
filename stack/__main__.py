"""`python -m stack`: the local system without the `tocsin` command, and servers for test runs."""

import argparse
import signal
import sys
from pathlib import Path

from stack.shared import Servers


def main(arguments: list[str]) -> int:
    """Do what the command line says and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    servers = commands.add_parser("test-servers", help="keep servers running that several test runs share")
    servers.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    return _test_servers(chosen.folder)


def _test_servers(folder: Path) -> int:
    servers = Servers(folder, print)
    try:
        servers.announce()
        print(f"TOCSIN_TEST_SERVERS={folder}  (Ctrl-C or SIGTERM ends them)", flush=True)  # noqa: T201
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        servers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
