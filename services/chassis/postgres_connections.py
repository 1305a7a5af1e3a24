"""Open connections to PostgreSQL: with the present password and certificates, at the host that takes writes.

Of several hosts all are tried at once, and the first that takes writes is used. One after the other, a host that is
gone without an answer would use up the time in which a connection must be open.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import asyncpg
import structlog

from services.chassis.secret_files import files_digest
from services.chassis.server_urls import split_server_url
from services.chassis.settings import PostgresSettings

log = structlog.get_logger()

_TARGET = "target_session_attrs"


class ClientTls:
    """The TLS context of a client, which checks the server's certificate and host name.

    It is made again when its files change, and kept while they do not fit together.
    """

    def __init__(self, *, ca: str, certificate: str = "", key: str = "") -> None:
        """Read nothing yet. Without `ca` the machine's own certificates are used."""
        self._ca, self._certificate, self._key = ca, certificate, key
        self._context: ssl.SSLContext | None = None
        self._digest: bytes | None = None
        self._refused: bytes | None = None

    def digest(self) -> bytes | None:
        """Return a digest of the files' present contents; None while one cannot be read."""
        return files_digest(Path(path) for path in (self._ca, self._certificate, self._key) if path)

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection. Raises OSError when there never was one."""
        digest = self.digest()
        if self._context is None:
            self._context, self._digest = self._make(), digest
        elif digest not in {None, self._digest, self._refused}:
            try:
                self._context, self._digest, self._refused = self._make(), digest, None
            except OSError as error:
                # A certificate and its key are two files: between the two writes they do not fit.
                self._refused = digest
                log.warning("certificate_refused", path=self._certificate or self._ca, reason=type(error).__name__)
        return self._context

    def _make(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._certificate:
            context.load_cert_chain(self._certificate, self._key)
        return context


class PostgresConnector:
    """Opens connections by the settings, whose secrets and files are read again for each."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._tls: ClientTls | None = None
        if settings.database_ca:
            self._tls = ClientTls(
                ca=settings.database_ca, certificate=settings.database_certificate, key=settings.database_key
            )
        self._seen = self._present()

    async def open(self, *_: Any, **options: Any) -> asyncpg.Connection:
        """Return a connection; options are those of `asyncpg.connect`. Raises the driver's errors."""
        url = self._settings.database_url.reveal()
        if password := self._settings.database_password.reveal():
            options["password"] = password
        if self._tls is not None:
            options["ssl"] = self._tls.context()
        urls = host_urls(url)
        if len(urls) > 1 and _TARGET not in parse_qs(split_server_url(url).query):
            options[_TARGET] = "read-write"
        if len(urls) == 1:
            return await asyncpg.connect(url, **options)
        return await first_opened([partial(asyncpg.connect, one, **options) for one in urls])

    def has_changed(self) -> bool:
        """Return whether passwords or certificates are others than at the last call."""
        present = self._present()
        if None in present or present == self._seen:
            # While a file is away, the sessions that have used it go on.
            return False
        self._seen = present
        return True

    def _present(self) -> tuple[str, str, bytes | None]:
        settings = self._settings
        return (
            settings.database_url.reveal(),
            settings.database_password.reveal(),
            b"" if self._tls is None else self._tls.digest(),
        )


def user_of(settings: PostgresSettings) -> str:
    """Return the user who logs in; empty when the URL leaves that to the driver."""
    return unquote(split_server_url(settings.database_url.reveal()).username or "")


def host_urls(url: str) -> list[str]:
    """Return a URL for each host of a URL."""
    parts = split_server_url(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


async def first_opened(openings: Sequence[Callable[[], Awaitable[asyncpg.Connection]]]) -> asyncpg.Connection:
    """Open all at once, return the first connection that succeeds, and close the others.

    When none succeeds, raise the error of a server that has answered, if one has.
    """
    tasks = [asyncio.ensure_future(opening()) for opening in openings]
    chosen: asyncpg.Connection | None = None
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            opened = [task for task in tasks if task in done and task.exception() is None]
            if opened:
                chosen = opened[0].result()
                return chosen
        errors = [error for task in tasks if (error := task.exception()) is not None]
        raise next((error for error in errors if isinstance(error, asyncpg.PostgresError)), errors[0])
    finally:
        for task in waiting:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, BaseException) and result is not chosen:
                result.terminate()
