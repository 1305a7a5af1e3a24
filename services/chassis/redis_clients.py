"""Make clients of Redis: of one server, of the primary that Sentinel names, or of a cluster."""

from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from services.chassis.secret_files import files_digest
from services.chassis.server_urls import split_server_url
from services.chassis.settings import RedisSettings

_TIMEOUT_SECONDS = 0.3
_PORT, _SENTINEL_PORT = 6379, 26379


class RedisConnector:
    """Makes clients by the settings, with the present passwords and certificates."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        names = (settings.redis_ca, settings.redis_certificate, settings.redis_key)
        self._files = [Path(name) for name in names if name]
        self._seen = self._present()

    def open(self) -> Redis:
        """Return a client that is not connected yet; a command is tried twice, within 0.3 seconds each.

        A cluster's client has the commands of a single server's, so it is typed as one.
        """
        parts = split_server_url(self._settings.redis_url.reveal())
        scheme, _, kind = parts.scheme.partition("+")
        match kind:
            case "sentinel":
                return self._sentinel(parts, is_tls=scheme == "rediss")
            case "cluster":
                return self._cluster(parts, is_tls=scheme == "rediss")
            case _:
                return self._single(parts)

    def has_changed(self) -> bool:
        """Return whether passwords or certificates are others than at the last call."""
        present = self._present()
        if None in present or present == self._seen:
            # While a file is away, the client that has read it goes on.
            return False
        self._seen = present
        return True

    def _single(self, parts: SplitResult) -> Redis:
        options = {**_limits(retries=1), **(self._tls() if parts.scheme == "rediss" else {})}
        password = self._settings.redis_password.reveal()
        if password:
            # What a URL says would win.
            login, at, host = parts.netloc.rpartition("@")
            parts = parts._replace(netloc=f"{login.partition(':')[0]}{at}{host}")
            options["password"] = password
        return Redis.from_url(parts.geturl(), **options)

    def _sentinel(self, parts: SplitResult, *, is_tls: bool) -> Redis:
        settings = self._settings
        tls = {"ssl": True, **self._tls()} if is_tls else {}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            _hosts(parts, _SENTINEL_PORT),
            sentinel_kwargs={
                **_limits(retries=0),
                **tls,
                "username": settings.redis_sentinel_user or None,
                "password": settings.redis_sentinel_password.reveal() or None,
            },
        )
        _, primary, *database = parts.path.split("/")
        options = {**_limits(retries=1), **tls, **self._login(parts), "db": int(*database)}
        return cast("Redis", sentinel.master_for(unquote(primary), **options))

    def _cluster(self, parts: SplitResult, *, is_tls: bool) -> Redis:
        nodes = [ClusterNode(host, port) for host, port in _hosts(parts, _PORT)]
        tls = {"ssl": True, **self._tls()} if is_tls else {}
        # A part of the keys may be away while a node is replaced: the others are served.
        options = {**_limits(retries=1), **tls, **self._login(parts), "require_full_coverage": False}
        return cast("Redis", RedisCluster(startup_nodes=nodes, **options))

    def _login(self, parts: SplitResult) -> dict[str, Any]:
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        own = self._settings.redis_password.reveal()
        return {"username": unquote(user) or None, "password": own or unquote(password) or None}

    def _tls(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "ssl_ca_certs": settings.redis_ca or None,
            "ssl_certfile": settings.redis_certificate or None,
            "ssl_keyfile": settings.redis_key or None,
        }

    def _present(self) -> tuple[list[str], bytes | None]:
        settings = self._settings
        secrets = (settings.redis_url, settings.redis_password, settings.redis_sentinel_password)
        return [secret.reveal() for secret in secrets], files_digest(self._files)


async def close_redis(client: Redis) -> None:
    """Close a client, and those of the sentinels behind it."""
    await client.aclose()
    sentinel = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if sentinel is not None:
        await sentinel.aclose()


def _limits(*, retries: int) -> dict[str, Any]:
    return {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), retries),
        "health_check_interval": 0,
    }


def _hosts(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """Return host and port of each host of a URL."""
    addresses = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    return [(address.hostname or "127.0.0.1", address.port or port) for address in addresses]
