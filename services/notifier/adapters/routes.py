"""The routes file on disk."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from services.notifier.core.channel_fields import World
from services.notifier.core.routes_file import RoutesError, routes_of
from services.notifier.core.routing import Routes


def load_routes(path: Path, environ: Mapping[str, str]) -> Routes:
    """Read the file and what it refers to. Raises RoutesError with all problems, and no secret in them."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as problem:
        raise RoutesError([f"{path} cannot be read: {problem.strerror}"]) from None
    except UnicodeError:
        raise RoutesError([f"{path} is not UTF-8"]) from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
        raise RoutesError([f"{path} is not YAML: {where}"]) from None
    return routes_of(document, World(environ=environ, read=lambda name: (path.parent / name).read_text()))
