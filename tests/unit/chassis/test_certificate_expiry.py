"""Which certificates the metric tells of, and what it tells while files change."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.chassis import telemetry
from services.chassis.certificate_expiry import observe_expiry, watched_certificates
from services.chassis.settings import load_settings
from services.manager.settings import PREFIX, Settings
from stack.certificate_requests import CertificateFiles, service_request
from stack.certificates import init_authority, issue

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def metrics() -> Iterator[None]:
    with telemetry.telemetry("test", "test", ""):
        yield


def issued(folder: Path, days: int) -> CertificateFiles:
    if not folder.exists():
        init_authority(folder, now=NOW)
    return issue(folder, service_request("manager", days=days), now=NOW).files


def manager_settings(**files: Path) -> Settings:
    variables = {
        "MANAGER_BROKERS": "127.0.0.1:9092",
        "MANAGER_DATABASE_URL": "postgresql://127.0.0.1/db",
        "MANAGER_REDIS_URL": "rediss://127.0.0.1",
        "MANAGER_AUTHENTICATION": "required",
    }
    named = {f"MANAGER_{name.upper()}": str(path) for name, path in files.items()}
    return load_settings(Settings, PREFIX, variables | named)


def exposed() -> dict[str, datetime]:
    lines = telemetry.exposition()[0].decode().splitlines()
    samples = [line.rsplit(" ", 1) for line in lines if line.startswith("tocsin_certificate_expiry_timestamp_seconds{")]
    return {name.split('"')[1]: datetime.fromtimestamp(float(value), UTC) for name, value in samples}


@pytest.mark.usefixtures("metrics")
def test_each_certificate_that_a_setting_names_has_its_expiry(tmp_path: Path) -> None:
    files: dict[str, Path] = {}
    expected = {}
    for days, server in enumerate(("tls", "kafka", "database", "redis"), 10):
        own = issued(tmp_path / server, days)
        files |= {f"{server}_certificate": own.certificate, f"{server}_key": own.key, f"{server}_ca": own.ca}
        expected[f"{server}_certificate"] = NOW + timedelta(days=days)
        expected[f"{server}_ca"] = NOW + timedelta(days=3650)
    observe_expiry(manager_settings(**files))

    assert exposed() == expected


@pytest.mark.usefixtures("metrics")
def test_without_certificates_there_is_nothing_to_expire() -> None:
    observe_expiry(manager_settings())
    assert exposed() == {}


def test_a_renewed_certificate_counts_once_its_key_is_there(tmp_path: Path) -> None:
    own = issued(tmp_path / "kafka", 10)
    ca = own.ca
    (watched,) = [
        each
        for each in watched_certificates(
            manager_settings(kafka_ca=ca, kafka_certificate=own.certificate, kafka_key=own.key)
        )
        if each.setting == "kafka_certificate"
    ]
    assert watched.expires() == NOW + timedelta(days=10)
    former = own.key.read_bytes()
    issued(tmp_path / "kafka", 20)
    renewed = own.key.read_bytes()

    own.key.write_bytes(former)
    assert watched.expires() == NOW + timedelta(days=10)
    own.key.write_text("no key")
    assert watched.expires() == NOW + timedelta(days=10)
    own.key.unlink()
    assert watched.expires() == NOW + timedelta(days=10)
    own.key.write_bytes(renewed)
    assert watched.expires() == NOW + timedelta(days=20)


def test_what_never_could_be_read_has_no_expiry(tmp_path: Path) -> None:
    (watched,) = watched_certificates(manager_settings(kafka_ca=tmp_path / "none.pem"))
    assert watched.expires() is None
    (tmp_path / "none.pem").write_text("nothing")
    assert watched.expires() is None


@pytest.mark.parametrize(("setting", "days"), [("tls_ca", 10), ("redis_ca", 20)])
def test_of_several_authorities_our_first_and_a_servers_last_counts(tmp_path: Path, setting: str, days: int) -> None:
    early, late = (issued(tmp_path / f"{number}", number) for number in (10, 20))
    both = tmp_path / "both.pem"
    both.write_bytes(late.certificate.read_bytes() + early.certificate.read_bytes())
    files = {"redis_ca": both, "tls_ca": both, "tls_certificate": early.certificate, "tls_key": early.key}
    (watched,) = [each for each in watched_certificates(manager_settings(**files)) if each.setting == setting]

    assert watched.expires() == NOW + timedelta(days=days)
