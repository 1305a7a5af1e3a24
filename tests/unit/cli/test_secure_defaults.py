"""The command uses the key and the authority of the secure system that runs here, and of no other."""

from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli import credentials
from cli.credentials import Credentials, credentials_for
from stack.ports import Ports
from stack.secure_files import SecureFiles, write_secret
from stack.servers import local_addresses
from stack.wiring import Wiring

HERE = "127.0.0.1:8080"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecureFiles:
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path))
    # Another test may have run a command in this process.
    monkeypatch.setattr(credentials, "_chosen", ContextVar[Credentials | None]("credentials", default=None))
    for name in ("TOCSIN_KEY", "TOCSIN_KEY_FILE", "TOCSIN_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    made = SecureFiles(home=tmp_path)
    made.prepare(datetime.now(UTC))
    write_secret(made.admin_key, "tocsin_key")
    Wiring(addresses=local_addresses(Ports()), ports=Ports(), secure=made).write(tmp_path)
    return made


def test_the_system_that_runs_here_is_called_with_its_own_credentials(files: SecureFiles) -> None:
    assert credentials_for(HERE) == Credentials(key="tocsin_key", authorities=files.ca.read_bytes())


def test_no_other_server_gets_them(files: SecureFiles) -> None:
    for other in ("127.0.0.1:8081", "tocsin.example.org:8080"):
        assert credentials_for(other) == Credentials()
    Wiring(addresses=local_addresses(Ports()), ports=replace(Ports(), edge=8080)).write(files.home)
    assert credentials_for(HERE) == Credentials()


def test_what_is_given_counts_before(files: SecureFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_KEY", "tocsin_other")
    assert credentials_for(HERE) == Credentials(key="tocsin_other", authorities=files.ca.read_bytes())


def test_who_cannot_read_them_has_none(files: SecureFiles) -> None:
    files.ca.unlink()
    assert credentials_for(HERE) == Credentials()
