"""A system moves from plaintext to certificates and keys by rolling restarts, as docs/certificates.md says.

No call fails meanwhile. Of the services that are called there are two instances.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from stack.certificate_requests import client_request
from stack.certificates import issue
from stack.ports import Ports
from stack.readiness import http_get
from stack.secure_files import SecureFiles
from stack.servers import Addresses
from stack.wiring import SERVICES, Wiring
from tests.fakes.certificates import channel_credentials
from tests.integration.ingest.rolling import SINGLE_EVENTS, Instance, envoy_before, steady_load, until
from tocsin.notifications.v1.notification_service_pb2 import ListCircuitBreakersRequest
from tocsin.rules.v1.alert_rule_service_pb2 import ListAlertRulesRequest

pytestmark = pytest.mark.integration

CALLS: Mapping[str, Message] = {
    **SINGLE_EVENTS,
    "/tocsin.rules.v1.AlertRuleService/ListAlertRules": ListAlertRulesRequest(),
    "/tocsin.notifications.v1.NotificationService/ListCircuitBreakers": ListCircuitBreakersRequest(),
}
# Nobody is notified here.
ROUTES = """
channels:
  webhook: {kind: webhook, url: "https://hooks.example.com/alerts", signing_key_file: signing.key}
routes:
  - {severity: [LOW, MEDIUM, HIGH, CRITICAL], channels: [webhook]}
"""
# In which order: one instance after the other, those of one machine at once.
WAVES = ((1, SERVICES), (2, ("ingest", "manager", "notifier")))
# Which other services each of them calls.
TARGETS = {
    "ingest": ("manager",),
    "evaluator": ("manager",),
    "manager": ("notifier", "ingest"),
    "notifier": ("manager",),
}
# Envoys in this order; a later one stands for the former one that was restarted, and takes its place at its own ports.
PLAINTEXT, BOTH, SECURE = range(3)


class Fleet:
    """The instances, where they listen before and after, and the Envoys' ports."""

    def __init__(self, folder: Path, wiring: Wiring, files: SecureFiles) -> None:
        self.envoys = [Ports.free() for _ in range(3)]
        self._files = files
        self.before = {number: self._ports(PLAINTEXT) for number, _ in WAVES}
        self.after = {number: self._ports(BOTH) for number, _ in WAVES}
        self._waves = [
            [Instance(folder, replace(wiring, ports=self.before[number]), number, service) for service in services]
            for number, services in WAVES
        ]

    async def start(self) -> None:
        """Start all, as they are without certificates."""
        await self._restart(lambda instance, _: instance.start())

    async def take_both(self) -> None:
        """Restart each with certificates on its later ports, and without on those that it had."""

        def restart(instance: Instance, number: int) -> None:
            instance.start(settings=self._both_addresses(instance.service, number))

        await self._restart(restart)

    async def take_certificates(self) -> None:
        """Restart each with certificates only, and callers who are known."""
        await self._restart(lambda instance, number: instance.start(self.after[number], secure=self._files))

    def states(self) -> list[dict[str, Any]]:
        """Return the health of each, which has certificates."""
        context = self._files.client_context()
        admins = [getattr(self.after[number], f"{service}_admin") for number, services in WAVES for service in services]
        return [json.loads(http_get(port, "/health", context)) for port in admins]

    def stop(self) -> None:
        for instance in (each for wave in self._waves for each in wave):
            instance.stop()

    async def _restart(self, start: Callable[[Instance, int], None]) -> None:
        for (number, _), wave in zip(WAVES, self._waves, strict=True):
            await asyncio.gather(*(asyncio.to_thread(start, instance, number) for instance in wave))

    def _ports(self, envoy: int) -> Ports:
        return replace(Ports.free(), mesh=self.envoys[envoy].mesh)

    def _both_addresses(self, service: str, number: int) -> dict[str, str]:
        prefix, before, after = service.upper(), self.before[number], self.after[number]
        addresses = {
            f"{prefix}_{kind}{suffix}LISTEN": f"127.0.0.1:{getattr(ports, name)}"
            for kind, ports in (("", after), ("PLAINTEXT_", before))
            for suffix, name in (("", service), ("ADMIN_", f"{service}_admin"))
        }
        mesh = f"127.0.0.1:{after.mesh}"
        targets = {f"{prefix}_{other.upper()}_TARGET": mesh for other in TARGETS[service]}
        return self._files.service_environ(service) | addresses | targets | {f"{prefix}_AUTHENTICATION": "off"}


