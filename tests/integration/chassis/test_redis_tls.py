"""Redis over TLS with certificates of clients, as a user with few rights, on a real server."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from services.chassis.clock import SystemClock
from services.chassis.health import Health
from services.chassis.redis import RedisUnavailableError, redis_client
from services.chassis.settings import RedisSettings, Secret, load_settings
from services.manager.adapters.redis import GuardedRedis, RedisDedupCache
from stack.ports import Ports
from tests.secure_servers import OTHER_HOST, PASSWORD, ServerFolder, redis_over_tls, server_folder, write_secret
from tests.tools import needs

pytestmark = [pytest.mark.integration, needs("redis-server")]

PORTS = Ports.free()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFolder]:
    with server_folder(tmp_path_factory.mktemp("redis")) as opened:
        opened.start(redis_over_tls(opened, PORTS))
        opened.issue("manager")
        yield opened


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    write_secret(path, PASSWORD)
    return path


@pytest.fixture
def settings(folder: ServerFolder, password_file: Path) -> RedisSettings:
    own = folder.path / "certificates" / "manager"
    environ = {
        "X_REDIS_URL": url(),
        "X_REDIS_PASSWORD_FILE": str(password_file),
        "X_REDIS_CA": str(own / "ca.pem"),
        "X_REDIS_CERTIFICATE": str(own / "certificate.pem"),
        "X_REDIS_KEY": str(own / "key.pem"),
        "X_REDIS_PREFIX": "tocsin:",
    }
    return load_settings(RedisSettings, "X_", environ)


def url(user: str = "tocsin", host: str = "127.0.0.1") -> str:
    return f"rediss://{user}@{host}:{PORTS.redis}/0"


async def test_what_the_manager_does_with_redis_needs_few_rights(settings: RedisSettings) -> None:
    async with redis_client(settings) as redis:
        cache = RedisDedupCache(GuardedRedis(redis, SystemClock()), ttl=timedelta(minutes=1))
        assert await cache.add(["one", "two"]) == {"one", "two"}
        assert await cache.add(["one", "three"]) == {"three"}
        await cache.remove(["one", "two", "three"])
        assert await cache.add(["one"]) == {"one"}
        await cache.remove(["one"])


async def test_who_is_not_meant_or_not_known_is_refused(settings: RedisSettings, tmp_path: Path) -> None:
    with server_folder(tmp_path / "other") as other:
        stranger = str(other.issue("any").ca)
    refused = [
        replace(settings, redis_ca=stranger),
        replace(settings, redis_url=Secret(url(host=OTHER_HOST))),
        replace(settings, redis_certificate="", redis_key=""),
        replace(settings, redis_password=Secret("wrong")),
        replace(
            settings,
            redis_url=Secret(url().replace("rediss", "redis")),
            redis_ca="",
            redis_certificate="",
            redis_key="",
        ),
    ]
    for wrong in refused:
        async with redis_client(wrong) as redis:
            with pytest.raises(RedisUnavailableError) as failure, redis.connection() as client:
                await client.get("tocsin:x")
        assert PASSWORD not in str(failure.value)


async def test_a_password_in_the_url_is_written_with_percent_signs(settings: RedisSettings) -> None:
    full = url(user=f"tocsin:{quote(PASSWORD, safe='')}")
    async with redis_client(replace(settings, redis_url=Secret(full), redis_password=Secret(""))) as redis:
        with redis.connection() as client:
            assert await client.get("tocsin:x") is None


async def test_a_changed_password_and_certificate_are_used_without_a_restart(
    folder: ServerFolder, settings: RedisSettings, password_file: Path, eventually: Callable[..., Any]
) -> None:
    dependency = Health("test").dependency("redis", required=False)
    admin = await as_admin(settings)
    async with redis_client(settings, dependency) as redis:
        await eventually(lambda: dependency.is_up)
        before = redis.client
        await admin.execute_command("ACL", "SETUSER", "tocsin", "resetpass", ">second")
        await admin.execute_command("CLIENT", "KILL", "USER", "tocsin")
        await eventually(lambda: not dependency.is_up)
        write_secret(password_file, "second")
        await eventually(lambda: dependency.is_up)
        with redis.connection() as client:
            assert await client.get("tocsin:x") is None
        renewed = redis.client
        folder.issue("manager")
        await eventually(lambda: redis.client is not renewed)
        await asyncio.wait_for(redis.client.ping(), 5)
        assert len({id(before), id(renewed), id(redis.client)}) == 3
    await admin.execute_command("ACL", "SETUSER", "tocsin", "resetpass", f">{PASSWORD}")
    await admin.aclose()


async def as_admin(settings: RedisSettings) -> Any:
    client: Any = Redis.from_url(
        url(user="admin:admin"),
        ssl_ca_certs=settings.redis_ca,
        ssl_certfile=settings.redis_certificate,
        ssl_keyfile=settings.redis_key,
    )
    await client.ping()
    return client
