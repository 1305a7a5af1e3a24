"""A system moves from plaintext to certificates by rolling restarts, as docs/certificates.md says: no call fails."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

import grpc
import pytest

from stack.ports import Ports
from stack.readiness import http_get
from stack.secure_files import SecureFiles
from tests.integration.ingest.rolling import Instance, envoy_before, steady_load

pytestmark = pytest.mark.integration


@pytest.fixture
def instances(tmp_path: Path, kafka: str, topics: str) -> Iterator[list[Instance]]:
    found = [Instance(tmp_path, kafka, topics, number) for number in (1, 2)]
    yield found
    for each in found:
        each.stop()


@pytest.fixture
def files(tmp_path: Path) -> SecureFiles:
    made = SecureFiles(home=tmp_path / "secure")
    made.prepare(datetime.now(UTC))
    return made


async def test_no_call_fails_on_the_way_from_plaintext_to_certificates(
    instances: list[Instance], tmp_path: Path, files: SecureFiles
) -> None:
    later = [Ports.free() for _ in instances]
    await asyncio.gather(*(asyncio.to_thread(each.start) for each in instances))
    with ExitStack() as gateways:
        plaintext = gateways.enter_context(envoy_before([each.ports for each in instances], tmp_path / "plaintext"))
        async with steady_load(plaintext) as answers:
            for instance, ports in zip(instances, later, strict=True):
                await asyncio.to_thread(instance.start, settings=both_addresses(files, instance.ports, ports))
        assert set(answers) == {"OK"}, answers
        # Another Envoy takes over from the first one.
        edge = {
            name.removeprefix("GATEWAY_").lower(): value
            for name, value in files.gateway_environ().items()
            if "AUTHENTICATION" not in name
        }
        both = gateways.enter_context(envoy_before(later, tmp_path / "both", plaintext=True, **edge))
        credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
        async with steady_load(both) as unmoved, steady_load(both, credentials) as moved:
            for instance, ports in zip(instances, later, strict=True):
                await asyncio.to_thread(instance.start, ports, settings={"INGEST_AUTHENTICATION": "off"}, secure=files)
        assert set(unmoved) == set(moved) == {"OK"}, (unmoved, moved)
    for instance in instances:
        with pytest.raises((OSError, HTTPException)):
            http_get(instance.ports.ingest_admin, "/health")


def both_addresses(files: SecureFiles, before: Ports, after: Ports) -> dict[str, str]:
    """The settings of an instance that Envoy reaches where it was, and with certificates at another port."""
    return files.service_environ("ingest") | {
        "INGEST_AUTHENTICATION": "off",
        "INGEST_LISTEN": f"127.0.0.1:{after.ingest}",
        "INGEST_ADMIN_LISTEN": f"127.0.0.1:{after.ingest_admin}",
        "INGEST_PLAINTEXT_LISTEN": f"127.0.0.1:{before.ingest}",
        "INGEST_PLAINTEXT_ADMIN_LISTEN": f"127.0.0.1:{before.ingest_admin}",
    }
