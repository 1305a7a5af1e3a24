"""Routes files of tests: the example, with changes."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.notifier.core.channels.fields import References
from services.notifier.core.routes_file import RoutesError, read_routes
from services.notifier.core.routing import Routes
from stack.sink_addresses import sink_environment

EXAMPLE = Path(__file__).parents[3] / "services/notifier/routes.example.yaml"
ENVIRON = sink_environment("127.0.0.1", 9300, 9325, Path("authority.pem"))
SECRETS = ("SLACK_WEBHOOK_URL", "PAGERDUTY_ROUTING_KEY", "SMTP_USERNAME", "SMTP_PASSWORD", "WEBHOOK_SIGNING_KEY")
Change = Callable[[dict[str, Any]], object]


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    return deepcopy(found)


def read(changed: object, environ: dict[str, str] | None = None, files: dict[str, str] | None = None) -> Routes:
    def file(path: str) -> str:
        if path not in (files or {}):
            raise FileNotFoundError(path)
        return (files or {})[path]

    return read_routes(changed, References(environ=ENVIRON if environ is None else environ, read_file=file))


def problems(changed: object, **world: Any) -> list[str]:
    with pytest.raises(RoutesError) as refused:
        read(changed, **world)
    return refused.value.problems


def set_in(*path: str, to: object) -> Change:
    def change(found: dict[str, Any]) -> None:
        node = found
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = to

    return change


def drop(*path: str) -> Change:
    def change(found: dict[str, Any]) -> None:
        node = found
        for name in path[:-1]:
            node = node[name]
        del node[path[-1]]

    return change
