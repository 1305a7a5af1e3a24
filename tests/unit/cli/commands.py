"""Commands run by tests, and their errors."""

import json
from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner, Result

from cli.main import app
from tests.fakes.ingest_server import IngestServer

Command = Callable[..., Result]
# Of the alerts and failed notifications of the fixtures.
IDS = ("01234567-89ab-7def-8123-456789abcdef", "11234567-89ab-7def-8123-456789abcdef")
RULE = {
    "name": "first",
    "description": "what to do",
    "type": "ERROR_THRESHOLD",
    "threshold": 1_000_000,
    "windowMinutes": 5,
    "severity": "HIGH",
    "labels": {"team": "cli", "tier": "1"},
}


def error_of(done: Result) -> Any:
    """What a command that was asked for JSON says on standard error."""
    return json.loads(done.stderr)["error"]


def sent(ingest: IngestServer, *arguments: str) -> Result:
    """Send files to this server."""
    return CliRunner().invoke(app, ["send", *arguments, "--server", ingest.address])
