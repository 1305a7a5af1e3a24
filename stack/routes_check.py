"""Have the notifier read a routes file, in a process of its own: services are met on the wire only."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.program import StartError
from stack.wiring import python_environ


class RoutesFileError(Exception):
    """A routes file that cannot be used; the text names all of its problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedChannel:
    """A channel that an alert goes to, and those that take its place when it has failed."""

    name: str
    fallback: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesReport:
    """What the notifier says of a routes file: its problems, or where one alert would go."""

    problems: tuple[str, ...] = ()
    channels: tuple[RoutedChannel, ...] = field(default=())


def ask_notifier(file: Path, variables: Mapping[str, str], *alert: str) -> RoutesReport:
    """Return the notifier's report; `variables` come beside those of this process, `alert` are options of its check."""
    command = [sys.executable, "-m", "services.notifier", "--check-routes", str(file.resolve()), *alert]
    environ = {**os.environ, **variables, **python_environ()}
    asked = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    try:
        return read_report(asked.stdout)
    except (ValueError, KeyError, TypeError):
        raise StartError(f"the notifier cannot check {file}:\n{asked.stderr or asked.stdout}") from None


def read_report(text: str) -> RoutesReport:
    """Return the report in the notifier's one line of JSON. Raise ValueError, KeyError or TypeError."""
    record = json.loads(text)
    channels = tuple(RoutedChannel(name=one["name"], fallback=tuple(one["fallback"])) for one in record["channels"])
    return RoutesReport(problems=tuple(record["problems"]), channels=channels)


def refuse_wrong_routes(file: Path, variables: Mapping[str, str]) -> None:
    """Raise RoutesFileError that names all problems of the file, unset variables among them."""
    problems = ask_notifier(file, variables).problems
    if problems:
        lines = [f"nothing was started or stopped, since {file} cannot be used:", *problems]
        raise RoutesFileError("\n  ".join(lines))
