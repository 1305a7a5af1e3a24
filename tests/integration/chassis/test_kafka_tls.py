"""Kafka over TLS, with certificates of clients and with passwords, on a real broker; both may change meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from structlog.testing import capture_logs

from services.chassis.failures import StreamUnavailable
from services.chassis.kafka import Consumer, Producer, partition_count, producer
from services.chassis.settings import KafkaSettings, Secret, load_settings
from stack.kafka import check_kafka, kafka_program, tls_client
from stack.kafka_tls import KafkaTls
from stack.ports import Ports
from stack.topics import Topic, TopicsError, admin_client, create_topics
from tests.secure_servers import ServerFolder, server_folder, write_secret

pytestmark = pytest.mark.integration

PORTS = Ports.free()
# Free too, and of nobody in this test.
SASL_PORT = PORTS.manager
USER, PASSWORD = "ingest", "first pass"
USERS = ("kafka", USER)
TOPIC = "alerts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFolder]:
    with server_folder(tmp_path_factory.mktemp("kafka")) as opened:
        tls = KafkaTls(files=opened.issue("kafka"), sasl_port=SASL_PORT, plain_passwords={USER: PASSWORD}, users=USERS)
        opened.start(kafka_program(opened.processes, PORTS, print, tls=tls))
        certified = client(opened)
        create_topics(certified, topics=[Topic(name=TOPIC, partitions=1, config={})])
        set_password(certified, PASSWORD)
        yield opened


@pytest.fixture
def certified(folder: ServerFolder) -> KafkaSettings:
    """Log in with a certificate of one's own."""
    return client(folder)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    write_secret(path, PASSWORD)
    return path


def client(folder: ServerFolder) -> KafkaSettings:
    return tls_client(f"127.0.0.1:{PORTS.kafka}", folder.issue("ingest"))


def with_password(certified: KafkaSettings, mechanism: str, password_file: Path) -> KafkaSettings:
    environ = {
        "X_BROKERS": f"127.0.0.1:{SASL_PORT}",
        "X_DELIVERY_TIMEOUT": "2s",
        "X_KAFKA_CA": certified.kafka_ca,
        "X_KAFKA_SASL_MECHANISM": mechanism,
        "X_KAFKA_SASL_USER": USER,
        "X_KAFKA_SASL_PASSWORD_FILE": str(password_file),
    }
    return load_settings(KafkaSettings, "X_", environ)


def set_password(certified: KafkaSettings, password: str) -> None:
    # Held: a client that nobody holds ends, and its requests with it.
    admin = admin_client(certified)
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        change = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), password.encode())
        for result in admin.alter_user_scram_credentials([change]).values():
            result.result()


@asynccontextmanager
async def pair(settings: KafkaSettings, group: str) -> AsyncIterator[tuple[Producer, Consumer]]:
    """Give a producer, and a consumer of all records."""
    async with (
        producer(settings, "test") as sending,
        Consumer(settings, topic=TOPIC, group=group).joined() as reading,
    ):
        yield sending, reading


async def deliver(sending: Producer, reading: Consumer, value: bytes) -> None:
    """Send a record, and return when it is read."""
    await sending.send(TOPIC, value)
    async with asyncio.timeout(30):
        while value not in await values(reading):
            pass


async def values(reading: Consumer) -> list[bytes]:
    _, records = await reading.fetch(10_000, 0.5)
    return [record.value for record in records]


async def test_a_client_with_a_certificate_sends_and_reads(certified: KafkaSettings) -> None:
    assert await partition_count(certified, TOPIC) == 1
    async with pair(certified, "certified") as (sending, reading):
        await deliver(sending, reading, b"certified")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_a_client_with_a_password_sends_and_reads(
    mechanism: str, certified: KafkaSettings, password_file: Path
) -> None:
    async with pair(with_password(certified, mechanism, password_file), mechanism) as (sending, reading):
        await deliver(sending, reading, mechanism.encode())


async def test_who_is_not_meant_or_not_known_is_refused(
    folder: ServerFolder, certified: KafkaSettings, password_file: Path, tmp_path: Path
) -> None:
    with server_folder(tmp_path / "other") as other:
        stranger = client(other)
    by_password = with_password(certified, "SCRAM-SHA-512", password_file)
    # Another way to write the same address, which stands in no certificate.
    elsewhere = replace(certified, brokers=f"127.1:{PORTS.kafka}")
    refused = [
        replace(certified, kafka_ca=stranger.kafka_ca),
        elsewhere,
        replace(certified, kafka_certificate="", kafka_key=""),
        replace(stranger, kafka_ca=certified.kafka_ca),
        replace(by_password, kafka_sasl_password=Secret("wrong")),
        replace(by_password, kafka_sasl_mechanism="", kafka_sasl_user="", kafka_sasl_password=Secret("")),
    ]
    checks = [asyncio.to_thread(check_kafka, wrong) for wrong in refused]
    failures = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(failure) for failure in failures] == [ConnectionError] * len(refused)
    await asyncio.to_thread(check_kafka, replace(elsewhere, kafka_verify_host_name=False))
    # Of the same authority, but no user of Kafka.
    nobody = tls_client(certified.brokers, folder.issue("somebody"))
    assert admin_client(nobody).list_topics(timeout=10).topics == {}
    with pytest.raises(TopicsError):
        create_topics(nobody, topics=[Topic(name="other", partitions=1, config={})])
    wrong_password = replace(by_password, kafka_sasl_password=Secret("hunter2"))
    with capture_logs() as logs:
        async with producer(wrong_password, "test") as sending:
            with pytest.raises(StreamUnavailable):
                await sending.send(TOPIC, b"x")
    assert logs
    assert "hunter2" not in str(logs)


async def test_a_changed_password_is_used_without_a_restart(
    certified: KafkaSettings, password_file: Path, eventually: Callable[..., Any]
) -> None:
    settings = with_password(certified, "SCRAM-SHA-256", password_file)
    async with pair(settings, "rotated") as (sending, reading):
        await deliver(sending, reading, b"before")
        await asyncio.to_thread(set_password, certified, "second")
        write_secret(password_file, "second")
        with capture_logs() as logs:
            await deliver(sending, reading, b"after")
            await eventually(lambda: [log["event"] for log in logs].count("kafka_password_changed") == 1)
            await reading.fetch(1, 1.0)
    async with pair(settings, "rotated") as (sending, reading):
        await deliver(sending, reading, b"again")
    await asyncio.to_thread(set_password, certified, PASSWORD)


async def test_a_changed_certificate_is_used_without_a_restart_and_nothing_is_lost(
    certified: KafkaSettings, folder: ServerFolder
) -> None:
    async with pair(certified, "renewed") as (sending, reading):
        await deliver(sending, reading, b"before")
        old, sent, read = sending._client, 0, []
        folder.issue("ingest")
        async with asyncio.timeout(30):
            while sending._client is old:
                await sending.send(TOPIC, f"{sent}".encode())
                sent += 1
            with capture_logs() as logs:
                while "consumer_rejoined" not in [log["event"] for log in logs]:
                    read += await values(reading)
        await deliver(sending, reading, b"after")
    async with pair(certified, "renewed") as (_, reading):
        # Nothing was committed, so all of it is read again.
        async with asyncio.timeout(30):
            while b"after" not in read:
                read += await values(reading)
    assert {f"{number}".encode() for number in range(sent)} <= set(read)
