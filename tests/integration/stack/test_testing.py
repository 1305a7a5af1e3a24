"""Servers for test runs: none outlives the run, however that ends."""

import asyncio
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from stack.postgres import DATABASE
from stack.servers import SERVERS, check_server
from stack.testing import Servers, fresh_name, read_addresses

pytestmark = pytest.mark.integration

KEEP_REDIS = """
import sys, time
from dataclasses import asdict
from pathlib import Path
from stack.testing import Servers
Servers(Path(sys.argv[1]), print).start("redis")
print("ready", flush=True)
sys.stdin.read()
"""


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the server outlived the run that started it"


def test_when_a_run_is_killed_its_servers_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KEEP_REDIS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "redis answers\n"
        assert run.stdout.readline() == "ready\n"
        (redis,) = [one for one in psutil.Process(run.pid).children() if one.name() == "redis-server"]
        run.kill()
    await_end(redis.pid)


def test_a_killed_server_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    kept = Servers(tmp_path / "servers", print)
    try:
        address = kept.address("postgres")
        kept.kill("postgres")
        with pytest.raises(OSError, match="Connect call failed"):
            check_server("postgres", address)
        assert kept.address("postgres") == address
        check_server("postgres", address)
    finally:
        kept.stop()
    assert not (tmp_path / "servers").exists()


def test_a_search_path_that_somebody_has_set_stays(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "servers", print)
    try:
        address = servers.address("postgres")
        assert search_path(address) == '"$user", public, notifier, manager'
        query(address, f'ALTER DATABASE "{DATABASE}" SET search_path = elsewhere')
        servers.kill("postgres")
        assert search_path(servers.address("postgres")) == "elsewhere"
    finally:
        servers.stop()


def search_path(address: str) -> object:
    return query(address, "SHOW search_path")


def query(address: str, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(address)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_sigterm_stops_shared_servers_and_removes_their_data(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    command = [sys.executable, "-m", "stack", "test-servers", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shared:
        assert shared.stdout is not None
        for line in shared.stdout:
            if line.startswith("TOCSIN_TEST_SERVERS="):
                break
        assert set(asdict(read_addresses(folder))) == set(SERVERS)
        shared.terminate()
        assert shared.wait(60) == 0
    assert not folder.exists()


def test_shared_servers_are_found_by_other_runs(tmp_path: Path) -> None:
    (tmp_path / "addresses.json").write_text('{"kafka": "k:1", "postgres": "postgresql://p/d", "redis": "redis://r"}')
    assert read_addresses(tmp_path).kafka == "k:1"


def test_a_redis_with_a_password_answers_who_has_it(redis_url: str) -> None:
    user = fresh_name().replace(".", "-")
    with closing(Redis.from_url(redis_url)) as client:
        client.acl_setuser(user, enabled=True, passwords=["+right"], commands=["+ping"])
        try:
            check_server("redis", redis_url.replace("//", f"//{user}:right@"))
            with pytest.raises(RedisError, match="invalid username-password"):
                check_server("redis", redis_url.replace("//", f"//{user}:wrong@"))
        finally:
            client.acl_deluser(user)
