"""The routes file on disk."""

from collections.abc import Mapping
from pathlib import Path

from services.chassis.strict_yaml import DocumentError, DuplicateKeyError, load_documents
from services.notifier.core.channel_fields import World
from services.notifier.core.routes_file import RoutesError, routes_of
from services.notifier.core.routing import Routes


def load_routes(path: Path, environ: Mapping[str, str]) -> Routes:
    """Read the file and what it refers to. Raises RoutesError with all problems, and no secret in them."""
    try:
        documents = load_documents(path.read_text())
    except OSError as problem:
        raise RoutesError([f"{path} cannot be read: {problem.strerror}"]) from None
    except UnicodeError:
        raise RoutesError([f"{path} is not UTF-8"]) from None
    except DuplicateKeyError as problem:
        raise RoutesError([f"{path}: {problem}"]) from None
    except DocumentError as problem:
        raise RoutesError([f"{path} is not YAML: {problem.place}"]) from None
    if len(documents) > 1:
        raise RoutesError([f"{path} holds {len(documents)} documents; there must be one"])
    world = World(environ=environ, read=lambda name: (path.parent / name).read_text())
    return routes_of(documents[0] if documents else None, world)
