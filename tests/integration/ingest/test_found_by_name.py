"""Instances behind one name: Envoy finds them by DNS, ejects one that is lost, and uses it again when it is back."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.ports import Ports
from stack.readiness import http_get
from tests.fakes.name_server import name_server
from tests.integration.ingest.rolling import CALLERS, Instance, envoy_with_names, ingest_wiring, steady_load, until

pytestmark = pytest.mark.integration

NAME = "ingest.tocsin.test"
ONE, OTHER, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@pytest.fixture
def instances(tmp_path: Path, kafka: str, topics: str) -> Iterator[dict[str, Instance]]:
    found = {
        host: Instance(tmp_path, ingest_wiring(kafka, topics), number)
        for number, host in enumerate((ONE, OTHER, THIRD), 1)
    }
    yield found
    for each in found.values():
        each.stop()


class Cluster:
    """What Envoy knows of the instances of ingest."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def healthy(self) -> set[str]:
        """Return the addresses that get calls."""
        return {host for host, flags in self._values("health_flags") if flags == "healthy"}

    def known(self) -> set[str]:
        """Return all addresses."""
        return {host for host, _ in self._values("health_flags")}

    def succeeded(self) -> Counter[str]:
        """Return how many calls each address has answered."""
        return Counter({host: int(value) for host, value in self._values("rq_success")})

    def _values(self, name: str) -> list[tuple[str, str]]:
        text = http_get(self._ports.envoy_admin, "/clusters").decode()
        return re.findall(rf"^ingest::([0-9.]+):[0-9]+::{name}::(.+)$", text, re.MULTILINE)


async def test_an_instance_behind_a_name_is_found_ejected_and_used_again(
    instances: dict[str, Instance], tmp_path: Path
) -> None:
    # As in production each has the same port, on an address of its own.
    port = instances[ONE].ports.ingest

    async def start(host: str) -> None:
        instance = instances[host]
        listen = {"INGEST_LISTEN": f"{host}:{port}", "INGEST_ADMIN_LISTEN": f"127.0.0.1:{instance.ports.ingest_admin}"}
        await asyncio.to_thread(instance.start, settings=listen)

    await asyncio.gather(*map(start, (ONE, OTHER)))
    async with name_server() as (names, name_port):
        names.addresses[NAME] = [ONE, OTHER]
        admin = f"127.0.0.1:{instances[ONE].ports.ingest_admin}"
        opened = envoy_with_names(
            tmp_path / "envoy", name_server=name_port, ingest=f"{NAME}:{port}", ingest_admin=admin
        )
        envoy = await asyncio.to_thread(opened.__enter__)
        try:
            await walk(Cluster(envoy), envoy.edge, instances, start, names.addresses)
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


async def walk(
    cluster: Cluster,
    edge: int,
    instances: dict[str, Instance],
    start: Callable[[str], Any],
    addresses: dict[str, list[str]],
) -> None:
    await until(lambda: cluster.healthy() == {ONE, OTHER})
    async with steady_load(edge) as answers:
        await until(lambda: min(cluster.succeeded()[host] for host in (ONE, OTHER)) > 10)
    assert set(answers) == {"OK"}, answers

    # Killed: only what it was working on can fail, and nothing once it is ejected.
    async with steady_load(edge) as answers:
        await asyncio.to_thread(instances[OTHER].kill)
        await until(lambda: cluster.healthy() == {ONE})
    assert answers.total() - answers["OK"] <= CALLERS, answers
    async with steady_load(edge) as answers:
        before = cluster.succeeded()[ONE]
        await until(lambda: cluster.succeeded()[ONE] > before + 50)
    assert set(answers) == {"OK"}, answers

    # Back: it gets calls again, and none fails.
    async with steady_load(edge) as answers:
        before = cluster.succeeded()[OTHER]
        await start(OTHER)
        await until(lambda: cluster.healthy() == {ONE, OTHER})
        await until(lambda: cluster.succeeded()[OTHER] > before + 10)
    assert set(answers) == {"OK"}, answers

    # Another one behind the name is found. One that has left it is used as long as it serves, so that a name server
    # that is wrong for a moment takes nothing away; once it stops it is gone.
    await start(THIRD)
    async with steady_load(edge) as answers:
        addresses[NAME] = [ONE, OTHER, THIRD]
        await until(lambda: cluster.succeeded()[THIRD] > 10)
        addresses[NAME] = [OTHER, THIRD]
        await asyncio.to_thread(instances[ONE].stop)
        await until(lambda: cluster.known() == {OTHER, THIRD})
    assert set(answers) == {"OK"}, answers

    # A name server that has lost the name takes no instance away.
    del addresses[NAME]
    async with steady_load(edge) as answers:
        before = cluster.succeeded()[THIRD]
        await until(lambda: cluster.succeeded()[THIRD] > before + 100)
    assert set(answers) == {"OK"}, answers
    assert cluster.known() == {OTHER, THIRD}
