import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from structlog.testing import capture_logs

from services.chassis.postgres_connections import ClientTls, PostgresConnector, first_opened, host_urls
from services.chassis.settings import PostgresSettings, Secret, load_settings
from stack.certificate_requests import CertificateFiles, server_request
from stack.certificates import init_authority, issue

REQUEST = server_request("client")


class FakeConnection:
    """Knows whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def terminate(self) -> None:
        self.is_closed = True


def opening(outcome: FakeConnection | Exception, after: asyncio.Event | None = None) -> Callable[[], Awaitable[Any]]:
    async def open_it() -> FakeConnection:
        if after is not None:
            await after.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return open_it


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("postgresql://h/d", ["postgresql://h/d"]),
        ("postgresql://u:p@h1:1,[::1]:2/d?x=y", ["postgresql://u:p@h1:1/d?x=y", "postgresql://u:p@[::1]:2/d?x=y"]),
    ],
)
def test_a_url_of_several_hosts_is_one_for_each(url: str, urls: list[str]) -> None:
    assert host_urls(url) == urls


async def test_the_first_host_that_takes_writes_is_used_and_others_are_closed() -> None:
    used, other, never = FakeConnection(), FakeConnection(), asyncio.Event()
    openings = [
        opening(ConnectionRefusedError()),
        opening(FakeConnection(), after=never),
        opening(used),
        opening(other),
    ]
    async with asyncio.timeout(5):
        assert cast("object", await first_opened(openings)) is used
    assert (used.is_closed, other.is_closed) == (False, True)


async def test_what_a_server_answered_counts_more_than_a_host_that_is_away() -> None:
    refused, wrong = ConnectionRefusedError(), asyncpg.InvalidPasswordError("no")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await first_opened([opening(refused), opening(wrong)])
    with pytest.raises(ConnectionRefusedError):
        await first_opened([opening(refused), opening(TimeoutError())])


async def test_who_gives_up_leaves_no_connection_open() -> None:
    opened, gate = FakeConnection(), asyncio.Event()

    async def slow() -> Any:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            return opened

    waiting = asyncio.create_task(first_opened([slow, slow]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert opened.is_closed


@pytest.mark.parametrize(
    ("rest", "target"),
    [("h/d", None), ("h1,h2/d", "read-write"), ("h1,h2/d?target_session_attrs=any", None)],
)
async def test_each_connection_has_the_present_password_and_of_several_hosts_takes_writes(
    rest: str, target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any, Any]] = []

    async def connect(url: str, **options: Any) -> FakeConnection:
        asked.append((url, options.get("password"), options.get("target_session_attrs")))
        return FakeConnection()

    monkeypatch.setattr(asyncpg, "connect", connect)
    password = tmp_path / "password"
    password.write_text("one")
    environ = {"X_DATABASE_URL": f"postgresql://u@{rest}", "X_DATABASE_PASSWORD_FILE": str(password)}
    connector = PostgresConnector(load_settings(PostgresSettings, "X_", environ))
    await connector.open(timeout=1)
    assert not connector.has_changed()
    password.write_text("two")
    assert connector.has_changed()
    assert not connector.has_changed()
    await connector.open(timeout=1)
    assert {(secret, attrs) for _, secret, attrs in asked} == {("one", target), ("two", target)}
    assert {url for url, *_ in asked} == set(host_urls(f"postgresql://u@{rest}"))


def test_certificates_count_as_changed_only_while_all_can_be_read(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("one")
    connector = PostgresConnector(PostgresSettings(database_url=Secret("postgresql://h/d"), database_ca=str(ca)))
    ca.unlink()
    assert not connector.has_changed()
    ca.write_text("two")
    assert connector.has_changed()


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    init_authority(tmp_path, now=datetime.now(UTC))
    return issue(tmp_path, REQUEST, now=datetime.now(UTC)).files


def test_the_server_s_name_and_certificate_are_always_checked(files: CertificateFiles) -> None:
    for ca in (str(files.ca), ""):
        context = ClientTls(ca=ca).context()
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_last_context_that_fitted_stays_until_all_files_fit_again(files: CertificateFiles, tmp_path: Path) -> None:
    tls = ClientTls(ca=str(files.ca), certificate=str(files.certificate), key=str(files.key))
    first, digest = tls.context(), tls.digest()
    assert tls.context() is first
    former = files.key.read_text()
    issue(tmp_path, REQUEST, now=datetime.now(UTC))
    issued = files.key.read_text()
    files.key.write_text(former)
    with capture_logs() as logs:
        assert [tls.context() is first, tls.context() is first] == [True, True]
    assert [log["event"] for log in logs] == ["certificate_refused"]
    files.key.unlink()
    assert tls.digest() is None
    assert tls.context() is first
    files.key.write_text(issued)
    second = tls.context()
    assert second is not first
    assert tls.context() is second
    assert tls.digest() not in {None, digest}


def test_without_a_certificate_that_fits_there_is_no_context(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ClientTls(ca=str(tmp_path / "none")).context()