@pytest.fixture
def files(tmp_path: Path) -> SecureFiles:
    made = SecureFiles(home=tmp_path / "secure")
    made.prepare(datetime.now(UTC))
    return made


@pytest.fixture
def fleet(
    tmp_path: Path, kafka: str, topics: str, database: str, redis_url: str, files: SecureFiles
) -> Iterator[Fleet]:
    addresses = Addresses(kafka=kafka, postgres=database, redis=redis_url)
    (tmp_path / "routes.yaml").write_text(ROUTES.replace("signing.key", str(tmp_path / "signing.key")))
    (tmp_path / "signing.key").write_text("made-up")
    wiring = Wiring(
        addresses=addresses,
        ports=Ports.free(),
        topic_prefix=topics,
        redis_prefix=topics,
        routes=tmp_path / "routes.yaml",
    )
    fleet = Fleet(tmp_path, wiring, files)
    yield fleet
    fleet.stop()


def edge_settings(files: SecureFiles) -> dict[str, str]:
    """Return what an Envoy with certificates is told."""
    return {name.removeprefix("GATEWAY_").lower(): value for name, value in files.gateway_environ().items()}


def refuses_plaintext(ports: Sequence[int]) -> None:
    for port in ports:
        with pytest.raises((OSError, HTTPException)):
            http_get(port, "/health")


@pytest.mark.timeout(400)
async def test_no_call_fails_on_the_way_from_plaintext_to_certificates(
    fleet: Fleet, tmp_path: Path, files: SecureFiles
) -> None:
    settings = edge_settings(files)
    with ExitStack() as gateways:

        def envoy(number: int, instances: Mapping[int, Ports], **more: Any) -> int:
            opened = envoy_before(
                [*instances.values()], tmp_path / f"envoy-{number}", ports=fleet.envoys[number], **more
            )
            return gateways.enter_context(opened)

        # Together, since an evaluator without a copy of the rules waits for a manager.
        plaintext, _ = await asyncio.gather(asyncio.to_thread(envoy, PLAINTEXT, fleet.before), fleet.start())
        async with steady_load(plaintext, calls=CALLS) as answers:
            await fleet.take_both()
        assert set(answers) == {"OK"}, answers
        both = await asyncio.to_thread(envoy, BOTH, fleet.after, plaintext=True, anonymous="admin", **settings)
        tls = grpc.ssl_channel_credentials(files.ca.read_bytes())
        async with steady_load(both, calls=CALLS) as unmoved, steady_load(both, tls, calls=CALLS) as moved:
            await fleet.take_certificates()
            await until(lambda: all(set(each["dependencies"].values()) == {"UP"} for each in fleet.states()))
        assert set(unmoved) == set(moved) == {"OK"}, (unmoved, moved)
        secure = await asyncio.to_thread(envoy, SECURE, fleet.after, context=files.client_context(), **settings)
        admin = issue(
            files.home / "certificates", client_request("ada", role="admin", tenant="default"), now=datetime.now(UTC)
        )
        async with steady_load(secure, channel_credentials(admin.files), calls=CALLS) as known:
            await until(lambda: known.total() > len(CALLS))
        assert set(known) == {"OK"}, known
        async with steady_load(secure, tls, calls=CALLS) as unknown:
            await until(lambda: unknown.total() > len(CALLS))
        assert {answer.partition(":")[0] for answer in unknown} == {"UNAUTHENTICATED"}, unknown
        own = [
            getattr(ports, f"{name}{kind}")
            for ports in (*fleet.before.values(), *fleet.after.values())
            for name in SERVICES
            for kind in ("", "_admin")
        ]
        refuses_plaintext([secure, *own])
