"""`python -m stack.sinks`: all sinks as one process, until SIGTERM or SIGINT.

When they listen, `environment.json` in the folder has the variables with which the notifier reaches them, and one line
of JSON on standard output has their addresses.
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from stack.sinks.server import running_sinks


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder: Path = options.folder
    ports = {"http_port": options.port, "smtp_port": options.smtp_port}
    async with running_sinks(folder, host=options.host, **ports) as sinks:
        (folder / "environment.json").write_text(json.dumps(sinks.environment, indent=2) + "\n")
        ready = {"url": sinks.url, "smtp": f"{sinks.host}:{sinks.smtp_port}", "environment": sinks.environment}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m stack.sinks", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=9300, help="HTTP port; 0 takes a free one")
    parser.add_argument("--smtp-port", type=int, default=9325, help="SMTP port; 0 takes a free one")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the certificate and environment.json")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
