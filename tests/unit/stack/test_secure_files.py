"""What a system with SECURE=1 has: certificates, passwords and a key, for the owner of its folder alone."""

import importlib
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.chassis.settings import load_settings
from stack.envoy import PREFIX, EnvoySettings
from stack.ports import Ports
from stack.secure_files import SecureFiles, write_secret
from stack.servers import local_addresses
from stack.start_options import RequestedOptions
from stack.start_plan import StartPlan, is_secure_start, plan_start
from stack.wiring import SERVICES, Wiring, gateway_environ, service_environ, stored_wiring

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SecureFiles:
    made = SecureFiles(home=tmp_path_factory.mktemp("secure"))
    assert made.prepare(NOW) == [*SERVICES, "gateway", "prometheus", "edge", "kafka"]
    return made


def wiring(files: SecureFiles) -> Wiring:
    return Wiring(addresses=local_addresses(Ports(), secure=True), ports=Ports(), secure=files)


def test_everything_stays_for_later_starts_until_it_is_about_to_expire(files: SecureFiles) -> None:
    password = files.postgres_password.read_text()
    assert files.prepare(NOW + timedelta(days=100)) == []
    assert len(files.prepare(NOW + timedelta(days=300))) == len(SERVICES) + 4
    assert files.postgres_password.read_text() == password


def test_only_the_owner_reads_passwords_and_keys(files: SecureFiles) -> None:
    secret = [path for path in files.home.rglob("*") if path.is_file() and path.suffix != ".pem"]
    secret += list(files.home.rglob("key.pem"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert len({files.postgres_password.read_text(), files.redis_password.read_text()}) == 2


def test_redis_knows_one_user_by_its_password(files: SecureFiles) -> None:
    nobody, user = files.redis_users.read_text().splitlines()
    assert nobody == "user default off"
    assert user == f"user tocsin on >{files.redis_password.read_text().strip()} ~* &* +@all -@admin"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_where_its_certificate_and_the_passwords_are(service: str, files: SecureFiles) -> None:
    environ = service_environ(service, wiring(files), Path("data"))
    settings = load_settings(
        importlib.import_module(f"services.{service}.settings").Settings, f"{service.upper()}_", environ
    )
    assert settings.process.authentication == "required"
    assert settings.process.tls.tls_key == str(files.certificate(service).key) == settings.kafka.kafka_key
    if service in {"manager", "notifier"}:
        own, owner = files.service_password(service), files.postgres_password
        assert settings.postgres.database_password.reveal() == own.read_text().strip()
        assert settings.postgres.migration_database_password.reveal() == owner.read_text().strip()
        assert own.read_text() != owner.read_text()
    if service == "manager":
        assert settings.redis.redis_password.reveal() == files.redis_password.read_text().strip()
        assert settings.redis.redis_url.reveal() == "redis://tocsin@127.0.0.1:6379/0"
    # No secret itself is in the environment of a process.
    secrets = [path.read_text().strip() for path in files.home.rglob("*.password")]
    assert len(secrets) == 4
    assert not any(secret in value for secret in secrets for value in environ.values())


def test_servers_of_others_have_passwords_of_their_own(files: SecureFiles) -> None:
    own = Wiring(
        addresses=local_addresses(Ports()),
        ports=Ports(),
        secure=files,
        external={"kafka": "k", "postgres": "p", "redis": "r"},
    )
    passed = service_environ("manager", own, Path("data"))
    assert not any("PASSWORD" in name or "KAFKA" in name or "MIGRATION" in name for name in passed)


def test_envoy_asks_for_credentials_and_shows_users_another_certificate_than_services(files: SecureFiles) -> None:
    settings = load_settings(EnvoySettings, PREFIX, gateway_environ(wiring(files), Path("access.log")))
    assert (settings.authentication, settings.anonymous) == ("required", "")
    assert settings.tls_key == str(files.edge.key) != settings.mesh_key == str(files.certificate("gateway").key)
    assert settings.tls_client_ca == str(files.ca)


def test_programs_of_the_stack_trust_the_authority_and_use_the_first_key(tmp_path: Path) -> None:
    files = SecureFiles(home=tmp_path)
    files.prepare(datetime.now(UTC))
    assert files.client_context().verify_mode is ssl.CERT_REQUIRED
    assert files.edge_headers() == {}
    write_secret(files.admin_key, "tocsin_text")
    assert files.edge_headers() == {"Authorization": "Bearer tocsin_text"}


def test_a_start_stays_secure_until_it_is_told_otherwise(tmp_path: Path) -> None:
    assert not is_secure_start(tmp_path, RequestedOptions())
    first = plan(tmp_path, RequestedOptions(secure=True))
    assert first.lines == ["SECURE: none → 1"]
    first.wiring.write(tmp_path)
    assert stored_wiring(tmp_path).secure == SecureFiles(home=tmp_path)
    kept = plan(tmp_path, RequestedOptions())
    assert kept.wiring.secure == SecureFiles(home=tmp_path)
    assert kept.wiring.addresses.redis == "redis://tocsin@127.0.0.1:6379/0"
    ended = plan(tmp_path, RequestedOptions(secure=False))
    assert (ended.wiring.secure, ended.lines) == (None, ["SECURE: 1 → none"])
    assert "authentication" not in str(service_environ("ingest", ended.wiring, tmp_path)).lower()


def plan(folder: Path, requested: RequestedOptions) -> StartPlan:
    return plan_start(folder, requested, {}, ports=None, external=None, servers_only=True)
