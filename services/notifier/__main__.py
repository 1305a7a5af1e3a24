"""Run the notifier: `python -m services.notifier`. With `--check-routes FILE` it reads a routes file and ends.

The check prints one line of JSON: `problems`, and with `--severity` and `--label NAME=VALUE` the `channels` to which an
alert like this would go. Exit codes: 0 without problems, 2 with some.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from services.chassis.imports import uncollected_imports

with uncollected_imports():
    from services.chassis.lifecycle import main
    from services.domain.severity import Severity
    from services.notifier.core.routes_file import RoutesError
    from services.notifier.core.routing import describe_channels
    from services.notifier.settings import PREFIX, Settings, load_routes

_CHECK = "--check-routes"
_EXIT_PROBLEMS = 2


def check_routes(arguments: list[str]) -> int:
    """Print what is wrong with a routes file, or where an alert would go; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.notifier")
    parser.add_argument(_CHECK, type=Path, required=True, metavar="FILE", help="the routes file")
    parser.add_argument("--severity", choices=list(Severity.__members__), help="of an alert to route")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="of the alert's rule")
    chosen = parser.parse_args(arguments)
    problems, channels = [], []
    try:
        routes = load_routes(chosen.check_routes, os.environ)  # noqa: TID251 - the file names the variables
        if chosen.severity is not None:
            labels = dict(label.partition("=")[::2] for label in chosen.label)
            channels = describe_channels(routes, Severity[chosen.severity], labels)
    except RoutesError as invalid:
        problems = invalid.problems
    sys.stdout.write(json.dumps({"problems": problems, "channels": channels}) + "\n")
    return _EXIT_PROBLEMS if problems else 0


if __name__ == "__main__":
    if _CHECK in sys.argv[1:]:
        sys.exit(check_routes(sys.argv[1:]))
    with uncollected_imports():
        # Slow to import, and not needed by the check.
        from services.notifier.app import app

    main("notifier", Settings, PREFIX, app)
