"""Commands run by tests, and their errors."""

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

Command = Callable[..., Result]


def error_of(done: Result) -> Any:
    """What a command that was asked for JSON says on standard error."""
    return json.loads(done.stderr)["error"]
